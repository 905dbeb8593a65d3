"""Attention that reads and writes key-value slots, as a transformers attention function of its own.

transformers' caches let all rows of a batch stand at one position. Greedy decoding that goes on from each row's first
mismatch needs every row at its own. Here the slot of a key is its position in the sequence: a token that is decoded
anew overwrites the slot of the token it replaces, and a row sees the slots up to its own position. So every shape stays
the same from step to step (which CUDA graphs want), no slot is wasted on tokens that were replaced, and sliding windows
come out right.

The slots hang on the attention modules as two plain attributes, because torch.compile then finds the layers of a model
equal and compiles one of them instead of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import memindex.models.torch_setup  # noqa: F401

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from memindex.errors import MemindexError

try:
    from memindex.models.slot_kernel import attend_to_slots as _kernel
except ImportError:  # Triton comes with torch where torch knows GPUs.
    _kernel = None  # type: ignore[assignment]

#: The name of `attend` among transformers' attention functions. No mask function has it, so masks are `attend`'s own.
NAME = "memindex_slots"

#: What some architectures hand their attention that `attend` knows nothing of.
_UNKNOWN = ("softcap", "s_aux", "position_bias", "sinks")


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    slots: torch.Tensor | None = None,
    record: list[Any] | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend causally, as transformers' attention functions do.

    Args:
        module: The attention module, with `slot_keys` and `slot_values` where slots are kept.
        query: (rows, heads, tokens, head size).
        key: (rows, key-value heads, tokens, head size).
        value: As `key`.
        attention_mask: None: rows are equally long.
        scaling: Factor of the scores.
        dropout: 0: models are scored in evaluation mode.
        sliding_window: Tokens a query sees, itself included; None for all.
        slots: int64 (rows,), the position of each row's only token, which attends to the kept slots up to it; None:
            the tokens stand at positions 0, 1, … and their keys and values are kept.
        record: Gets (module, key-value heads, head size, value size).
        others: Ignored, but for features that would change the result.

    Returns:
        (rows, tokens, heads, head size), and None for the weights.
    """
    if attention_mask is not None or any(others.get(name) is not None for name in _UNKNOWN):
        raise MemindexError("this architecture's attention has features that slots don't know")
    if record is not None:
        record.append((module, key.shape[1], key.shape[3], value.shape[3]))
    keys, values = getattr(module, "slot_keys", None), getattr(module, "slot_values", None)
    if slots is None:
        if keys is not None and values is not None:
            keys[:, :, : key.shape[2]] = key
            values[:, :, : value.shape[2]] = value
        return _causal(query, key, value, scaling, sliding_window).transpose(1, 2), None
    if keys is None or values is None:
        raise MemindexError("no slots were kept")
    scale = query.shape[3] ** -0.5 if scaling is None else scaling
    if _kernel is not None and query.is_cuda and key.shape[3] == value.shape[3]:
        return _kernel(query, key, value, keys, values, slots, scale, sliding_window), None
    rows = torch.arange(len(slots), device=slots.device)
    keys[rows, :, slots] = key[:, :, 0]
    values[rows, :, slots] = value[:, :, 0]
    return _to_slots(query, keys, values, slots, scale, sliding_window), None


def _causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, window: int | None
) -> torch.Tensor:
    tokens, grouped = query.shape[2], query.shape[1] != key.shape[1]
    if window is None or window >= tokens:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
    place = torch.arange(tokens, device=query.device)
    back = place[:, None] - place
    mask = (back >= 0) & (back < window)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=grouped)


def _to_slots(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    rows, heads, _, size = query.shape
    place = torch.arange(keys.shape[2], device=slots.device)
    mask = place <= slots[:, None]
    if window is not None:
        mask &= place > slots[:, None] - window
    # Heads that share keys stand as several queries of one head: the keys are read once.
    packed = query.reshape(rows, keys.shape[1], heads // keys.shape[1], size)
    out = scaled_dot_product_attention(packed, keys, values, attn_mask=mask[:, None, None], scale=scaling)
    return out.reshape(rows, 1, heads, values.shape[3])


#: (attention module, key-value heads, head size, value size) of every layer.
AttentionModules = list[tuple[nn.Module, int, int, int]]


class Slots:
    """Keys and values of a model's layers for a number of rows.

    Args:
        modules: The attention modules, as `attend` records them.
        rows: Rows to keep.
        length: Positions per row.
        like: Gives dtype and device.
    """

    def __init__(self, modules: AttentionModules, rows: int, length: int, like: torch.Tensor) -> None:
        self._modules = [module for module, *_ in modules]
        # Empty memory may hold NaN, and a masked NaN would still spoil the product with a zero weight.
        self._keys = [like.new_zeros(rows, heads, length, size) for _, heads, size, _ in modules]
        self._values = [like.new_zeros(rows, heads, length, size) for _, heads, _, size in modules]

    def bind(self, begin: int, rows: int) -> None:
        """Let the model use rows `begin` to `begin + rows`."""
        for module, keys, values in zip(self._modules, self._keys, self._values, strict=True):
            module.slot_keys = keys[begin : begin + rows]
            module.slot_values = values[begin : begin + rows]

    def release(self) -> None:
        """Let the model keep nothing."""
        for module in self._modules:
            for name in ("slot_keys", "slot_values"):
                if hasattr(module, name):
                    delattr(module, name)

    def arrange(self, order: torch.Tensor) -> None:
        """Put row `order[i]` at `i`; `order` is int64 of shape (rows,)."""
        if bool((order == torch.arange(len(order), device=order.device)).all()):
            return
        for kept in (*self._keys, *self._values):
            kept[: len(order)] = kept[order]


def bytes_per_row(modules: AttentionModules, length: int, itemsize: int) -> int:
    """Memory that a row of slots takes."""
    return sum(heads * (size + other) for _, heads, size, other in modules) * length * itemsize


@contextmanager
def attending_to_slots(model: PreTrainedModel) -> Iterator[None]:
    """Within it, the model's attention is `attend`."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
    configs = [model.config, model.config.get_text_config()]
    before = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name
