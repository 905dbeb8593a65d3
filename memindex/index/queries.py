"""Whatever a caller may ask with becomes one ragged batch of uint32 ids, or a QueryError that says why not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from memindex.errors import QueryError
from memindex.ragged import Ragged, from_arrow, from_lists, from_matrix

if TYPE_CHECKING:
    from memindex.index.index import Queries

#: Iterable, but not lists of queries: bytes would be taken for ids, and the others have no order.
NO_LISTS = (bytes, bytearray, memoryview, Mapping, Set)

#: Arrow's types of texts.
TEXTS = ("string", "large_string", "string_view")


def as_batch(queries: Queries, tokenize: Callable[[Sequence[str]], Ragged]) -> Ragged:
    """The batch of ids a caller means; values uint32, offsets int64, both contiguous."""
    if isinstance(queries, Ragged):
        ragged = queries
    elif isinstance(queries, str):
        ragged = tokenize([queries])
    elif isinstance(queries, np.ndarray) and queries.dtype.kind in "OTU" and queries.ndim == 1:
        ragged = _from_sequence(queries.tolist(), tokenize)
    elif isinstance(queries, np.ndarray):
        ragged = from_matrix(queries.reshape(1, -1) if queries.ndim == 1 else queries)
    elif hasattr(queries, "type") and hasattr(queries, "null_count"):
        ragged = _from_arrow(queries, tokenize)
    else:
        ragged = _from_sequence(queries, tokenize)
    return Ragged(_as_uint32(ragged.values), _as_int64(ragged.offsets))


def as_texts(texts: Any) -> list[str]:
    """The texts a caller means: one text, a list of texts, or an array of texts (NumPy, Arrow)."""
    if isinstance(texts, str):
        return [texts]
    if hasattr(texts, "type") and hasattr(texts, "null_count"):
        texts = _without_dictionary(texts)
        if str(texts.type) not in TEXTS:
            raise QueryError(f"only texts can be tokenized, not an Arrow array of {texts.type}")
        return _arrow_texts(texts)
    if isinstance(texts, NO_LISTS) or not isinstance(texts, Iterable):
        raise QueryError(f"can't tokenize a {type(texts).__name__}: give a text or a list of texts")
    rows = list(texts)
    other = next((kind for kind in set(map(type, rows)) if not issubclass(kind, str)), None)
    if other is not None:
        raise QueryError(f"can't tokenize a list that holds a {other.__name__}: give a text or a list of texts")
    return rows


def _without_dictionary(queries: Any) -> Any:
    """Arrow's dictionary encoding is about storage; the values are what is meant."""
    if not str(queries.type).startswith("dictionary"):
        return queries
    return queries.cast(queries.type.value_type)


def _from_arrow(queries: Any, tokenize: Callable[[Sequence[str]], Ragged]) -> Ragged:
    queries = _without_dictionary(queries)
    return tokenize(_arrow_texts(queries)) if str(queries.type) in TEXTS else from_arrow(queries)


def _arrow_texts(texts: Any) -> list[str]:
    if texts.null_count:
        raise QueryError("a list of queries contains NULL; filter it out first")
    listed: list[str] = texts.to_pylist()
    return listed


def _from_sequence(queries: Any, tokenize: Callable[[Sequence[str]], Ragged]) -> Ragged:
    if isinstance(queries, NO_LISTS):
        raise QueryError(f"can't ask with a {type(queries).__name__}: give texts or token ids")
    try:
        rows = list(queries)
    except TypeError:
        raise QueryError(f"can't ask with a {type(queries).__name__}: give texts or token ids") from None
    kinds = set(map(type, rows))
    if all(issubclass(kind, str) for kind in kinds):
        return tokenize(rows)
    if _are_integers(kinds):
        rows = [rows]
    elif not _are_rows(rows, kinds):
        raise QueryError("a list of queries holds either texts, or lists of whole numbers (token ids)")
    try:
        return from_lists(rows)
    except OverflowError:
        raise QueryError("a token id is out of range: ids are below 2^32") from None


def _are_rows(rows: list[Any], kinds: set[type]) -> bool:
    """Whether every row is a list of whole numbers."""
    if any(issubclass(kind, str | Mapping | Set | bytes | bytearray) for kind in kinds):
        return False
    if not all(hasattr(kind, "__len__") and hasattr(kind, "__iter__") for kind in kinds):
        return False
    if np.ndarray in kinds and not all(row.ndim == 1 for row in rows if isinstance(row, np.ndarray)):
        return False
    return _are_integers(_kinds_in(rows))


def _kinds_in(rows: Iterable[Any]) -> set[type]:
    return set(map(type, chain.from_iterable(rows)))


def _are_integers(kinds: set[type]) -> bool:
    return all(issubclass(kind, int | np.integer) and not issubclass(kind, bool) for kind in kinds)


def _as_uint32(values: Any) -> np.ndarray:
    ids = np.asarray(values)
    if np.ma.isMaskedArray(values):
        raise QueryError("token ids are masked: fill or drop the masked ones first")
    if ids.dtype.kind not in "iu":
        raise QueryError(f"token ids must be whole numbers, not {ids.dtype}")
    if ids.ndim != 1:
        raise QueryError(f"the values of a ragged batch need shape (ids,), not {ids.shape}")
    if ids.dtype != np.uint32 and len(ids):
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high > 0xFFFFFFFF:
            raise QueryError(f"token id {low if low < 0 else high} is out of range")
    return np.ascontiguousarray(ids, dtype=np.uint32)


def _as_int64(given: Any) -> np.ndarray:
    offsets = np.asarray(given)
    if offsets.dtype.kind not in "iu":
        raise QueryError(f"offsets of a ragged batch must be whole numbers, not {offsets.dtype}")
    if offsets.ndim != 1 or len(offsets) == 0:
        raise QueryError("offsets of a ragged batch need shape (rows + 1,)")
    return np.ascontiguousarray(offsets, dtype=np.int64)
