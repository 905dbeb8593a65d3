"""From the columns of a table file (Parquet, Arrow) to documents: one document a row."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memindex.corpus.documents import (
    SCHEMA,
    TOKENS_SCHEMA,
    BadDocuments,
    ReadOptions,
    SourceFile,
    repeat,
)
from memindex.corpus.leftover import Leftover
from memindex.corpus.slices import decoded
from memindex.errors import CorpusError

#: Columns that an error names, at most.
MOST_NAMES = 30


def check_columns(schema: pa.Schema, source: SourceFile, options: ReadOptions) -> None:
    """Raise CorpusError when a table lacks a column that is asked for, or has two of one name."""
    names = schema.names
    if len(set(names)) < len(names):
        raise CorpusError(f"{source.file}: two columns have the same name: {', '.join(names)}")
    for name in filter(None, (options.text_field, options.domain_field)):
        if column_path(schema, name) is None:
            raise CorpusError(f"{source.file}: no column {name}; it has {_names_of(schema)}")


def column_path(fields: pa.Schema | pa.StructType, dotted: str) -> list[str] | None:
    """The names of the columns, from outer to inner, that a dotted path leads through; None when there are none.

    A name may hold dots itself: at each level the longest name that fits is taken, so that the exact name comes first.
    """
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        at = fields.get_field_index(name)
        if at < 0:
            continue
        if length == len(parts):
            return [name]
        kind = _plain_type(fields.field(at).type)
        below = column_path(kind, ".".join(parts[length:])) if pa.types.is_struct(kind) else None
        if below:
            return [name, *below]
    return None


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values of a column that is dictionary or run-end encoded."""
    while pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    return kind


def _names_of(fields: pa.Schema | pa.StructType) -> str:
    names = list(itertools.islice(_leaves(fields, ""), MOST_NAMES + 1))
    return ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")


def _leaves(fields: pa.Schema | pa.StructType, prefix: str) -> Iterator[str]:
    for field in fields:
        kind = _plain_type(field.type)
        if pa.types.is_struct(kind):
            yield from _leaves(kind, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def documents_of(
    batch: pa.RecordBatch,
    source: SourceFile,
    options: ReadOptions,
    first_row: int,
    bad: BadDocuments,
    leftover: Leftover,
) -> pa.RecordBatch:
    """The rows of a table as documents (`documents.SCHEMA`, or TOKENS_SCHEMA where the text is a list of ids).

    Args:
        batch: All columns; none is dictionary or run-end encoded.
        source: The file.
        options: Where text and domain stand.
        first_row: Number of the first row in the file, from 1.
        bad: Told about rows that are no documents.
        leftover: Writes the metadata.
    """
    text = _column(batch, options.text_field, source)
    tokenized = _is_list_of_ids(text.type)
    text = _ids(text, source, first_row) if tokenized else _strings(text, options.text_field, source)
    rows = np.arange(first_row, first_row + len(batch), dtype=np.int64)
    wrong = text.is_null() if tokenized else _wrong(text)
    if options.domain_field:
        domain = _label(_column(batch, options.domain_field, source), options.domain_field, source)
        wrong = pc.or_(wrong, _wrong(domain))
    else:
        domain = repeat(source.folder, len(batch), pa.large_string())
    for number in rows[wrong.to_numpy(zero_copy_only=False)]:
        bad.report(f"{source.file}: row {number}", "the text or the domain is NULL or not UTF-8")
    if pc.any(wrong).as_py():
        good = pc.invert(wrong)
        batch, text, domain, rows = (
            batch.filter(good),
            text.filter(good),
            domain.filter(good),
            rows[good.to_numpy(False)],
        )
    return pa.record_batch(
        [
            text if tokenized else text.cast(pa.large_binary()),
            domain,
            repeat(source.name, len(batch), pa.string()),
            pa.array(rows),
            leftover.objects(batch, column_path(batch.schema, options.text_field) or []),
        ],
        schema=TOKENS_SCHEMA if tokenized else SCHEMA,
    )


def _is_list_of_ids(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    is_list = is_list or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    return bool(is_list and pa.types.is_integer(kind.value_type))


def _ids(column: pa.Array, source: SourceFile, first_row: int) -> pa.Array:
    """Lists of token ids as large_list<uint32>."""
    if pa.types.is_list_view(column.type) or pa.types.is_large_list_view(column.type):
        # Arrow's cast of a slice of views loses values.
        lengths = pc.list_value_length(column).cast(pa.int64())
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths.fill_null(0))]), pa.int64())
        column = pa.LargeListArray.from_arrays(offsets, column.flatten(), mask=column.is_null())
    try:
        ids = column.cast(TOKENS_SCHEMA.field("tokens").type)
    except pa.ArrowInvalid:
        raise CorpusError(f"{source.file}: near row {first_row}: a token id is negative or beyond 2^32") from None
    if ids.flatten().null_count:
        raise CorpusError(f"{source.file}: near row {first_row}: a token id is NULL")
    return ids


def _column(batch: pa.RecordBatch, dotted: str, source: SourceFile) -> pa.Array:
    path = column_path(batch.schema, dotted)
    if path is None:
        raise CorpusError(f"{source.file}: no column {dotted}; it has {_names_of(batch.schema)}")
    column = batch.column(path[0])
    for name in path[1:]:
        column = pc.struct_field(column, [column.type.get_field_index(name)])
    return decoded(column)


def _strings(column: pa.Array, name: str, source: SourceFile) -> pa.Array:
    """A column of text in any of its encodings, as large_string."""
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise CorpusError(f"{source.file}: the column {name} is {kind}, not text")
    return column.cast(pa.large_string())


def _label(column: pa.Array, name: str, source: SourceFile) -> pa.Array:
    """A column of domains, as large_string: text, or numbers, booleans and dates as they are written."""
    kind = column.type
    if pa.types.is_primitive(kind) or pa.types.is_null(kind):
        return column.cast(pa.large_string())
    return _strings(column, name, source)


def _wrong(strings: pa.Array) -> pa.Array:
    """Where a string is NULL or, which Arrow does not check on reading, not UTF-8."""
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        return pa.array([not _is_text(value) for value in strings.cast(pa.large_binary()).to_pylist()])
    return strings.is_null()


def _is_text(value: bytes | None) -> bool:
    try:
        return value is not None and value.decode("utf-8") is not None
    except UnicodeDecodeError:
        return False
