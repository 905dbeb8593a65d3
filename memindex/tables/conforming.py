"""Data of any batch form as an Arrow table of exactly a table's schema, or one line that says what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memindex.errors import MemindexError
from memindex.ragged import Ragged, from_matrix
from memindex.tables.schema import Column, Table


def conform(table: Table, data: pa.Table | Mapping[str, Any]) -> pa.Table:
    """The data as an Arrow table of exactly the table's schema."""
    columns = dict(zip(data.column_names, data.columns, strict=True)) if isinstance(data, pa.Table) else dict(data)
    columns |= _lengths(table, columns)
    names = [column.name for column in table.columns]
    missing = [name for name in names if name not in columns]
    extra = [name for name in columns if name not in names]
    if missing or extra or (isinstance(data, pa.Table) and len(set(data.column_names)) != data.num_columns):
        wrong = [f"lacks {', '.join(missing)}"] if missing else []
        wrong += [f"has unknown columns {', '.join(extra)}"] if extra else []
        raise MemindexError(f"table {table.name}: the data {' and '.join(wrong) or 'repeats a column'}")
    arrays = [_conform_column(table, column, columns[column.name]) for column in table.columns]
    lengths = {name: len(array) for name, array in zip(names, arrays, strict=True)}
    if len(set(lengths.values())) > 1:
        raise MemindexError(f"table {table.name}: columns differ in length: {lengths}")
    return pa.Table.from_arrays(arrays, schema=table.schema())


def _lengths(table: Table, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that tell the length of a list."""
    lists = {c.name: c for c in table.columns}
    return {
        c.name: pc.list_value_length(_conform_column(table, lists[c.length_of], columns[c.length_of]))
        for c in table.columns
        if c.length_of in columns
    }


def completed(table: Table, contents: pa.Table) -> pa.Table:
    """The columns of a table in their order.

    Those that older files lack may be missing before: what tells the length of a list, and what may be NULL.
    """
    columns = dict(zip(contents.column_names, contents.columns, strict=True))
    columns |= _lengths(table, columns)
    for column in table.columns:
        if column.nullable and column.name not in columns:
            columns[column.name] = pa.nulls(len(contents), column.type)
    return pa.table({column.name: columns[column.name] for column in table.columns})


def _conform_column(table: Table, column: Column, values: Any) -> pa.ChunkedArray:
    try:
        array = _arrow(column, values)
        if not _same_kind(array.type, column.type):
            raise pa.ArrowTypeError(f"got {array.type}")
        array = array.cast(column.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise MemindexError(f"table {table.name}, column {column.name}: expected {column.type}; {error}") from None
    if array.null_count and not column.nullable:
        raise MemindexError(f"table {table.name}, column {column.name}: {array.null_count} NULL, none may be")
    if pa.types.is_list(column.type) and any(chunk.flatten().null_count for chunk in array.chunks):
        raise MemindexError(f"table {table.name}, column {column.name}: a list has a NULL inside, none may")
    return array


def _arrow(column: Column, values: Any) -> pa.ChunkedArray:
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, np.ndarray) and values.ndim == 2:
        values = from_matrix(values)
    if isinstance(values, Ragged):
        offsets = pa.array(values.offsets.astype(np.int32))
        values = pa.ListArray.from_arrays(offsets, pa.array(values.values))
    elif not isinstance(values, pa.Array):
        # Without a type first, so that a column of floats is not silently cut to integers.
        values = pa.array(values) if isinstance(values, np.ndarray) else pa.array(values, type=column.type)
    return pa.chunked_array([values])


def _same_kind(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a checked cast between the types keeps the meaning: other widths yes, other kinds no."""
    kinds = pa.types
    if kinds.is_null(given):
        return True
    if kinds.is_list(wanted):
        nested = kinds.is_list(given) or kinds.is_large_list(given) or kinds.is_fixed_size_list(given)
        return nested and _same_kind(given.value_type, wanted.value_type)
    tests = (
        kinds.is_integer,
        kinds.is_floating,
        kinds.is_boolean,
        kinds.is_timestamp,
        lambda t: kinds.is_string(t) or kinds.is_large_string(t) or kinds.is_string_view(t),
    )
    return any(test(given) and test(wanted) for test in tests)
