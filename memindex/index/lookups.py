"""Lookups over the shards of an index: every shard answers the whole batch, and the answers are put together here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from memindex import _core
from memindex.errors import QueryError
from memindex.index.answers import DocumentCounts, LongestMatches, Matches, NextTokens, Occurrences, Spans
from memindex.ragged import Ragged

Shards = Sequence[_core.Shard]
Counts = npt.NDArray[np.uint64]

#: The id that the core gives for the end of a document.
END = 0xFFFFFFFF


def sum_over_shards(shards: Shards, lookup: Callable[..., Counts], batch: Ragged) -> Counts:
    """The sum of what `lookup` says of each shard."""
    first, *others = (lookup(shard, batch.values, batch.offsets) for shard in shards)
    for counts in others:
        first += counts
    return first


def find(shards: Shards, batch: Ragged) -> Matches:
    """See `Index.find`."""
    ranks = [shard.find(batch.values, batch.offsets).reshape(-1, 2) for shard in shards]
    return Matches(np.stack([r[:, 0] for r in ranks], axis=1), np.stack([r[:, 1] for r in ranks], axis=1))


def occurrences(shards: Shards, matches: Matches, limit: int | None, seed: int | None) -> Occurrences:
    """See `Index.positions`."""
    if seed is not None and (not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0):
        raise QueryError(f"seed must be a whole number of at least 0, not {seed!r:.40}")
    counts = matches.counts.astype(np.int64)
    totals = counts.sum(axis=1)
    taken = totals if limit is None else np.minimum(totals, at_least_one("limit", limit))
    query = np.repeat(np.arange(len(totals)), taken)
    place = np.arange(len(query)) - np.repeat(np.cumsum(taken) - taken, taken)
    # Evenly spaced: float64 could skip or repeat one above 2^53, so whole steps and a remainder.
    total, most = totals[query], taken[query]
    start = np.zeros(len(totals)) if seed is None else np.random.default_rng(seed).random(len(totals))
    nth = (place * (total // most)) + (place * (total % most) + (start[query] * total).astype(np.int64) % total) // most
    ends = np.cumsum(counts, axis=1)
    shard = (nth[:, None] >= ends[query]).sum(axis=1).astype(np.int32)
    rank = matches.starts[query, shard] + (nth - (ends - counts)[query, shard]).astype(np.uint64)
    position = np.empty(len(query), dtype=np.int64)
    for number, one in enumerate(shards):
        here = shard == number
        position[here] = one.positions(np.ascontiguousarray(rank[here]))
    return Occurrences(query, shard, rank, position)


def at_least_one(name: str, value: int) -> int:
    """The value of an option that must be a whole number of at least 1, else a QueryError."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 1 <= value < 1 << 63:
        raise QueryError(f"{name} must be a whole number of at least 1, not {value!r:.40}")
    return int(value)


def longest_match(shards: Shards, batch: Ragged) -> LongestMatches:
    """See `Index.longest_match`."""
    first = int(batch.offsets[0])
    lengths, counts = shards[0].longest_match(batch.values, batch.offsets)
    for shard in shards[1:]:
        other, more = shard.longest_match(batch.values, batch.offsets)
        # Where another shard matches longer, only its occurrences count.
        counts = np.where(other > lengths, more, np.where(other == lengths, counts + more, counts))
        lengths = np.maximum(lengths, other)
    return LongestMatches(batch.offsets - first, lengths, counts)


def spans(longest: LongestMatches, min_tokens: int, max_count: int | None) -> Spans:
    """The maximal ones among the longest matches: those that no match from an earlier token covers."""
    at_least_one("min_tokens", min_tokens)
    if max_count is not None:
        at_least_one("max_count", max_count)
    query = np.repeat(np.arange(len(longest.offsets) - 1), np.diff(longest.offsets))
    at = np.arange(len(query))
    ends = at + longest.lengths
    before = np.empty_like(ends)
    before[1:] = ends[:-1]
    # Ends ascend inside a query: a match without its first token still matches.
    before[longest.offsets[:-1]] = longest.offsets[:-1]
    keep = (longest.lengths >= min_tokens) & (ends > before)
    if max_count is not None:
        keep &= longest.counts <= max_count
    start = at[keep] - longest.offsets[query[keep]]
    return Spans(query[keep], start, longest.lengths[keep].astype(np.int64), longest.counts[keep])


def next_tokens(shards: Shards, batch: Ragged, domains: int) -> NextTokens:
    """See `Index.next_tokens`; `domains` is their number, 0 for no counts by domain."""
    return following(shards, find(shards, batch), batch.lengths(), domains)


def following(shards: Shards, matches: Matches, lengths: npt.NDArray[np.int64], domains: int) -> NextTokens:
    """What follows n-grams of these lengths at these ranks."""
    rows, ids, counts, by_domain = [], [], [], []
    for number, shard in enumerate(shards):
        starts, ends = (np.ascontiguousarray(ranks[:, number]) for ranks in matches)
        offsets, tokens, firsts, lasts = shard.next_tokens(starts, ends, lengths)
        rows.append(np.repeat(np.arange(len(lengths)), np.diff(offsets)))
        ids.append(tokens)
        counts.append(lasts - firsts)
        if domains:
            by_domain.append(shard.count_ranges(firsts, lasts).reshape(-1, domains))
    row, token, count = (np.concatenate(parts) for parts in (rows, ids, counts))
    table = np.concatenate(by_domain) if domains else None
    is_end = token == END
    document_ends = np.zeros(len(lengths), dtype=np.uint64)
    np.add.at(document_ends, row[is_end], count[is_end])
    row, token, count = (column[~is_end] for column in (row, token, count))
    table = None if table is None else table[~is_end]
    if len(shards) > 1:
        row, token, count, table = _merged(row, token, count, table)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=len(lengths)), out=offsets[1:])
    return NextTokens(offsets, token, count, document_ends, table)


def _merged(
    row: npt.NDArray[np.int64], ids: npt.NDArray[np.uint32], counts: Counts, table: Counts | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32], Counts, Counts | None]:
    """Sums the entries of the same token after the same query, of several shards; most frequent first in each row."""
    order = np.lexsort((ids, row))
    row, ids, counts = row[order], ids[order], counts[order]
    first = np.flatnonzero(
        np.diff(row, prepend=-1).astype(bool) | np.diff(ids.astype(np.int64), prepend=-1).astype(bool)
    )
    if len(first):
        counts = np.add.reduceat(counts, first)
        table = None if table is None else np.add.reduceat(table[order], first, axis=0)
    row, ids = row[first], ids[first]
    order = np.lexsort((ids, ~counts, row))
    return row[order], ids[order], counts[order], None if table is None else table[order]


def document_count(shards: Shards, batch: Ragged, cap: int) -> DocumentCounts:
    """See `Index.document_count`."""
    at_least_one("cap", cap)
    matches = find(shards, batch)
    bounds = np.zeros((batch.rows, 2), dtype=np.uint64)
    for number, shard in enumerate(shards):
        starts, ends = (np.ascontiguousarray(ranks[:, number]) for ranks in matches)
        bounds += shard.count_documents(starts, ends, cap).reshape(-1, 2)
    return DocumentCounts(np.ascontiguousarray(bounds[:, 0]), np.ascontiguousarray(bounds[:, 1]))
