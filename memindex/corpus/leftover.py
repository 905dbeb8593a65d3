"""The columns of a table beside the text, as one JSON object a row.

DuckDB writes JSON of most Arrow types. A column that it refuses is written here, value by value; a value that has no
JSON is omitted, with one warning a column.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import uuid
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memindex.corpus.documents import SourceFile, repeat
from memindex.errors import first_line

#: What Arrow and Python raise for a value that has no JSON.
_NO_JSON = (ValueError, TypeError, OverflowError, KeyError, NotImplementedError, RecursionError, pa.ArrowException)


class Leftover:
    """Writes the columns beside the text of one file, and remembers which of them DuckDB does not write."""

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._odd: set[str] = set()
        self._reported: set[str] = set()

    def objects(self, batch: pa.RecordBatch, text_path: Sequence[str]) -> pa.Array:
        """All columns but the text as one JSON object a row: large_string.

        Args:
            batch: All columns.
            text_path: Name of the column of the text; names of the fields that lead to it where it is nested.
        """
        import duckdb

        names, columns = _without_text(batch, text_path)
        if not names:
            return repeat("{}", len(batch), pa.large_string())
        self._odd.update(name for name, column in zip(names, columns, strict=True) if _is_odd(column))
        if not self._odd:
            try:
                return _without_nan(_objects(names, columns))
            except duckdb.Error:
                pass
        return self._joined(names, columns)

    def _joined(self, names: list[str], columns: list[pa.Array]) -> pa.Array:
        """The objects from the texts of single columns."""
        open_, comma, close, nothing = (pa.scalar(mark, pa.large_string()) for mark in ("{", ",", "}", ""))
        pieces = []
        for name, column in zip(names, columns, strict=True):
            key = pa.scalar(json.dumps(name, ensure_ascii=False) + ":", pa.large_string())
            pieces.append(pc.binary_join_element_wise(key, self._texts(name, column), nothing))
        # The function takes a single column and a separator for a single row.
        alone = len(pieces) == 1
        inner = pieces[0] if alone else pc.binary_join_element_wise(*pieces, comma, null_handling="skip")
        inner = inner.fill_null("")
        return _without_nan(pc.binary_join_element_wise(open_, inner, close, nothing))

    def _texts(self, name: str, column: pa.Array) -> pa.Array:
        """JSON of each value of a column; NULL where a value has none."""
        import duckdb

        if name not in self._odd:
            try:
                return _values(column)
            except duckdb.Error:
                self._odd.add(name)
        if pa.types.is_decimal(column.type):
            return column.cast(pa.string()).cast(pa.large_string()).fill_null("null")
        texts, reason = _texts(column)
        if reason and name not in self._reported:
            self._reported.add(name)
            warnings.warn(
                f"{self._source.file}: column {name} ({column.type}): values that can't be written as JSON are "
                f"omitted from the metadata: {reason}",
                stacklevel=2,
            )
        return texts


def _without_text(batch: pa.RecordBatch | pa.StructArray, path: Sequence[str]) -> tuple[list[str], list[pa.Array]]:
    """Names and columns without the text, whose neighbours in a nested column stay."""
    first, *inner = path
    names, columns = [], []
    for i, field in enumerate(batch.schema if isinstance(batch, pa.RecordBatch) else batch.type):
        column = batch.column(i) if isinstance(batch, pa.RecordBatch) else pc.struct_field(batch, [i])
        if field.name == first and not inner:
            continue
        if field.name == first:
            below, fields = _without_text(column, inner)
            # A struct without fields can't be written as JSON by DuckDB.
            if not below:
                continue
            column = pa.StructArray.from_arrays(fields, names=below)
        names.append(field.name)
        columns.append(column)
    return names, columns


def _is_odd(column: pa.Array) -> bool:
    """Whether DuckDB would write something else than the values: unions, and strings that are not UTF-8."""
    if _holds_union(column.type):
        return True
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return True
    return False


def _holds_union(kind: pa.DataType) -> bool:
    return pa.types.is_union(kind) or any(_holds_union(kind.field(i).type) for i in range(kind.num_fields))


def _objects(names: list[str], columns: list[pa.Array]) -> pa.Array:
    # DuckDB takes "Lang" and "lang" for the same column, so columns get names of their own and keys are spelt out.
    pairs = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}', c{i}" for i, name in enumerate(names))
    return _queried(columns, f"json_object({pairs})")


def _values(column: pa.Array) -> pa.Array:
    return _queried([column], "coalesce(to_json(c0), 'null')")


def _queried(columns: list[pa.Array], expression: str) -> pa.Array:
    """An expression over the columns c0, c1, …, as large_string."""
    import duckdb

    leftover = pa.table(columns, names=[f"c{i}" for i in range(len(columns))])
    with duckdb.connect() as connection:
        connection.register("leftover", leftover)
        table = connection.sql(f"SELECT CAST({expression} AS VARCHAR) AS j FROM leftover").to_arrow_table()
    if len(table) != len(leftover):
        raise duckdb.Error("not a value for each row")
    return pa.array(table.column("j").combine_chunks(), pa.large_string())


def _texts(column: pa.Array) -> tuple[pa.Array, str]:
    """JSON of each value, NULL where it has none; and why, of the first such value."""
    texts: list[str | None] = []
    reason = ""
    with warnings.catch_warnings():
        # Of equal keys in a map, the last one counts, as in JSON lines.
        warnings.filterwarnings("ignore", "Encountered key")
        for scalar in column:
            try:
                texts.append(_json(scalar.as_py(maps_as_pydicts="lossy")))
            except _NO_JSON as error:
                reason = reason or first_line(error)
                texts.append(None)
    return pa.array(texts, pa.large_string()), reason


def _json(value: Any) -> str:
    """A value as JSON; raises one of _NO_JSON when it has none."""
    if isinstance(value, dict):
        pairs = (f"{_key(name)}:{_json(inner)}" for name, inner in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_json, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "null"
    if value is None or isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False)
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return write(value)
    raise TypeError(f"{type(value).__name__} has no JSON")


def _key(name: Any) -> str:
    return json.dumps(name if isinstance(name, str) else _json(name).strip('"'), ensure_ascii=False)


def _bytes(value: bytes) -> str:
    """Bytes as DuckDB writes them: in hexadecimal, except for printable ones."""
    return json.dumps("".join(chr(b) if 32 <= b < 127 and b not in b"\"'\\" else f"\\x{b:02X}" for b in value))


def _quoted(value: object) -> str:
    return json.dumps(str(value))


_WRITERS: dict[type, Callable[[Any], str]] = {
    bytes: _bytes,
    decimal.Decimal: str,
    datetime.date: _quoted,
    datetime.time: _quoted,
    datetime.timedelta: _quoted,
    uuid.UUID: _quoted,
}


def _without_nan(objects: pa.Array) -> pa.Array:
    """JSON has no NaN and no infinity, though DuckDB writes them: they become null."""
    suspect = pc.match_substring_regex(objects, r"[:,\[](NaN|-?Infinity)")
    if not pc.any(suspect).as_py():
        return objects
    mended = [
        json.dumps(json.loads(text, parse_constant=lambda _: None), ensure_ascii=False)
        for text in objects.filter(suspect).to_pylist()
    ]
    return pc.replace_with_mask(objects, suspect, pa.array(mended, pa.large_string()))
