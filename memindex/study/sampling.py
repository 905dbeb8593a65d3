"""Sampling sequences (prefix + suffix) from an index.

Five samples, told apart by the column `sample`:
uniform: windows drawn uniformly from all windows of the corpus; rates over it are rates of the corpus;
bucket: the same number of distinct windows for each frequency bucket (floor(log2 of the count of the whole window)),
    each at one random occurrence; without it nearly every window would occur once;
domain: the same number of distinct windows for each frequency bucket and domain, where the corpus has as many; a window
    is of the domain of its one random occurrence;
heldout: windows drawn uniformly from an index of documents that no model saw. Those whose suffix the
    training index counts zero times are the unseen control: held-out documents share boilerplate with the corpus;
planted: the texts of `memindex plant`, whose counts were set (`planted_sequences`).
No window crosses a document's end. In a study of planted texts, uniform, bucket and domain are samples of the natural
windows: those that stand in no planted document. How often the others stand in the corpus was set and not only seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memindex import _core
from memindex.errors import MemindexError
from memindex.index.index import Index
from memindex.index.manifest import DOCUMENTS_FILE
from memindex.study.config import SequenceConfig
from memindex.study.natural import are_among, bucket_contents, cut
from memindex.study.windows import Windows, documents_of, domains_of, window_ids, window_table
from memindex.tables.conforming import completed
from memindex.tables.schema import SEQUENCES

#: Second words of the generators' seeds: equal seeds here and in training must not draw equal positions.
UNIFORM, HELDOUT, CUT = 0x756E6966, 0x68656C64, 0x637574

#: Proposals that are drawn in vain before a corpus counts as having no window.
MOST_ROUNDS = 200

#: Windows that are read at once.
_ROWS = 1 << 16

#: The sample of each frequency in each domain, and what keeps its draws apart from others.
DOMAIN, _OF_DOMAINS = "domain", 0x646F6D61

#: Windows of each bucket that are drawn for one that is wanted of each domain, and the most in all.
_SPARE, _MOST_DRAWN = 16, 1 << 18


#: Frequency buckets at most: counts are below 2^64.
_BUCKETS = 64


class BucketTotal(NamedTuple):
    """What the corpus holds in one frequency bucket: distinct windows, and windows in all."""

    bucket: int
    distinct: int
    windows: int


def sample_sequences(
    index: Index,
    config: SequenceConfig,
    heldout: Index | None = None,
    planted: pa.Table | None = None,
    unnatural: npt.NDArray[np.int32] | None = None,
) -> tuple[pa.Table, list[BucketTotal]]:
    """Sample the sequences of a study: a table of the schema `sequences`, and what each frequency bucket holds.

    The totals are of natural windows alone, and empty when no bucket sample was asked for.

    Args:
        index: The index that the models were trained on.
        config: How many sequences, and how long.
        heldout: The index of documents that no model saw.
        planted: The planted sequences, as `planted_sequences` gives them.
        unnatural: The windows of planted documents, as `planted_windows` gives them: int32 of shape (windows, prefix +
            suffix), each once. They are left out of the samples uniform, bucket and domain, wherever they stand.

    Raises:
        MemindexError: No document is as long as prefix + suffix, or the two indexes have different tokenizers.
    """
    length = config.prefix + config.suffix
    but = np.empty((0, length), dtype=np.int32) if unnatural is None else unnatural
    parts = []
    totals: list[BucketTotal] = []
    if config.uniform:
        windows = _uniform(index, length, config.uniform, [config.seed, UNIFORM], but)
        natural = _windows_in(index, length) - sum(count for _, count in bucket_contents(index, but).values())
        parts.append(window_table(index, "uniform", windows, config, _share(windows, natural)))
    if config.per_bucket:
        windows, totals = _per_bucket(index, length, config.per_bucket, config.seed, but)
        parts.append(window_table(index, "bucket", windows, config, _share_of_buckets(windows, totals)))
    if config.per_domain:
        windows, inclusion = _per_domain(index, length, config, but)
        parts.append(window_table(index, DOMAIN, windows, config, inclusion))
    if heldout is not None and config.heldout:
        _same_tokenizer(index, heldout)
        windows = _uniform(heldout, length, config.heldout, [config.seed, HELDOUT], but[:0])
        parts.append(window_table(heldout, "heldout", windows, config, _share(windows, _windows_in(heldout, length))))
    if planted is not None:
        parts.append(planted)
    if not parts:
        raise MemindexError(
            "[sequences] asks for none: set uniform, per_bucket, per_domain or heldout above 0, or name a folder of "
            "planted texts"
        )
    table = pa.concat_tables(parts)
    numbered = table.append_column("sequence_id", pa.array(np.arange(len(table))))
    return completed(SEQUENCES, numbered).cast(SEQUENCES.schema()), totals


def bucket_totals(
    index: Index, config: SequenceConfig, totals: Sequence[BucketTotal], sequences: pa.Table
) -> dict[str, Any]:
    """Columns of the table `buckets`: what the corpus holds at each frequency, and how much of it was sampled."""
    sampled = Counter(sequences.filter(pc.equal(sequences["sample"], "bucket")).column("bucket").to_pylist())
    return {
        "index": pa.array([index.name] * len(totals), type=pa.string()),
        "length": pa.array([config.prefix + config.suffix] * len(totals), type=pa.int32()),
        "bucket": pa.array([total.bucket for total in totals], type=pa.int32()),
        "distinct": pa.array([total.distinct for total in totals], type=pa.int64()),
        "sequences": pa.array([total.windows for total in totals], type=pa.int64()),
        "sampled": pa.array([sampled[total.bucket] for total in totals], type=pa.int64()),
    }


def token_matrix(sequences: pa.Table, column: str) -> npt.NDArray[np.int32]:
    """A token column whose rows are equally long, int32 of shape (rows, length)."""
    values = sequences.column(column).combine_chunks()
    matrix: npt.NDArray[np.int32] = values.flatten().to_numpy().reshape(len(values), -1)
    return matrix


def _same_tokenizer(index: Index, heldout: Index) -> None:
    for which in (index, heldout):
        if not which.manifest.tokenizer:
            raise MemindexError(f"the tokenizer of {which.path} is not known: memindex index open … --tokenizer NAME")
    if index.manifest.tokenizer_checksum != heldout.manifest.tokenizer_checksum:
        raise MemindexError(
            f"{heldout.path} was built with another tokenizer than {index.path}: build it with the same one"
        )


def _uniform(index: Index, length: int, windows: int, seed: list[int], but: npt.NDArray[np.int32]) -> Windows:
    """Positions drawn uniformly, without replacement, from all windows but some; fewer when the corpus has fewer."""
    random = np.random.default_rng(seed)
    tokens = [index.tokens_of_shard(s) for s in range(index.manifest.shards)]
    sizes = np.array([max(len(t) - length + 1, 0) for t in tokens])
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    separator = (1 << (8 * index.manifest.token_width)) - 1
    found = np.empty(0, dtype=np.int64)
    for _ in range(MOST_ROUNDS):
        if len(found) >= min(windows, bounds[-1]) or bounds[-1] == 0:
            break
        drawn = np.unique(random.integers(0, bounds[-1], size=2 * windows))
        shard = np.searchsorted(bounds, drawn, side="right") - 1
        valid = np.zeros(len(drawn), dtype=bool)
        for s, ids in enumerate(tokens):
            mine = np.flatnonzero(shard == s)
            if len(mine):
                window = ids[(drawn[mine] - bounds[s])[:, None] + np.arange(length)]
                valid[mine] = (window != separator).all(axis=1) & ~are_among(window, but)
        fresh = np.setdiff1d(drawn[valid], found)
        random.shuffle(fresh)
        found = np.concatenate([found, fresh])[:windows]
    if not len(found):
        other = " other than planted ones" if len(but) else ""
        raise MemindexError(
            f"{index.path} has no document of {length} tokens{other}: choose a shorter prefix or suffix"
        )
    shard = np.searchsorted(bounds, found, side="right") - 1
    return Windows(shard.astype(np.int32), found - bounds[shard], np.full(len(found), -1, dtype=np.int32))


def _per_bucket(
    index: Index, length: int, per_bucket: int, seed: int, but: npt.NDArray[np.int32]
) -> tuple[Windows, list[BucketTotal]]:
    """Distinct windows of each bucket but some, drawn uniformly, and what each bucket holds without those."""
    without = bucket_contents(index, but)
    # So many more are drawn that enough are left of every bucket, whichever of them go.
    more = max((distinct for distinct, _ in without.values()), default=0)
    (bucket, _, shard, position), found = _core.sample_windows(index.shards, length, per_bucket + more, seed)
    windows = Windows(shard, position, bucket)
    if more:
        windows = windows.take(np.flatnonzero(~_stand_among(index, windows, but)))
        # The core's rows are in the order of the corpus where it drew all: the first ones are no random ones.
        windows = windows.take(cut(windows.bucket, per_bucket, [seed, CUT]))
    totals = []
    for number, distinct, occurrences in found:
        lost = without.get(number, (0, 0))
        if distinct > lost[0]:
            totals.append(BucketTotal(number, distinct - lost[0], occurrences - lost[1]))
    return windows, totals


def _windows_in(index: Index, length: int) -> int:
    """All windows of an index: those that cross no document's end."""
    tokens = pq.read_table(index.file(DOCUMENTS_FILE), columns=["tokens"]).column("tokens").to_numpy()
    return int(np.maximum(tokens - length + 1, 0).sum())


def _share(windows: Windows, of: int) -> npt.NDArray[np.float64]:
    """The probability of each window in a uniform sample, float64 (windows,)."""
    return np.full(len(windows.position), min(len(windows.position) / max(of, 1), 1.0))


def _share_of_buckets(windows: Windows, totals: Sequence[BucketTotal]) -> npt.NDArray[np.float64]:
    """The probability of each distinct window in a sample of each bucket, float64 (windows,)."""
    sampled = np.bincount(windows.bucket, minlength=_BUCKETS)
    distinct = np.ones(_BUCKETS)
    for total in totals:
        distinct[total.bucket] = total.distinct
    return (sampled / distinct)[windows.bucket]


def _per_domain(
    index: Index, length: int, config: SequenceConfig, but: npt.NDArray[np.int32]
) -> tuple[Windows, npt.NDArray[np.float64]]:
    """Distinct windows of each bucket and domain but some, drawn uniformly from many of each bucket.

    Also the probability of each: of being among the many, times of being drawn from those of its bucket and domain.
    """
    domains = max(1, len(index.manifest.domain_names()))
    many = min(config.per_domain * domains * _SPARE, max(_MOST_DRAWN, config.per_domain))
    # Other ones than those of the sample `bucket`.
    windows, totals = _per_bucket(index, length, many, config.seed ^ _OF_DOMAINS, but)
    names = domains_of(index, windows.shard, documents_of(index, windows)[0])
    domain = names.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    kind = windows.bucket.astype(np.int64) * domains + domain
    rows = cut(kind, config.per_domain, [config.seed, _OF_DOMAINS])
    kinds = int(kind.max(initial=0)) + 1
    drawn = np.bincount(kind[rows], minlength=kinds) / np.maximum(np.bincount(kind, minlength=kinds), 1)
    return windows.take(rows), (_share_of_buckets(windows, totals) * drawn[kind])[rows]


def _stand_among(index: Index, windows: Windows, others: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Whether each window is one of others."""
    found = np.empty(len(windows.position), dtype=bool)
    for start in range(0, len(found), _ROWS):
        rows = slice(start, start + _ROWS)
        found[rows] = are_among(window_ids(index, windows.shard[rows], windows.position[rows], others.shape[1]), others)
    return found
