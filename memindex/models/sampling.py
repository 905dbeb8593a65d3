"""How the next token is chosen: the likeliest, or drawn with noise that depends on the sequence alone.

A drawn token depends on the seed, the sequence's id and the position, not on the batch: the noise of every candidate is
a hash of those. So a run gives the same continuations in batches of any size and in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import memindex.models.torch_setup  # noqa: F401

import torch

from memindex.errors import MemindexError

# Steele et al. 2014 ("splitmix64"), as signed 64-bit integers.
_GOLDEN, _MIX1, _MIX2 = (value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class Decoding:
    """How continuations are chosen.

    Attributes:
        seed: Seed of sampling; None is greedy decoding.
        top_k: Likeliest tokens to draw from; None for all.
        temperature: Divisor of the logits.
    """

    seed: int | None = None
    top_k: int | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what makes no distribution."""
        if self.seed is None and (self.top_k is not None or self.temperature != 1.0):
            raise MemindexError("greedy decoding has neither top_k nor temperature: give a seed to sample")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise MemindexError(f"the seed must be between 0 and 2^63 - 1, got {self.seed}")
        if self.top_k is not None and self.top_k < 1:
            raise MemindexError(f"top_k must be 1 or more, got {self.top_k}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise MemindexError(f"temperature must be above 0, got {self.temperature}")


GREEDY = Decoding()


def choose(
    logits: torch.Tensor, decoding: Decoding, ids: torch.Tensor, columns: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token of each row.

    Args:
        logits: (rows, vocabulary).
        decoding: How to choose.
        ids: int64 (rows,), ids of the sequences.
        columns: int64 (rows,), places of the tokens in the continuations.

    Returns:
        int64 (rows,), and the largest logit of each row: NaN where any logit is.
    """
    best, likeliest = logits.max(dim=-1)
    if decoding.seed is None:
        return likeliest, best
    scaled = logits.float() / decoding.temperature
    if decoding.top_k is None or decoding.top_k >= logits.shape[-1]:
        candidates = torch.arange(logits.shape[-1], device=logits.device).expand_as(logits)
    else:
        scaled, candidates = scaled.topk(decoding.top_k, dim=-1)
    # Gumbel's trick: the largest of (log-probability + Gumbel noise) is a draw from the distribution.
    drawn = (scaled + _gumbel(decoding.seed, ids[:, None], columns[:, None], candidates)).argmax(dim=-1)
    return candidates.gather(1, drawn[:, None])[:, 0], best


def _gumbel(seed: int, ids: torch.Tensor, columns: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Gumbel noise, float32, by hashing."""
    state = hashed(seed, ids, columns, tokens)
    # 24 bits fill a float32; a half keeps the uniform number away from 0 and 1.
    uniform = (_shift(state, 40).float() + 0.5) * 2.0**-24
    return -(-uniform.log()).log()


def hashed(seed: int, *parts: torch.Tensor) -> torch.Tensor:
    """64 bits, as int64, for the parts (int64, of shapes that broadcast): equal ones get equal bits."""
    state = torch.full((), seed, dtype=torch.int64, device=parts[0].device)
    for part in parts:
        state = _mix(state + _GOLDEN * (part + 1))
    return state


def _mix(state: torch.Tensor) -> torch.Tensor:
    state = (state ^ _shift(state, 30)) * _MIX1
    state = (state ^ _shift(state, 27)) * _MIX2
    return state ^ _shift(state, 31)


def _shift(state: torch.Tensor, by: int) -> torch.Tensor:
    """The logical shift to the right, which torch has for no signed integer."""
    return (state >> by) & ((1 << (64 - by)) - 1)
