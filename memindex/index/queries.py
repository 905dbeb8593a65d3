"""Whatever a caller may ask with becomes one ragged batch of uint32 ids, or a QueryError that says why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memindex.errors import QueryError
from memindex.ragged import Ragged, from_arrow, from_lists, from_matrix

if TYPE_CHECKING:
    from memindex.index.index import Queries


def as_batch(queries: Queries, tokenize: Callable[[Sequence[str]], Ragged]) -> Ragged:
    """The batch of ids a caller means; values uint32, offsets int64, both contiguous."""
    if isinstance(queries, Ragged):
        ragged = queries
    elif isinstance(queries, str):
        ragged = tokenize([queries])
    elif isinstance(queries, np.ndarray):
        ragged = from_matrix(queries.reshape(1, -1) if queries.ndim == 1 else queries)
    elif hasattr(queries, "type") and hasattr(queries, "null_count"):
        ragged = from_arrow(queries)
    else:
        ragged = _from_sequence(queries, tokenize)
    return Ragged(_as_uint32(ragged.values), _checked_offsets(ragged))


def _from_sequence(queries: Any, tokenize: Callable[[Sequence[str]], Ragged]) -> Ragged:
    try:
        rows = list(queries)
    except TypeError:
        raise QueryError(f"can't ask with a {type(queries).__name__}: give texts or token ids") from None
    if all(isinstance(row, str) for row in rows):
        return tokenize(rows)
    try:
        if all(isinstance(row, int | np.integer) for row in rows):
            return from_lists([rows])
        if not all(_is_integers(row) for row in rows):
            raise TypeError
        return from_lists(rows)
    except (TypeError, ValueError, OverflowError):
        raise QueryError("a list of queries holds either texts, or lists of whole numbers (token ids)") from None


def _is_integers(row: Any) -> bool:
    if isinstance(row, np.ndarray):
        return row.ndim == 1 and row.dtype.kind in "iu"
    return not isinstance(row, str) and all(isinstance(token, int | np.integer) for token in row)


def _as_uint32(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "iu":
        raise QueryError(f"token ids must be whole numbers, not {values.dtype}")
    if values.dtype != np.uint32 and len(values):
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 0xFFFFFFFF:
            raise QueryError(f"token id {low if low < 0 else high} is out of range")
    return np.ascontiguousarray(values, dtype=np.uint32)


def _checked_offsets(ragged: Ragged) -> np.ndarray:
    offsets = np.ascontiguousarray(ragged.offsets, dtype=np.int64)
    if offsets.ndim != 1 or len(offsets) == 0:
        raise QueryError("offsets of a ragged batch need shape (rows + 1,)")
    return offsets
