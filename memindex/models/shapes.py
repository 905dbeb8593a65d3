"""The shape of a small model from its size alone: layers, width, heads; no torch here.

A size is a number of non-embedding parameters, because the vocabulary would otherwise dominate the small ones. The
shape follows from it (12 * layers * hidden^2, Kaplan et al. 2020, arXiv 2001.08361), so that two architectures of one
size have the same layers, width and heads. One row of ARCHITECTURES says what a family's transformers configuration
needs beyond that shape; a new family is a new row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memindex.errors import MemindexError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


@dataclass(frozen=True)
class Shape:
    """Layers, width of the residual stream, and attention heads per layer."""

    layers: int
    hidden: int
    heads: int

    @property
    def parameters(self) -> int:
        """Weights of the blocks: per layer 4 d^2 for attention, 8 d^2 for the MLP."""
        return 12 * self.layers * self.hidden**2


def _two_matrix(shape: Shape) -> dict[str, Any]:
    return {"intermediate_size": 4 * shape.hidden}


def _gated(shape: Shape) -> dict[str, Any]:
    # Three matrices instead of two: 8/3 d makes the MLP as large as an ungated one of 4 d.
    return {
        "intermediate_size": max(8, round(shape.hidden / 3) * 8),
        "num_key_value_heads": shape.heads,
    }


def _starcoder2(shape: Shape) -> dict[str, Any]:
    return {**_two_matrix(shape), "num_key_value_heads": shape.heads}


def _bigcode(shape: Shape) -> dict[str, Any]:
    # Multi-query attention shares one key and value head; a wider MLP gives back what that saves.
    saved = 2 * shape.hidden * (shape.hidden - shape.hidden // shape.heads)
    return {
        "n_inner": 4 * shape.hidden + round(saved / (2 * shape.hidden) / 8) * 8,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


#: transformers model type -> the configuration values that its shape alone does not give.
ARCHITECTURES: dict[str, Callable[[Shape], dict[str, Any]]] = {
    "gpt_bigcode": _bigcode,
    "gpt_neox": _two_matrix,
    "llama": _gated,
    "olmo": _gated,
    "olmo2": _gated,
    "olmo3": _gated,
    "starcoder2": _starcoder2,
}


def parse_size(size: str) -> int:
    """Non-embedding parameters from `0.25M`, `250k`, `1B` or `250000`; else MemindexError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmb]?)\s*", size, re.IGNORECASE)
    count = round(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if count < 1:
        raise MemindexError(f"{size!r} is no size; write for example 250k, 0.25M or 1B")
    return count


def shape_for(size: int) -> Shape:
    """The shape whose parameters come nearest to `size`.

    The width per layer grows with the size from about 20 to 128, as it does between the published small and
    large models. Heads are 64 wide, 32 below 20M parameters and 16 below 0.6M, so that small models still
    have several.
    """
    head = 16 if size < 600_000 else 32 if size < 20_000_000 else 64
    aspect = min(128.0, max(20.0, 32 * (size / 1e6) ** 0.15))
    depth = max(2, round((size / (12 * aspect**2)) ** (1 / 3)))
    candidates = [
        Shape(layers, heads * head, heads)
        for layers in range(max(2, depth - 1), depth + 2)
        for heads in _nearest_heads(size, layers, head)
    ]
    return min(candidates, key=lambda shape: (abs(shape.parameters - size), abs(shape.layers - depth)))


def _nearest_heads(size: int, layers: int, head: int) -> tuple[int, int]:
    below = int((size / (12 * layers)) ** 0.5 / head)
    return max(1, below), below + 1


def default_learning_rate(hidden: int) -> float:
    """Peak learning rate, inverse in the width as in muP (Yang et al. 2022, arXiv 2203.03466)."""
    return min(1e-2, 0.5 / hidden)
