"""How often n-grams stand near each other: queries in conjunctive normal form, AND of clauses, each an OR of n-grams.

The meaning is infini-gram's. Clauses are taken from the rarest in the corpus to the most frequent. Every match of the
rarest one, the anchor, starts a range. Each further clause needs a match in the range, or at most `max_distance` tokens
before or after it; the range then grows to the nearest match on either side that is so near. The count is the number of
anchors for which every clause finds one. A place is where an n-gram's first token stands, and all happens inside one
document. N-grams may overlap, and one place counts once, however many n-grams of the rarest clause start there.

Every answer is exact, or says between which bounds it lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from memindex.errors import CorruptIndexError, QueryError
from memindex.index.answers import CnfCount, CnfMatches
from memindex.index.queries import as_batch
from memindex.ragged import Ragged, from_lists

if TYPE_CHECKING:
    from memindex._core import Shard
    from memindex.index.index import Index, Queries

    Clauses: TypeAlias = str | Sequence[Queries]

Positions: TypeAlias = npt.NDArray[np.int64]

#: Matches of one clause held in memory at most; of more frequent ones the text around the anchors is read.
MAX_MATCHES = 10_000_000

#: Anchors worked on at a time, and tokens read at a time: both bound the memory.
CHUNK = 1 << 20
PIECE = 1 << 22

#: Stand for no match: nothing is near them, and no sum with a distance overflows.
NONE_BEFORE, NONE_AFTER = -(1 << 60), 1 << 60

#: Looking at one token near an anchor costs about this part of reading and sorting one match from the table.
TOKEN_COST = 0.15


@dataclass(frozen=True)
class Clause:
    """The n-grams of one OR, and the ranks of their suffixes.

    No n-gram here starts with another one of them, so no place matches two.

    Attributes:
        terms: The n-grams, ids.
        starts: First rank, uint64 of shape (shards, terms).
        ends: One more than the last rank, of the same shape.
    """

    terms: list[list[int]]
    starts: npt.NDArray[np.uint64]
    ends: npt.NDArray[np.uint64]

    def counts(self) -> Positions:
        """Places that match in each shard, int64 of shape (shards,)."""
        counts: Positions = (self.ends - self.starts).sum(axis=1).astype(np.int64)
        return counts

    @property
    def total(self) -> int:
        """Places that match in the corpus."""
        return int(self.counts().sum())


def parse_cnf(text: str) -> list[list[str]]:
    """The clauses of a text with ` AND ` and ` OR `, as infini-gram's interface writes them; OR binds tighter."""
    clauses = [clause.split(" OR ") for clause in text.split(" AND ")]
    if not all(term.strip() for clause in clauses for term in clause):
        raise QueryError(f"{text[:60]!r}: AND and OR need a text on both sides, one space between")
    return clauses


def find_clauses(index: Index, clauses: Clauses) -> list[Clause]:
    """Look up every n-gram of a query; raises QueryError where a clause or an n-gram is empty or no n-gram at all."""
    if isinstance(clauses, Ragged) or not isinstance(clauses, Iterable):
        raise QueryError("give a text with AND and OR, or a list of clauses: each an n-gram or a list of n-grams")
    if hasattr(clauses, "to_pylist"):  # Arrow's rows are scalars, not texts and lists
        clauses = clauses.to_pylist()
    asked = parse_cnf(clauses) if isinstance(clauses, str) else list(clauses)
    if not asked:
        raise QueryError("a CNF query needs at least one clause")
    batches = [as_batch(clause, index.tokenize) for clause in asked]
    if not all(batch.rows and batch.lengths().all() for batch in batches):
        raise QueryError("a clause of a CNF query is empty, or an n-gram in it is: each needs at least one token")
    terms = [_without_extensions(batch) for batch in batches]
    ragged = from_lists([term for clause in terms for term in clause])
    values = ragged.values.astype(np.uint32)
    ranks = np.stack([_ranks(shard, values, ragged.offsets) for shard in index.shards], axis=1)
    starts, ends = ranks
    borders = np.cumsum([len(clause) for clause in terms])[:-1]
    sides = np.split(starts, borders, axis=1), np.split(ends, borders, axis=1)
    return [Clause(*parts) for parts in zip(terms, *sides, strict=True)]


def _ranks(shard: Shard, values: npt.NDArray[np.uint32], offsets: Positions) -> npt.NDArray[np.uint64]:
    """First ranks and ends of the suffixes that start with each n-gram; uint64 of shape (2, terms)."""
    return shard.find(values, offsets).reshape(-1, 2).T


def _without_extensions(batch: Ragged) -> list[list[int]]:
    """Distinct n-grams without those that start with another one: where these match, that one does."""
    kept: list[list[int]] = []
    # In sorted order everything that starts with an n-gram follows it at once.
    for term in sorted(batch.row(i).tolist() for i in range(batch.rows)):
        if not kept or term[: len(kept[-1])] != kept[-1]:
            kept.append(term)
    return kept


def by_rarity(clauses: Sequence[Clause]) -> list[int]:
    """Places of the clauses from the rarest to the most frequent; of equal ones the first named comes first."""
    return sorted(range(len(clauses)), key=lambda i: clauses[i].total)


def count_cnf(index: Index, clauses: Sequence[Clause], max_distance: int, max_matches: int) -> CnfCount:
    """Count co-occurrences; see `Index.count_cnf`."""
    order = by_rarity(clauses)
    total = clauses[order[0]].total
    if len(clauses) == 1 or total == 0:
        return CnfCount(total, total, order[0])
    found = unread = 0
    for part in _search_shards(index, clauses, order, max_distance, max_matches):
        found += len(part.positions)
        unread += part.unread
    return CnfCount(found, found + unread, order[0])


def find_cnf(
    index: Index, clauses: Sequence[Clause], max_distance: int, max_matches: int, limit: int | None
) -> CnfMatches:
    """Places of co-occurrences; see `Index.find_cnf`."""
    order = by_rarity(clauses)
    parts = list(_search_shards(index, clauses, order, max_distance, max_matches))
    positions = np.concatenate([part.positions for part in parts])
    shards = np.repeat(np.arange(len(parts), dtype=np.int64), [len(part.positions) for part in parts])
    total = CnfCount(len(positions), len(positions) + sum(part.unread for part in parts), order[0])
    return CnfMatches(shards[:limit], positions[:limit], total)


def check_numbers(**numbers: int) -> None:
    """Raise QueryError where an argument is no whole number from 1 on."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise QueryError(f"{name} must be a whole number from 1 on, not {number!r}")


class _Found(NamedTuple):
    """Co-occurrences of one shard, and how many anchors were not looked at."""

    positions: Positions
    unread: int


def _search_shards(
    index: Index, clauses: Sequence[Clause], order: Sequence[int], max_distance: int, budget: int
) -> Iterator[_Found]:
    anchor, others = clauses[order[0]], [clauses[i] for i in order[1:]]
    for number in range(len(index.shards)):
        matches = int(anchor.counts()[number])
        if not matches or not all(clause.counts()[number] for clause in others):
            yield _Found(np.empty(0, dtype=np.int64), 0)
            continue
        read = min(matches, budget)
        budget -= read
        shard = ShardText(index, number)
        positions = shard.matches(anchor, read)
        yield _Found(_near_all(shard, positions, others, max_distance) if others else positions, matches - read)


def _near_all(shard: ShardText, anchors: Positions, others: Sequence[Clause], max_distance: int) -> Positions:
    """The anchors near which every other clause matches."""
    max_distance = min(max_distance, len(shard.tokens))
    nearby = [_Nearby(shard, clause, len(anchors), max_distance) for clause in others]
    kept = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(anchors), CHUNK):
        chunk = anchors[start : start + CHUNK]
        ranges = _Ranges(chunk, chunk, chunk)
        for clause in nearby:
            before, after = clause.neighbours(ranges)
            reached = (before >= ranges.first - max_distance) | (after <= ranges.last + max_distance)
            ranges, before, after = ranges.only(reached), before[reached], after[reached]
            # Documents are looked up late: most anchors of a rare pair are gone by now.
            lower, upper = shard.documents(ranges.anchors)
            left = (before > lower) & (before >= ranges.first - max_distance)
            right = (after < upper) & (after <= ranges.last + max_distance)
            first, last = np.where(left, before, ranges.first), np.where(right, after, ranges.last)
            ranges = _Ranges(ranges.anchors, first, last).only(left | right)
        kept.append(ranges.anchors)
    return np.concatenate(kept)


class _Ranges(NamedTuple):
    """Anchors, and the first and last match of the range around each; positions."""

    anchors: Positions
    first: Positions
    last: Positions

    def only(self, chosen: npt.NDArray[np.bool_]) -> _Ranges:
        return _Ranges(*(side[chosen] for side in self))


class _Nearby:
    """Matches of one clause around ranges: all of them, or where those are too many, what the text around holds."""

    def __init__(self, shard: ShardText, clause: Clause, anchors: int, max_distance: int) -> None:
        self._shard, self._clause, self._distance = shard, clause, max_distance
        count = int(clause.counts()[shard.number])
        tokens = min(anchors * (2 * max_distance + 1), len(shard.tokens))
        self._all = None
        if count <= MAX_MATCHES and count < tokens * (1 + len(clause.terms)) * TOKEN_COST:
            self._all = shard.matches(clause, count)

    def neighbours(self, ranges: _Ranges) -> tuple[Positions, Positions]:
        """First places of ranges with the nearest match before their ends, last ones with that from their starts on.

        Matches farther away than the distance may be missing.
        """
        matches = self._all
        if matches is None:
            low = np.maximum(ranges.first - self._distance, 0)
            high = np.minimum(ranges.last + self._distance + 1, len(self._shard.tokens))
            matches = self._shard.search(self._clause.terms, low, high)
        padded = np.concatenate([[NONE_BEFORE], matches, [NONE_AFTER]])
        before = padded[np.searchsorted(matches, ranges.last)]
        after = padded[np.searchsorted(matches, ranges.first) + 1]
        return np.minimum(ranges.first, before), np.maximum(ranges.last, after)


class ShardText:
    """The text of one shard: where n-grams match, and where documents begin and end."""

    def __init__(self, index: Index, number: int) -> None:
        self.number = number
        self._shard = index.shards[number]
        self._file = index.file(f"offset.{number}")
        # The shard's own map: one of NumPy's would end the process when the file is truncated while it is read.
        self.tokens = np.frombuffer(memoryview(self._shard), dtype=f"<u{index.manifest.token_width}")
        self._shard.check()
        try:
            size = self._file.stat().st_size
        except FileNotFoundError as error:
            raise CorruptIndexError(f"{error.filename}: missing; it was there when the index was opened") from None
        # The core looks after the files it has open; this one may not be yet.
        facts = index.manifest.files.get(self._file.name)
        if facts and size != facts.bytes:
            raise CorruptIndexError(f"{self._file}: changed since the index was opened")

    def matches(self, clause: Clause, most: int) -> Positions:
        """Positions where a clause matches, ascending; the first `most` in the order of the table."""
        sides = zip(clause.starts[self.number].tolist(), clause.ends[self.number].tolist(), strict=True)
        found = []
        for start, end in sides:
            ranks = np.arange(start, min(end, start + most), dtype=np.uint64)
            found.append(self._shard.positions(ranks))
            most -= len(ranks)
        positions = np.concatenate(found)
        positions.sort()
        return positions

    def documents(self, positions: Positions) -> tuple[Positions, Positions]:
        """Positions of the separators before and after each position; the text's end stands for the last."""
        _, first, upper = self._shard.locate(positions).reshape(-1, 3).T
        borders = np.concatenate([first - 1, upper[upper < len(self.tokens)]])
        between = self.tokens[borders]
        self._shard.check()
        if (between != np.iinfo(self.tokens.dtype).max).any():
            raise CorruptIndexError(f"{self._file}: an offset leads to no separator")
        return first - 1, upper

    def search(self, terms: Sequence[Sequence[int]], low: Positions, high: Positions) -> Positions:
        """Positions in any of the windows `low`..`high` (exclusive) where one of the n-grams starts, ascending."""
        low, high = _merged(low, high)
        ends = np.cumsum(high - low)
        found = [np.empty(0, dtype=np.int64)]
        for start in range(0, int(ends[-1]) if len(ends) else 0, PIECE):
            flat = np.arange(start, min(start + PIECE, int(ends[-1])))
            inside = slice(
                np.searchsorted(ends, flat[0], side="right"), np.searchsorted(ends, flat[-1], side="right") + 1
            )
            window = ends[inside].clip(max=flat[-1] + 1)
            shift = np.repeat((high - ends)[inside], np.diff(window, prepend=start))
            positions = flat + shift
            first = self.tokens[positions]
            matches = np.concatenate([self._match(positions[first == term[0]], term) for term in terms])
            matches.sort()
            found.append(matches)
        self._shard.check()
        return np.concatenate(found)

    def _match(self, positions: Positions, term: Sequence[int]) -> Positions:
        """Those positions of an n-gram's first token where the others follow."""
        positions = positions[positions + len(term) <= len(self.tokens)]
        for place, token in enumerate(term[1:], start=1):
            positions = positions[self.tokens[positions + place] == token]
        return positions


def _merged(low: Positions, high: Positions) -> tuple[Positions, Positions]:
    """The same places in windows that do not overlap, ascending."""
    order = np.argsort(low, kind="stable")
    low, reach = low[order], np.maximum.accumulate(high[order])
    apart = low[1:] > reach[:-1]
    edge = np.ones(min(len(low), 1), dtype=bool)
    return low[np.concatenate([edge, apart])], reach[np.concatenate([apart, edge])]
