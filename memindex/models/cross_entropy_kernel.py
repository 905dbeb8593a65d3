"""Loss and gradient of rows of logits, in place, as one Triton kernel.

A small model with a vocabulary of 50,000 spends most of its training on logits. This reads each row twice, the second
time from the cache, and leaves the gradient where the logits stood.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

#: Logits of a tile, and warps that share it.
_TILE, _WARPS = 4096, 8


@triton.jit  # type: ignore[untyped-decorator]
def _losses(logits, targets, losses, scale, stride, vocabulary, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    base = logits + row * stride
    target = tl.load(targets + row)
    true = tl.load(base + target).to(tl.float32)
    place = tl.arange(0, TILE)
    # Of every place of the tile for itself, so that tiles need not wait for sums over the one before.
    largest = tl.full((TILE,), float("-inf"), tl.float32)
    weight = tl.zeros((TILE,), tl.float32)
    for start in range(0, vocabulary, TILE):
        at = start + place
        found = tl.load(base + at, mask=at < vocabulary, other=float("-inf")).to(tl.float32)
        new = tl.maximum(largest, found)
        # Both are -inf where nothing was seen yet, and their difference would be NaN.
        shrink = tl.where(largest == float("-inf"), 0.0, tl.exp(largest - new))
        weight = weight * shrink + tl.where(found == float("-inf"), 0.0, tl.exp(found - new))
        largest = new
    best = tl.max(largest, axis=0)
    shrink = tl.where(largest == float("-inf"), 0.0, tl.exp(largest - best))
    total = best + tl.log(tl.sum(weight * shrink, axis=0))
    tl.store(losses + row, total - true)
    for start in range(0, vocabulary, TILE):
        at = start + place
        found = tl.load(base + at, mask=at < vocabulary, other=float("-inf")).to(tl.float32)
        gradient = (tl.exp(found - total) - tl.where(at == target, 1.0, 0.0)) * scale
        tl.store(base + at, gradient.to(logits.dtype.element_ty), mask=at < vocabulary)


def losses_in_place(logits: torch.Tensor, targets: torch.Tensor, scale: float, vocabulary: int) -> torch.Tensor:
    """Cross-entropy of each row; the logits become its gradient times `scale`.

    Args:
        logits: (rows, vocabulary or more), contiguous; changed in place, but for columns behind the vocabulary.
        targets: int64 (rows,).
        scale: Factor of the gradient.
        vocabulary: Columns that count.

    Returns:
        float32 (rows,), nats.
    """
    rows = len(logits)
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    if rows:
        _losses[(rows,)](logits, targets, losses, scale, logits.stride(0), vocabulary, TILE=_TILE, num_warps=_WARPS)
    return losses
