"""Probabilities of next tokens by counts: of n-grams, and of infinite-grams, that back off to what occurs.

An infinite-gram (Liu et al. 2024, arXiv 2401.17377) predicts with the longest suffix of a prompt that occurs in the
corpus. Shorter suffixes of the same prompt occur too, so the longest is found by a search over the length: doubling at
first, then halving, all prompts of a batch together, one batch of counts per step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from memindex.errors import QueryError
from memindex.index.answers import InfinigramNextTokens, Matches, Probabilities
from memindex.index.lookups import find, following
from memindex.index.queries import as_batch
from memindex.ragged import Ragged

if TYPE_CHECKING:
    from memindex.index.index import Index, Queries

Lengths = npt.NDArray[np.int64]


def next_tokens(index: Index, prompts: Ragged) -> InfinigramNextTokens:
    """All next tokens by infinite-grams; see `Index.infinigram_next_tokens`."""
    check_ids(index, prompts.values)
    lengths = longest_suffixes(index, prompts)
    contexts = suffixes(prompts, lengths)
    filled = lengths > 0
    # The empty context stands before every suffix.
    ends = np.tile(np.array([len(shard) for shard in index.shards], dtype=np.uint64), (prompts.rows, 1))
    starts = np.zeros_like(ends)
    if filled.any():
        starts[filled], ends[filled] = find(index.shards, _without_empty(contexts, filled))
    return InfinigramNextTokens(following(index.shards, Matches(starts, ends), lengths, 0), lengths)


def token_probabilities(index: Index, prompts: Ragged, tokens: Any, *, back_off: bool, engine: str) -> Probabilities:
    """The probability of one token after each prompt; see `Index.prob` and `Index.infinigram_prob`."""
    tokens = _one_per_prompt(tokens, prompts.rows)
    check_ids(index, prompts.values)
    check_ids(index, tokens)
    if engine == "infini-gram":
        found = index.infini_gram.probabilities(prompts, tokens, back_off)
        prompt_counts, token_counts = (np.array(side, dtype=np.uint64) for side in found[:2])
        lengths = np.array(found[2], dtype=np.int64)
    else:
        lengths = longest_suffixes(index, prompts) if back_off else prompts.lengths()
        contexts = suffixes(prompts, lengths)
        prompt_counts = _counts(index, contexts)
        token_counts = _counts(index, _appended(contexts, tokens))
    share = np.full(prompts.rows, np.nan)
    np.divide(token_counts, prompt_counts, out=share, where=prompt_counts > 0)
    return Probabilities(prompt_counts, token_counts, lengths, share)


def longest_suffixes(index: Index, prompts: Ragged) -> Lengths:
    """Tokens of the longest suffix of each prompt that occurs in the corpus, int64 of shape (prompts,); 0 for none."""
    lengths = prompts.lengths()
    # A suffix of `low` tokens occurs; one of `high` does not, or is longer than the prompt.
    low, high, tried = np.zeros_like(lengths), lengths + 1, np.ones_like(lengths)
    while (rows := np.flatnonzero(high - low > 1)).size:
        occurs = _counts(index, suffixes(prompts, tried[rows], rows)) > 0
        low[rows] = np.where(occurs, tried[rows], low[rows])
        high[rows] = np.where(occurs, high[rows], tried[rows])
        # Most prompts have short ones: double until one is missing, halve then.
        tried = np.where(high > lengths, np.minimum(2 * low, lengths), (low + high) // 2)
    return low


def suffixes(prompts: Ragged, lengths: Lengths, rows: Lengths | None = None) -> Ragged:
    """The last `lengths` tokens of each prompt, or of some rows of the batch."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    ends = prompts.offsets[1:] if rows is None else prompts.offsets[1:][rows]
    return Ragged(prompts.values[np.arange(offsets[-1]) + np.repeat(ends - offsets[1:], lengths)], offsets)


def _appended(contexts: Ragged, tokens: npt.NDArray[np.uint32]) -> Ragged:
    """Every row with one token more."""
    values = np.insert(contexts.values, contexts.offsets[1:], tokens)
    return Ragged(values, contexts.offsets + np.arange(contexts.rows + 1))


def _counts(index: Index, batch: Ragged) -> npt.NDArray[np.uint64]:
    """Occurrences of every row; the empty one stands before every token and at the end of every document."""
    counts = np.full(batch.rows, sum(len(shard) for shard in index.shards), dtype=np.uint64)
    filled = batch.lengths() > 0
    if filled.any():
        counts[filled] = index.count(_without_empty(batch, filled))
    return counts


def _without_empty(batch: Ragged, filled: npt.NDArray[np.bool_]) -> Ragged:
    """The rows that are not empty: no value belongs to the others, so the ends of these are enough."""
    return Ragged(batch.values, batch.offsets[np.append(True, filled)])


def check_ids(index: Index, ids: npt.NDArray[np.uint32]) -> None:
    """Raise QueryError where an id can't be a token of the index; the separator is none."""
    largest = (1 << 8 * index.manifest.token_width) - 2
    if len(ids) and int(ids.max()) > largest:
        raise QueryError(f"token id {ids.max()} is out of range: this index holds ids 0 to {largest}")


def as_prompts(index: Index, prompts: Queries) -> Ragged:
    """The batch of prompts a caller means; a prompt may be empty."""
    batch = as_batch(prompts, index.tokenize)
    if batch.offsets[0] < 0 or batch.offsets[-1] > len(batch.values) or (batch.lengths() < 0).any():
        raise QueryError("offsets of a ragged batch must be ascending inside its values")
    return batch


def _one_per_prompt(tokens: Any, rows: int) -> npt.NDArray[np.uint32]:
    try:
        given = np.asarray(tokens)
    except ValueError:
        raise QueryError("tokens must be token ids: one whole number per prompt, or one for all") from None
    given = given if given.size else given.astype(np.int64)
    if given.ndim > 1 or (given.ndim == 1 and len(given) != rows):
        raise QueryError(f"tokens of shape {given.shape} for {rows} prompts: give one token per prompt, or one for all")
    if given.dtype.kind not in "iu":
        raise QueryError(f"tokens must be token ids: whole numbers, not {given.dtype}")
    ids = as_batch(given.reshape(-1, 1), _no_texts).values
    return np.ascontiguousarray(np.broadcast_to(ids.reshape(given.shape), (rows,)))


def _no_texts(texts: Any) -> Ragged:
    raise QueryError(f"expected token ids, not {texts!r}")
