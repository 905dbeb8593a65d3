"""Where a model's continuations stand in the index it was trained on: the longest match of each.

A continuation that is not the true one may be memorized all the same, from another document.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from memindex.index.index import Index
from memindex.progress import Progress
from memindex.ragged import Ragged, from_arrow
from memindex.study.config import StudyConfig
from memindex.study.origins import open_index
from memindex.tables.store import TableStore

#: Tokens looked up in one batch, about; some 60 bytes each.
_TOKENS = 1 << 22

_COLUMNS = ["run_id", "sequence_id", "continuation"]


class LongestSpans(NamedTuple):
    """The longest match of each row in an index, the first of equally long ones; all int64 of shape (rows,).

    Attributes:
        start: First token of the match in the row; 0 where nothing matches.
        length: Tokens; 0 where no token of the row occurs.
        counts: Occurrences of the match.
        shard: Shard of one occurrence, the first in suffix order; -1 where there is none.
        position: Token position of that occurrence in the shard.
        document: Number of its document in the shard.
        domain: Number of that document's domain; -1 also where the index has none.
    """

    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    shard: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    document: npt.NDArray[np.int64]
    domain: npt.NDArray[np.int64]


def longest_spans(index: Index, rows: Ragged) -> LongestSpans:
    """The longest match of each row of ids in an index, never over the end of a document.

    Args:
        index: The index.
        rows: Ids; a row may be empty, and one that the index can't hold matches nothing.

    Raises:
        CorruptIndexError: A file was damaged or changed since it was opened.
    """
    parts = [_spans(index, rows.slice(*bounds)) for bounds in _batches(rows.offsets)]
    return LongestSpans(*map(np.concatenate, zip(*parts, strict=True)))


def _batches(offsets: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Bounds of rows that together have about as many tokens as a batch; one empty batch where there are none."""
    ends = np.unique(np.searchsorted(offsets, np.arange(0, offsets[-1], _TOKENS))).tolist() or [0]
    bounds = [*ends, len(offsets) - 1]
    return list(pairwise(bounds))


def _spans(index: Index, rows: Ragged) -> LongestSpans:
    start, length, count = _longest(index, rows)
    found = np.flatnonzero(length)
    places = [np.full(rows.rows, -1) for _ in range(4)]
    if len(found):
        ends = np.cumsum(length[found])
        first = rows.offsets[found] + start[found] - (ends - length[found])
        values = rows.values[np.arange(ends[-1]) + np.repeat(first, length[found])]
        for column, values_of in zip(places, _places(index, Ragged(values, np.append(0, ends))), strict=True):
            column[found] = values_of
    return LongestSpans(start, length, count, *places)


def _longest(index: Index, rows: Ragged) -> tuple[npt.NDArray[np.int64], ...]:
    """Start, length and count of each row's longest match."""
    row = np.repeat(np.arange(rows.rows), rows.lengths())
    held = (rows.values >= 0) & (rows.values < (1 << 8 * index.manifest.token_width) - 1)
    # An id that no text holds ends a match as the end of the row does.
    at = np.flatnonzero(held)
    fresh = np.ones(len(at), dtype=bool)
    fresh[1:] = (np.diff(at) > 1) | (np.diff(row[at]) > 0)
    pieces = Ragged(rows.values[at], np.append(np.flatnonzero(fresh), len(at)))
    start, length, count = (np.zeros(rows.rows, dtype=np.int64) for _ in range(3))
    if not len(at):
        return start, length, count
    matches = index.longest_match(pieces)
    # The largest number of a row is its longest match, and of equally long ones the first.
    rank = (matches.lengths.astype(np.int64) << 32) + np.arange(len(at), 0, -1)
    best = np.maximum.reduceat(rank, np.flatnonzero(np.diff(row[at], prepend=-1)))
    best = len(at) - (best[best >> 32 > 0] & 0xFFFFFFFF)
    own = row[at[best]]
    start[own] = at[best] - rows.offsets[own]
    length[own] = matches.lengths[best]
    count[own] = matches.counts[best]
    return start, length, count


def _places(index: Index, spans: Ragged) -> tuple[npt.NDArray[np.int64], ...]:
    """Shard, position, document and domain of one occurrence of each span, all of which occur."""
    found = index.positions(spans, limit=1)
    document, domain = np.zeros(spans.rows, dtype=np.int64), np.full(spans.rows, -1)
    for number, shard in enumerate(index.shards):
        here = np.flatnonzero(found.shard == number)
        document[here] = shard.locate(np.ascontiguousarray(found.position[here])).reshape(-1, 3)[:, 0]
        if index.domains:
            domain[here] = shard.domains_at(np.ascontiguousarray(found.rank[here]))
    return found.shard.astype(np.int64), found.position, document, domain


def missing_spans(config: StudyConfig) -> list[str]:
    """The units of continuations of finished runs whose spans are not looked up."""
    store = TableStore(config.tables)
    finished = set(store.read("runs").column("run_id").to_pylist())
    missing = []
    for unit in store.units("continuations"):
        if not store.has("spans", unit):
            rows = _read(store, unit, ["run_id"])
            if rows is not None and finished.issuperset(rows["run_id"].unique().to_pylist()):
                missing.append(unit)
    return missing


def _read(store: TableStore, unit: str, columns: list[str]) -> pa.Table | None:
    """Columns of a unit of continuations; None where another process removed it, as one that was stale."""
    try:
        return store.read_unit("continuations", unit, columns)
    except FileNotFoundError:
        return None


def ensure_spans(config: StudyConfig, progress: Progress) -> None:
    """Fill the table spans with what it lacks of the finished runs: one file for each of their continuations.

    Left out are continuations in a model's own tokens (retokenized runs), those of sequences that are not counted in
    the index (imported without a lookup: their ids may be of another tokenizer), and those that are not known.

    Raises:
        MemindexError: A file can't be written.
    """
    store = TableStore(config.tables)
    _remove_left_over(store)
    missing = missing_spans(config)
    if not missing:
        return
    index = open_index(config, config.index)
    counted = store.read("frequencies").select(["sequence_id", "index"])
    known = counted.filter(pc.equal(counted["index"], index.name))["sequence_id"].combine_chunks()
    runs = store.read("runs").select(["run_id", "retokenized"])
    other = runs.filter(pc.fill_null(runs["retokenized"], False))["run_id"].combine_chunks()
    for number, unit in enumerate(missing):
        progress("look up continuations", number, len(missing))
        rows = _read(store, unit, _COLUMNS)
        if rows is None:
            continue
        rows = rows.filter(pc.is_valid(rows["continuation"]))
        rows = rows.filter(pc.is_in(rows["sequence_id"], value_set=known))
        rows = rows.filter(pc.invert(pc.is_in(rows["run_id"], value_set=other)))
        store.write("spans", unit, _columns(index, rows))
    progress("look up continuations", len(missing), len(missing))
    _remove_left_over(store)


def _remove_left_over(store: TableStore) -> None:
    """Spans of continuations that are gone: they would stand beside those of the units in their place."""
    there = set(store.units("continuations"))
    for unit in store.units("spans"):
        if unit not in there:
            store.file("spans", unit).unlink(missing_ok=True)


def _columns(index: Index, rows: pa.Table) -> dict[str, Any]:
    """Columns of the table spans."""
    found = longest_spans(index, from_arrow(rows["continuation"]))
    places = {
        name: pa.array(values, mask=found.shard < 0)
        for name, values in (("shard", found.shard), ("position", found.position), ("document", found.document))
    }
    names = pa.array(index.domains, type=pa.string())
    return {
        "run_id": rows["run_id"],
        "sequence_id": rows["sequence_id"],
        "index": pa.array([index.name] * len(rows), type=pa.string()),
        "start": found.start,
        "length": found.length,
        "count": found.counts,
        **places,
        "domain": names.take(pa.array(found.domain, mask=found.domain < 0)),
    }
