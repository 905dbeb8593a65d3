"""What a row of logits says about one token, in one reading of the row, as one Triton kernel.

Layer decoding makes many times as many logits as scoring does, and only a handful of numbers is wanted of each row. One
function of torch after the other would read the row, and write copies of it, once for each of them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

#: Logits of a tile, and warps that share it.
_TILE, _WARPS = 4096, 8


@triton.jit  # type: ignore[untyped-decorator]
def _reduce(
    logits,
    tokens,
    logprobs,
    ranks,
    likeliest,
    entropies,
    stride,
    vocabulary,
    TILE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    base = logits + row * stride
    true = tl.load(base + tl.load(tokens + row)).to(tl.float32)
    place = tl.arange(0, TILE)
    # Of every place of the tile for itself, so that tiles need not wait for sums over the one before.
    largest = tl.full((TILE,), float("-inf"), tl.float32)
    where = tl.zeros((TILE,), tl.int32)
    weight = tl.zeros((TILE,), tl.float32)
    expected = tl.zeros((TILE,), tl.float32)
    rank = tl.zeros((TILE,), tl.int32)
    for start in range(0, vocabulary, TILE):
        at = start + place
        found = tl.load(base + at, mask=at < vocabulary, other=float("-inf")).to(tl.float32)
        rank += (found > true).to(tl.int32)
        more = found > largest
        new = tl.where(more, found, largest)
        where = tl.where(more, at, where)
        # Both are -inf where nothing was seen yet, and their difference would be NaN.
        shrink = tl.where(more, tl.exp(largest - new), 1.0)
        share = tl.where(found == float("-inf"), 0.0, tl.exp(found - new))
        weight = weight * shrink + share
        expected = expected * shrink + tl.where(share == 0.0, 0.0, share * found)
        largest = new
    best = tl.max(largest, axis=0)
    # The first of several that are as large.
    first = tl.min(tl.where(largest == best, where, vocabulary), axis=0)
    shrink = tl.where(largest == float("-inf"), 0.0, tl.exp(largest - best))
    whole = tl.sum(weight * shrink, axis=0)
    total = best + tl.log(whole)
    tl.store(logprobs + row, true - total)
    tl.store(ranks + row, tl.sum(rank, axis=0))
    tl.store(likeliest + row, first)
    tl.store(entropies + row, total - tl.sum(expected * shrink, axis=0) / whole)


def reduce_logits(
    logits: torch.Tensor, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probability, rank, likeliest token and entropy, in float32 arithmetic.

    Args:
        logits: (rows, vocabulary) on a GPU.
        tokens: int64 (rows,), the token that each row is asked about.

    Returns:
        float32 log-probabilities in nats (NaN where a logit is), int32 numbers of larger logits, int32 places of the
        largest logit (the first of several), and float32 entropies in nats; all (rows,).
    """
    rows, vocabulary = logits.shape
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    found = [torch.empty(rows, dtype=t, device=logits.device) for t in _TYPES]
    if rows:
        _reduce[(rows,)](
            logits, tokens.contiguous(), *found, logits.stride(0), vocabulary, TILE=_TILE, num_warps=_WARPS
        )
    return found[0], found[1], found[2], found[3]


_TYPES = (torch.float32, torch.int32, torch.int32, torch.float32)
