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


class CnfCount(NamedTuple):
    """The answer to a CNF query.

    Attributes:
        low: Co-occurrences found; the count is at least this.
        high: The count is at most this; equal to `low` when the count is exact.
        anchor: Which clause's matches are counted: the place of the rarest one in the query.
        engine: Who computed it: `memindex` or `infini-gram`.
    """

    low: int
    high: int
    anchor: int
    engine: str = "memindex"

    @property
    def exact(self) -> bool:
        """Whether the count is known exactly; it is `low` then."""
        return self.low == self.high


class CnfMatches(NamedTuple):
    """Where a CNF query is fulfilled.

    Attributes:
        shards: Shard of each co-occurrence, int64 of shape (found,).
        positions: Token position in that shard of its anchor's first token, int64 of shape (found,); ascending by
            shard and position.
        total: How many there are, the ones beyond the limit included.
    """

    shards: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    total: CnfCount


class Probabilities(NamedTuple):
    """Probabilities of a token after each prompt of a batch; every array has shape (prompts,).

    Attributes:
        prompt_counts: Occurrences of the context used, uint64; of the empty one: all tokens, and one end per document.
        token_counts: Those that the token follows, uint64.
        suffix_lengths: Tokens of the context used, int64: the last ones of the prompt.
        probabilities: `token_counts` by `prompt_counts`, float64; NaN where the context never occurs.
    """

    prompt_counts: npt.NDArray[np.uint64]
    token_counts: npt.NDArray[np.uint64]
    suffix_lengths: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


class InfinigramNextTokens(NamedTuple):
    """Every token that follows the context of each prompt.

    Attributes:
        next_tokens: As for a query; of the empty context all tokens of the corpus, and all ends of documents.
        suffix_lengths: Tokens of the context used, int64 of shape (prompts,): the last ones of the prompt.
    """

    next_tokens: NextTokens
    suffix_lengths: npt.NDArray[np.int64]
