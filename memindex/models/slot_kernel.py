"""One token of every row attending to that row's slots, as one Triton kernel.

What it costs is reading keys and values. A masked attention over all slots reads those that a row may not see, and
kernels made for many queries leave most of their work undone for one. This one reads each key and value that counts
once, and stores the new token's own on the way.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

#: Elements of a tile of keys, and warps that share it.
_TILE, _WARPS = 2048, 1


@triton.jit  # type: ignore[untyped-decorator]
def _attend(
    query,
    key,
    value,
    keys,
    values,
    slots,
    out,
    scaling,
    window,
    query_row,
    query_head,
    key_row,
    key_head,
    value_row,
    value_head,
    length,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    TILE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    here = tl.load(slots + row).to(tl.int32)
    channel = tl.arange(0, PADDED)
    inside = channel < SIZE
    new_key = tl.load(key + row * key_row + head * key_head + channel, mask=inside, other=0.0)
    new_value = tl.load(value + row * value_row + head * value_head + channel, mask=inside, other=0.0)
    base = (row * HEADS + head) * length * SIZE
    # The loop below reads the slots before this one only, so nothing waits for these two stores.
    tl.store(keys + base + here * SIZE + channel, new_key, mask=inside)
    tl.store(values + base + here * SIZE + channel, new_value, mask=inside)
    new_key = new_key.to(tl.float32)
    new_value = new_value.to(tl.float32)
    first = tl.maximum(here - window + 1, 0)
    place = tl.arange(0, TILE)
    for member in range(GROUP):
        many = head * GROUP + member
        asked = tl.load(query + row * query_row + many * query_head + channel, mask=inside, other=0.0)
        # torch.compile hands scalars over in double precision.
        asked = (asked.to(tl.float32) * scaling).to(tl.float32)
        best = tl.sum(asked * new_key, axis=0)
        weight = 1.0
        total = new_value
        for start in range(first, here, TILE):
            at = start + place
            seen = at < here
            tile = at[:, None] * SIZE + channel[None, :]
            both = seen[:, None] & inside[None, :]
            some_keys = tl.load(keys + base + tile, mask=both, other=0.0).to(tl.float32)
            some_values = tl.load(values + base + tile, mask=both, other=0.0).to(tl.float32)
            scores = tl.where(seen, tl.sum(some_keys * asked[None, :], axis=1), float("-inf"))
            larger = tl.maximum(best, tl.max(scores, axis=0))
            shrink = tl.exp(best - larger)
            shares = tl.exp(scores - larger)
            weight = weight * shrink + tl.sum(shares, axis=0)
            total = total * shrink + tl.sum(shares[:, None] * some_values, axis=0)
            best = larger
        result = (total / weight).to(out.dtype.element_ty)
        tl.store(out + (row * HEADS * GROUP + many) * SIZE + channel, result, mask=inside)


def attend_to_slots(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """Store each row's key and value in its slot, and attend to the slots up to it.

    Args:
        query: (rows, heads, 1, head size).
        key: (rows, key-value heads, 1, head size).
        value: As `key`.
        keys: (rows, key-value heads, length, head size), contiguous; changed in place.
        values: As `keys`.
        slots: int64 (rows,), each row's position.
        scaling: Factor of the scores.
        window: Slots a row sees, its own included; None for all.

    Returns:
        (rows, 1, heads, head size), in float32 arithmetic.
    """
    rows, heads, _, size = query.shape
    query, key, value = (x if x.stride(3) == 1 else x.contiguous() for x in (query, key, value))
    grouped, length = keys.shape[1], keys.shape[2]
    out = torch.empty((rows, 1, heads, size), dtype=query.dtype, device=query.device)
    padded = triton.next_power_of_2(size)
    _attend[(rows, grouped)](
        query,
        key,
        value,
        keys,
        values,
        slots,
        out,
        scaling,
        length + 1 if window is None else window,
        query.stride(0),
        query.stride(1),
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        length,
        HEADS=grouped,
        GROUP=heads // grouped,
        SIZE=size,
        PADDED=padded,
        TILE=max(16, min(128, _TILE // padded)),
        num_warps=_WARPS,
    )
    return out
