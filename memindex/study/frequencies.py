"""How often sequences and their parts stand in the index that the models were trained on.

Counts of whole sequences, prefixes and suffixes are the table `frequencies`; they come with the sequences. Statistics
of n-gram counts and counts by domain are tables of their own, filled part by part for everything that `frequencies`
holds, imported sequences too: a study that was made before they existed gets them from its next run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memindex.errors import MemindexError
from memindex.index.domain_counts import domain_counts
from memindex.index.index import Index
from memindex.progress import Progress
from memindex.ragged import Ragged, concatenated, from_arrow, from_matrix
from memindex.study.config import StudyConfig
from memindex.study.origins import open_index
from memindex.tables.store import TableStore

#: Sequences per file of statistics: what a killed run loses at most.
PART = 1 << 17

#: Whole sequences of one batch.
_ROWS = 1 << 18

#: n-grams of one batch at most, and ids that they are written out into: some 100 and 4 bytes each.
_NGRAMS, _IDS = 1 << 23, 1 << 26

#: Ids below this are counted in a table of all of them.
_SMALL_ID = 1 << 22

#: A unit's name up to this length, in characters of a file's name, stands in the names of its parts.
_LONGEST = 160

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class NgramStatistics(NamedTuple):
    """The counts of each sequence's n-grams, every place counted; all of shape (rows,).

    Attributes:
        ngrams: n-grams of the sequence, int64; 0 where it is shorter than n: then the other numbers mean nothing.
        min_count: Occurrences of its rarest one in the index, int64.
        q25_count: The first quartile of the counts (linear between two of them), float64.
        median_count: The median, float64.
        q75_count: The third quartile, float64.
        max_count: Occurrences of the most frequent one, int64.
        mean_count: The mean, float64.
        mean_log_frequency: Mean of the natural logarithm of count / tokens of the index, float64; -inf where an n-gram
            never occurs.
    """

    ngrams: Integers
    min_count: Integers
    q25_count: Floats
    median_count: Floats
    q75_count: Floats
    max_count: Integers
    mean_count: Floats
    mean_log_frequency: Floats


#: Types of those columns.
_TYPES = (np.int64, np.int64, np.float64, np.float64, np.float64, np.int64, np.float64, np.float64)


def count_sequences(index: Index, sequences: pa.Table) -> dict[str, Any]:
    """Counts of sequences in the index the models were trained on: columns of the table `frequencies`.

    Args:
        index: The index.
        sequences: A table with the columns sequence_id, prefix and suffix of the schema `sequences`.
    """
    prefix, suffix = (from_arrow(sequences.column(name)) for name in ("prefix", "suffix"))
    counts = np.empty((len(sequences), 3), dtype=np.int64)
    for start in range(0, len(sequences), _ROWS):
        parts = [rows.slice(start, start + _ROWS) for rows in (prefix, suffix)]
        counts[start : start + _ROWS, :2] = _with_prefixes(index, *parts)
        counts[start : start + _ROWS, 2] = index.count(parts[1])
    return {
        "sequence_id": sequences.column("sequence_id"),
        "index": pa.array([index.name] * len(sequences)),
        **dict(zip(("prefix_count", "sequence_count", "suffix_count"), counts.T, strict=True)),
    }


def _with_prefixes(index: Index, prefix: Ragged, suffix: Ragged) -> npt.NDArray[np.uint64]:
    """Counts of prefixes and of whole sequences, uint64 of shape (rows, 2); those of one length are asked at once."""
    lengths = prefix.lengths()
    whole = concatenated(prefix, suffix)
    counts = np.empty((prefix.rows, 2), dtype=np.uint64)
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        counts[rows] = index.count_with_prefix(whole if len(rows) == whole.rows else whole.take(rows), length)
    return counts


def ngram_statistics(index: Index, sequences: Ragged, n: int) -> NgramStatistics:
    """What the counts of each sequence's n-grams in an index are like.

    Memory is bounded by the sequences themselves and about a gigabyte.

    Args:
        index: The index.
        sequences: Ids of the sequences; they may differ in length.
        n: Tokens of an n-gram.

    Raises:
        MemindexError: n is below 1.
        QueryError: An id that the index can't hold.
    """
    if n < 1:
        raise MemindexError(f"an n-gram has at least 1 token, not {n}")
    found: list[npt.NDArray[Any]] = [np.zeros(sequences.rows, dtype=dtype) for dtype in _TYPES]
    lengths = sequences.lengths()
    for length in np.unique(lengths[lengths >= n]).tolist():
        rows = np.flatnonzero(lengths == length)
        ngrams = length - n + 1
        most = max(1, min(_NGRAMS // ngrams, _IDS // (ngrams * n)))
        for part in np.split(rows, range(most, len(rows), most)):
            ids = sequences.values[sequences.offsets[part][:, None] + np.arange(length)]
            for column, values in zip(found, _statistics(_counts(index, ids, n), index.manifest.tokens), strict=True):
                column[part] = values
    return NgramStatistics(*found)


def _counts(index: Index, ids: npt.NDArray[Any], n: int) -> npt.NDArray[np.uint64]:
    """Counts of all n-grams of sequences of one length, uint64 of shape (rows, length - n + 1)."""
    if n == 1 and 0 <= ids.min() <= ids.max() < _SMALL_ID:
        # A vocabulary is small beside a batch: each token is looked up once.
        distinct = np.flatnonzero(np.bincount(ids.reshape(-1)))
        of_id = np.zeros(int(distinct[-1]) + 1, dtype=np.uint64)
        of_id[distinct] = index.count(distinct[:, None])
        tokens: npt.NDArray[np.uint64] = of_id[ids]
        return tokens
    windows = np.lib.stride_tricks.sliding_window_view(ids, n, axis=1)
    # Equal ones are looked up once: the batch is sorted for its lookups anyway.
    return index.count(from_matrix(windows.reshape(-1, n))).reshape(len(ids), -1)


def _statistics(counts: npt.NDArray[np.uint64], tokens: int) -> Iterator[npt.NDArray[Any]]:
    """The columns of NgramStatistics."""
    counts = np.sort(counts, axis=1)
    ngrams = counts.shape[1]
    with np.errstate(divide="ignore"):
        logs = np.log(counts / max(tokens, 1))
    yield np.full(len(counts), ngrams)
    yield counts[:, 0]
    for share in (0.25, 0.5, 0.75):
        below, rest = divmod(share * (ngrams - 1), 1)
        low = counts[:, int(below)].astype(np.float64)
        yield low + rest * (counts[:, min(int(below) + 1, ngrams - 1)] - low)
    yield counts[:, -1]
    yield counts.mean(axis=1)
    yield logs.mean(axis=1)


@dataclass(frozen=True)
class _Part:
    """Some of a unit's sequences, and what is asked of them: statistics of n-grams, or (n: None) counts by domain."""

    unit: str
    start: int
    n: int | None

    @property
    def table(self) -> str:
        return "domain_counts" if self.n is None else "ngram_statistics"

    @property
    def name(self) -> str:
        unit = self.unit
        if len(quote(unit)) > _LONGEST:
            unit = hashlib.sha256(unit.encode()).hexdigest()[:32]
        return f"{unit} {'' if self.n is None else f'{self.n}-grams '}{self.start:09d}"


def missing_statistics(config: StudyConfig) -> list[_Part]:
    """What the tables ngram_statistics and domain_counts lack of the sequences that are counted, unit by unit."""
    store = TableStore(config.tables)
    missing = []
    for unit in store.units("frequencies"):
        counted = pq.ParquetFile(store.file("frequencies", unit))
        if not store.has("sequences", unit) or _index_of(counted) != config.index.name:
            continue
        for start in range(0, counted.metadata.num_rows, PART):
            parts = [_Part(unit, start, n) for n in (None, *config.frequencies.ngrams)]
            missing += [part for part in parts if not store.has(part.table, part.name)]
    return missing


def _index_of(file: pq.ParquetFile) -> str | None:
    first = next(file.iter_batches(1, columns=["index"]), None)
    return None if first is None else str(first.column(0)[0].as_py())


def ensure_statistics(config: StudyConfig, progress: Progress) -> None:
    """Fill the tables ngram_statistics and domain_counts with what they lack; a part that is there is kept.

    Raises:
        MemindexError: A part can't be written.
    """
    missing = missing_statistics(config)
    if not missing:
        return
    store, index = TableStore(config.tables), open_index(config, config.index)
    unit, sequences = None, pa.table({})
    for number, part in enumerate(missing):
        progress("count n-grams", number, len(missing))
        if part.unit != unit:
            unit, sequences = part.unit, _tokens(store, part.unit)
        store.write(part.table, part.name, _columns(index, sequences.slice(part.start, PART), part.n))
    progress("count n-grams", len(missing), len(missing))


def _tokens(store: TableStore, unit: str) -> pa.Table:
    """Id and tokens of a unit's sequences."""
    return store.read_unit("sequences", unit, ["sequence_id", "prefix", "suffix"]).combine_chunks()


def _columns(index: Index, sequences: pa.Table, n: int | None) -> dict[str, Any]:
    """Rows of the table domain_counts, or of ngram_statistics for this n."""
    # What was imported without tokens has nothing to look up.
    sequences = sequences.filter(pc.and_(pc.is_valid(sequences["prefix"]), pc.is_valid(sequences["suffix"])))
    tokens = concatenated(from_arrow(sequences["prefix"]), from_arrow(sequences["suffix"]))
    ids = sequences["sequence_id"].to_numpy()
    if n is None:
        found = domain_counts(index, tokens)
        names = pa.array(index.domains, type=pa.string())
        columns = {"domain": names.take(pa.array(found.domain)), "count": found.counts}
        rows = found.row
    else:
        statistics = ngram_statistics(index, tokens, n)
        rows = np.flatnonzero(statistics.ngrams)
        columns = {"n": np.full(len(rows), n, dtype=np.int32)}
        columns |= {name: values[rows] for name, values in statistics._asdict().items()}
    return {"sequence_id": ids[rows], "index": pa.array([index.name] * len(rows), type=pa.string()), **columns}
