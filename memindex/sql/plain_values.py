"""Values of Arrow as JSON has them: maps become objects, numbers that are none become texts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

#: Made once: json.dumps would make an encoder for each row.
encode = json.JSONEncoder(ensure_ascii=False).encode


def json_number(value: float) -> float | str:
    """The number, or its name where JSON has no number for it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """Row by row as tuples: two columns may have one name, and a dict would keep only one of them."""
    return zip(*(values(column) for column in batch.columns), strict=True)


def values(column: pa.Array) -> list[Any]:
    """The column's values as JSON has them."""
    plain = _converter(column.type)
    found: list[Any] = column.to_pylist()
    return found if plain is None else [None if value is None else plain(value) for value in found]


def _converter(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """What turns a value of Arrow's type into what JSON has: maps into objects, NaN into a text; None: nothing."""
    import pyarrow as pa  # commands that print single numbers use this module, too, and don't wait for Arrow

    if pa.types.is_floating(kind):
        return json_number
    if pa.types.is_decimal(kind):
        return int if kind.scale == 0 else float
    if pa.types.is_map(kind):
        key, item = _inside(kind.key_type), _inside(kind.item_type)
        return lambda value: {_key(key(k)): item(v) for k, v in value}
    if pa.types.is_struct(kind):
        fields = {field.name: _inside(field.type) for field in kind}
        return lambda value: {name: fields[name](v) for name, v in value.items()}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        child = _inside(kind.value_type)
        return None if _converter(kind.value_type) is None else lambda value: [child(v) for v in value]
    return None


def _inside(kind: pa.DataType) -> Callable[[Any], Any]:
    """The same for values within others, where NULL stands beside them."""
    plain = _converter(kind)
    return lambda value: value if plain is None or value is None else plain(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else encode(key)
