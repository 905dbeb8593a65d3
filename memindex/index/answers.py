"""What lookups return: arrays with one entry per query, match or token; see the methods of `Index`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Matches(NamedTuple):
    """Where the occurrences of each query stand in the suffix arrays.

    Attributes:
        starts: First rank in each shard, uint64 of shape (queries, shards).
        ends: End of the ranks, of the same shape.
    """

    starts: npt.NDArray[np.uint64]
    ends: npt.NDArray[np.uint64]

    @property
    def counts(self) -> npt.NDArray[np.uint64]:
        """Occurrences in each shard, uint64 of shape (queries, shards)."""
        return self.ends - self.starts


class Occurrences(NamedTuple):
    """Single occurrences of queries, those of a query one after the other.

    Attributes:
        query: The query's number in the batch, int64 of shape (occurrences,).
        shard: int32 of the same shape.
        rank: Rank of the suffix that starts with the query, uint64.
        position: Token position in the shard, separators counted, int64.
    """

    query: npt.NDArray[np.int64]
    shard: npt.NDArray[np.int32]
    rank: npt.NDArray[np.uint64]
    position: npt.NDArray[np.int64]


class LongestMatches(NamedTuple):
    """The longest match that starts at each token of each query (matching statistics).

    Attributes:
        offsets: The tokens of query i are at offsets[i]..offsets[i + 1], int64 of shape (queries + 1,).
        lengths: Tokens of the longest match, uint32 of shape (tokens,); 0 where the token itself never occurs.
        counts: Its occurrences in the corpus, uint64 of shape (tokens,).
    """

    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.uint64]


class Spans(NamedTuple):
    """Maximal verbatim spans: no longer one that holds them occurs in the corpus.

    Attributes:
        query: The query's number in the batch, int64 of shape (spans,).
        start: First token of the span in the query, int64.
        length: Tokens, int64.
        counts: Occurrences in the corpus, uint64.
    """

    query: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    counts: npt.NDArray[np.uint64]


class NextTokens(NamedTuple):
    """Every token that follows each query, most frequent first.

    Attributes:
        offsets: The tokens after query i are at offsets[i]..offsets[i + 1], int64 of shape (queries + 1,).
        ids: uint32 of shape (entries,).
        counts: Occurrences of the query with that token after it, uint64 of shape (entries,).
        ends: Occurrences that end their document, uint64 of shape (queries,); with them the counts sum to the query's.
        domains: Counts by domain, uint64 of shape (entries, domains); None when they were not asked for.
    """

    offsets: npt.NDArray[np.int64]
    ids: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.uint64]
    ends: npt.NDArray[np.uint64]
    domains: npt.NDArray[np.uint64] | None


class DocumentCounts(NamedTuple):
    """In how many documents each query stands: exact where both are equal, else bounds.

    Attributes:
        low: At least so many, uint64 of shape (queries,).
        high: At most so many.
    """

    low: npt.NDArray[np.uint64]
    high: npt.NDArray[np.uint64]
