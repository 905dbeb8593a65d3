"""The two passes behind scoring: teacher forcing, and exact greedy decoding of what it leaves open.

Every row of a batch has left the true suffix at its own position, yet all rows step together. The
teacher-forced pass has already filled the key-value cache with prefix + suffix; of that, a row may use only
the slots before its first mismatch. The stale ones are masked, new tokens are appended behind the last
slot, and explicit position ids tell the model where they really stand. Models that tell position from the
slot (a sliding window that would come into play) or keep another kind of state (recurrent layers) can't do
that; they are decoded by repeated teacher forcing, which needs nothing but a causal model: each pass makes
at least one more token final, often several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from memindex.errors import MemindexError

#: Tokens that top-k sampling draws from where p_z is reported (Hayes et al. 2024, arXiv 2410.19482).
TOP = 40

#: float32 logits in one log-softmax at a time.
_CHUNK_ELEMENTS = 1 << 26


@dataclass(frozen=True)
class Forced:
    """A teacher-forced pass.

    Attributes:
        argmax: int64 (rows, suffix_length), the likeliest token at each suffix position.
        logprobs: float32 (rows, prefix + suffix_length - 1), log-probability of each true token after the first;
            nats.
        ranks: int32 (rows, suffix_length), tokens likelier than the true one at each suffix position.
        top_logprobs: float32 (rows, suffix_length), log-probability of the true one among the TOP likeliest;
            -inf where it is not one of them.
        cache: Keys and values of all but the last token, or another state of the model, or None.
    """

    argmax: torch.Tensor
    logprobs: torch.Tensor
    ranks: torch.Tensor
    top_logprobs: torch.Tensor
    cache: Any


def teacher_forced(model: PreTrainedModel, ids: torch.Tensor, prefix: int, *, cached: bool = True) -> Forced:
    """Read `ids`, int64 (rows, prefix + suffix_length), once.

    MemindexError when a logit is NaN.
    """
    length = ids.shape[1] - prefix
    output = model(input_ids=ids[:, :-1], use_cache=cached)
    logits, targets = output.logits, ids[:, 1:]
    rows = max(1, _CHUNK_ELEMENTS // (targets.shape[1] * logits.shape[-1]))
    parts = [
        _logprobs(part, wanted, length)
        for part, wanted in zip(torch.split(logits, rows), torch.split(targets, rows), strict=True)
    ]
    logprobs, ranks, top = (torch.cat(columns) for columns in zip(*parts, strict=True))
    # A NaN among a position's logits makes its normalizer NaN, so this one check sees all of them.
    _refuse_nan(logprobs)
    argmax = logits[:, -length:].argmax(dim=-1)
    return Forced(argmax, logprobs, ranks, top, getattr(output, "past_key_values", None))


def _logprobs(
    logits: torch.Tensor, targets: torch.Tensor, length: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    exact = logits.float()
    true = exact.gather(-1, targets[..., None])
    logprobs = true[..., 0] - exact.logsumexp(dim=-1)
    exact, true = exact[:, -length:], true[:, -length:]
    ranks = (exact > true).sum(dim=-1).int()
    top = exact.topk(min(TOP, exact.shape[-1]), dim=-1).values.logsumexp(dim=-1)
    return logprobs, ranks, (true[..., 0] - top).masked_fill(ranks >= TOP, float("-inf"))


def _refuse_nan(values: torch.Tensor) -> None:
    if bool(values.isnan().any()):
        raise MemindexError("the model gives NaN logits; load it with --dtype float32, or check its weights")


def complete(model: PreTrainedModel, ids: torch.Tensor, prefix: int, forced: Forced) -> torch.Tensor:
    """The greedy continuation, int64 (rows, suffix_length), exact to the last token."""
    suffix = ids[:, prefix:]
    length = suffix.shape[1]
    equal = forced.argmax == suffix
    matched = equal.long().cumprod(dim=1).sum(dim=1)
    # Rows that leave at the last position are known already, as the argmax there is.
    rows = (matched < length - 1).nonzero()[:, 0]
    if len(rows) == 0:
        return forced.argmax.clone()
    # The longest rests first: the rows still running are then always the first ones.
    rows = rows[matched[rows].argsort(stable=True)]
    continuation = forced.argmax.clone()
    if _appendable(model, forced.cache, ids.shape[1] - 1 + length):
        forced.cache.batch_select_indices(rows)
        continuation[rows] = _append(model, forced.cache, prefix, forced.argmax[rows], matched[rows])
    else:
        continuation[rows] = _repeat(model, ids[rows], prefix, forced.argmax[rows])
    return continuation


def _appendable(model: PreTrainedModel, cache: Any, slots: int) -> bool:
    """Whether tokens may be appended behind stale slots: plain cache, no window below `slots`."""
    if not isinstance(cache, DynamicCache):
        return False
    # Hybrid models keep recurrent states in layers of the same cache.
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        return False
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return all(window is None or window >= slots for window in windows)


def _append(
    model: PreTrainedModel, cache: DynamicCache, prefix: int, known: torch.Tensor, matched: torch.Tensor
) -> torch.Tensor:
    """Decode rows whose tokens up to column `matched` (ascending) are final in `known`."""
    tokens, length = known.clone(), known.shape[1]
    slots = prefix + length - 1
    device = tokens.device
    mask = torch.ones((len(tokens), slots + length), dtype=torch.long, device=device)
    mask[:, :slots] = (torch.arange(slots, device=device) < prefix + matched[:, None]).long()
    running = (length - 1 - matched).tolist()
    for step in range(running[0]):
        while running[-1] <= step:
            running.pop()
        count = len(running)
        rows, columns = torch.arange(count, device=device), matched[:count] + step
        if count < cache.layers[0].keys.shape[0]:
            cache.batch_select_indices(rows)
        logits = model(
            input_ids=tokens[rows, columns][:, None],
            attention_mask=mask[:count, : slots + step + 1],
            position_ids=(prefix + columns)[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        best, chosen = logits.max(dim=-1)
        _refuse_nan(best)
        tokens[rows, columns + 1] = chosen
    return tokens


def _repeat(model: PreTrainedModel, ids: torch.Tensor, prefix: int, known: torch.Tensor) -> torch.Tensor:
    """Teacher-force on the model's own last answer until it repeats: then it is the greedy one."""
    answer = known
    # Every pass makes one more token final at least, so `length` passes always do.
    for _ in range(known.shape[1]):
        read = torch.cat([ids[:, :prefix], answer], dim=1)
        following = teacher_forced(model, read, prefix, cached=False).argmax
        if torch.equal(following, answer):
            break
        answer = following
    return answer
