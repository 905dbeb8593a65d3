"""Sampling sequences (prefix + suffix) from an index.

Four samples, told apart by the column `sample`:
uniform: windows drawn uniformly from all windows of the corpus; rates over it are rates of the corpus;
bucket: the same number of distinct windows for each frequency bucket (floor(log2 of the count of the whole window)),
    each at one random occurrence; without it nearly every window would occur once;
heldout: windows drawn uniformly from an index of documents that no model saw. Those whose suffix the
    training index counts zero times are the unseen control: held-out documents share boilerplate with the corpus;
planted: the texts of `memindex plant`, whose counts were set (`planted_sequences`).
No window crosses a document's end. In a study of planted texts, uniform and bucket are samples of the natural windows:
those that stand in no planted document. How often the others stand in the corpus was set and not only seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from memindex import _core
from memindex.errors import MemindexError
from memindex.index.document_table import document_rows
from memindex.index.index import Index
from memindex.index.manifest import DOCUMENTS_FILE
from memindex.study.config import SequenceConfig
from memindex.study.natural import are_among, bucket_contents, cut
from memindex.tables.conforming import completed
from memindex.tables.schema import SEQUENCES

#: Second words of the generators' seeds: equal seeds here and in training must not draw equal positions.
UNIFORM, HELDOUT, CUT = 0x756E6966, 0x68656C64, 0x637574

#: Proposals that are drawn in vain before a corpus counts as having no window.
MOST_ROUNDS = 200

#: Windows that are read at once.
_ROWS = 1 << 16


class Windows(NamedTuple):
    """Windows of an index: shard and token position (int), bucket (int, -1 for none); all of shape (windows,)."""

    shard: npt.NDArray[np.int32]
    position: npt.NDArray[np.int64]
    bucket: npt.NDArray[np.int32]

    def take(self, rows: npt.NDArray[np.intp]) -> Windows:
        """The windows of these numbers."""
        return Windows(self.shard[rows], self.position[rows], self.bucket[rows])


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
            suffix), each once. They are left out of the samples uniform and bucket, wherever they stand.

    Raises:
        MemindexError: No document is as long as prefix + suffix, or the two indexes have different tokenizers.
    """
    length = config.prefix + config.suffix
    but = np.empty((0, length), dtype=np.int32) if unnatural is None else unnatural
    parts = []
    totals: list[BucketTotal] = []
    if config.uniform:
        windows = _uniform(index, length, config.uniform, [config.seed, UNIFORM], but)
        parts.append(window_table(index, "uniform", windows, config))
    if config.per_bucket:
        windows, totals = _per_bucket(index, length, config.per_bucket, config.seed, but)
        parts.append(window_table(index, "bucket", windows, config))
    if heldout is not None and config.heldout:
        _same_tokenizer(index, heldout)
        windows = _uniform(heldout, length, config.heldout, [config.seed, HELDOUT], but[:0])
        parts.append(window_table(heldout, "heldout", windows, config))
    if planted is not None:
        parts.append(planted)
    if not parts:
        raise MemindexError(
            "[sequences] asks for none: set uniform, per_bucket or heldout above 0, or name a folder of planted texts"
        )
    table = pa.concat_tables(parts)
    numbered = table.append_column("sequence_id", pa.array(np.arange(len(table))))
    return completed(SEQUENCES, numbered).cast(SEQUENCES.schema()), totals


def bucket_totals(
    index: Index, config: SequenceConfig, totals: Sequence[BucketTotal], sequences: pa.Table
) -> dict[str, Any]:
    """Columns of the table `buckets`: what the corpus holds at each frequency, and how much of it was sampled."""
    sampled = Counter(sequences.column("bucket").to_pylist())
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


def _stand_among(index: Index, windows: Windows, others: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Whether each window is one of others."""
    found = np.empty(len(windows.position), dtype=bool)
    for start in range(0, len(found), _ROWS):
        rows = slice(start, start + _ROWS)
        found[rows] = are_among(_ids(index, windows.shard[rows], windows.position[rows], others.shape[1]), others)
    return found


def _ids(
    index: Index, shard: npt.NDArray[np.int32], position: npt.NDArray[np.int64], length: int
) -> npt.NDArray[np.int32]:
    """The ids of windows, int32 (windows, length)."""
    ids = np.empty((len(position), length), dtype=np.int32)
    for number in range(index.manifest.shards):
        mine = np.flatnonzero(shard == number)
        ids[mine] = index.tokens_of_shard(number)[position[mine][:, None] + np.arange(length)]
    return ids


def window_table(index: Index, sample: str, windows: Windows, config: SequenceConfig) -> pa.Table:
    """Columns of the schema `sequences`, but for their numbers, of windows of an index."""
    length = config.prefix + config.suffix
    ids = _ids(index, windows.shard, windows.position, length)
    document = np.empty(len(windows.position), dtype=np.int64)
    offset = np.empty(len(windows.position), dtype=np.int64)
    for shard in range(index.manifest.shards):
        mine = np.flatnonzero(windows.shard == shard)
        position = windows.position[mine]
        starts = index.document_starts(shard)
        document[mine] = np.searchsorted(starts, position, side="right") - 1
        offset[mine] = position - starts[document[mine]] - 1
    bucket = pa.array(windows.bucket, mask=windows.bucket < 0)
    columns = {
        "sample": pa.array([sample] * len(ids)),
        "bucket": bucket,
        "index": pa.array([index.name] * len(ids)),
        "shard": pa.array(windows.shard),
        "position": pa.array(windows.position),
        "document": pa.array(document),
        "document_offset": pa.array(offset),
        "domain": _domains(index, windows.shard, document),
        "prefix": token_lists(ids[:, : config.prefix]),
        "suffix": token_lists(ids[:, config.prefix :]),
    }
    return pa.table(columns)


def _domains(index: Index, shard: npt.NDArray[np.int32], document: npt.NDArray[np.int64]) -> pa.Array:
    """Domain of each document."""
    if DOCUMENTS_FILE not in index.manifest.files:
        raise MemindexError(f"{index.path} has no document table: write it with: memindex index open {index.path}")
    table = pq.read_table(index.file(DOCUMENTS_FILE), columns=["shard", "domain"])
    rows = document_rows(table.column("shard").to_numpy(), shard, document)
    return table.column("domain").take(pa.array(rows)).combine_chunks()


def token_lists(ids: npt.NDArray[np.int32]) -> pa.Array:
    """Rows of a matrix as a column of token lists."""
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * ids.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(ids).reshape(-1)))
