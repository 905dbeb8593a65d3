"""Lookups as infini-gram's queries need them: empty n-grams, and n-grams that hold the separator, have answers too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from memindex import _core
from memindex.index.answers import Matches, NextTokens
from memindex.index.index import Index
from memindex.index.lookups import following

#: First rank and end of the ranks in each shard.
Segments = list[tuple[int, int]]


def segments(index: Index, ids: Sequence[int]) -> Segments:
    """Ranks of the suffixes that start with an n-gram; of the empty one, all."""
    if not ids:
        return [(0, len(shard)) for shard in index.shards]
    width = index.manifest.token_width
    if max(ids) == (1 << 8 * width) - 1:
        query = np.array(ids, dtype=f"<u{width}").tobytes()
        return [_search(shard, query, width) for shard in index.shards]
    found = index.find([list(ids)])
    return list(zip(found.starts[0].tolist(), found.ends[0].tolist(), strict=True))


def total(found: Segments) -> int:
    """Occurrences in all shards."""
    return sum(end - start for start, end in found)


def longest_suffix(index: Index, ids: Sequence[int]) -> int:
    """Tokens of the longest suffix that occurs; shorter suffixes of it do too, so doubling and halving finds it."""
    low, high = 0, 1
    while high <= len(ids) and total(segments(index, ids[len(ids) - high :])):
        low, high = high, 2 * high
    high = min(high, len(ids) + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if total(segments(index, ids[len(ids) - middle :])):
            low = middle
        else:
            high = middle
    return low


def next_tokens(index: Index, ids: Sequence[int]) -> NextTokens:
    """What follows an n-gram."""
    found = np.array(segments(index, ids), dtype=np.uint64).reshape(1, -1, 2)
    matches = Matches(np.ascontiguousarray(found[:, :, 0]), np.ascontiguousarray(found[:, :, 1]))
    return following(index.shards, matches, np.array([len(ids)], dtype=np.int64), 0)


def _search(shard: _core.Shard, query: bytes, width: int) -> tuple[int, int]:
    """Binary search for what the core has no lookups for; suffixes are in the order of their bytes."""
    text = memoryview(shard)

    def head(rank: int) -> bytes:
        (position,) = shard.positions(np.array([rank], dtype=np.uint64)).tolist()
        return bytes(text[position * width : position * width + len(query)])

    start = _first(len(shard), lambda rank: head(rank) >= query)
    end = _first(len(shard), lambda rank: head(rank) > query)
    shard.check()
    return start, end


def _first(ranks: int, holds: Callable[[int], bool]) -> int:
    """The first rank from which on something holds."""
    low, high = 0, ranks
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
