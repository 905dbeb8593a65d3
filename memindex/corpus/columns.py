"""From the columns of a table file (Parquet, Arrow) to documents: one document a row."""

from __future__ import annotations

import json

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
from memindex.errors import CorpusError, first_line


def check_columns(names: list[str], source: SourceFile, options: ReadOptions) -> None:
    """Raise CorpusError when a table lacks a column that is asked for, or has two of one name."""
    for name in filter(None, (options.text_field, options.domain_field)):
        if name.split(".")[0] not in names:
            raise CorpusError(f"{source.file}: no column {name}; it has {', '.join(names)}")
    if len(set(names)) < len(names):
        raise CorpusError(f"{source.file}: two columns have the same name: {', '.join(names)}")


def documents_of(
    batch: pa.RecordBatch, source: SourceFile, options: ReadOptions, first_row: int, bad: BadDocuments
) -> pa.RecordBatch:
    """The rows of a table as documents (`documents.SCHEMA`, or TOKENS_SCHEMA where the text is a list of ids).

    Args:
        batch: All columns.
        source: The file.
        options: Where text and domain stand.
        first_row: Number of the first row in the file, from 1.
        bad: Told about rows that are no documents.
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
            _leftover_json(batch, options.text_field, source),
        ],
        schema=TOKENS_SCHEMA if tokenized else SCHEMA,
    )


def _is_list_of_ids(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_integer(kind.value_type))


def _ids(column: pa.Array, source: SourceFile, first_row: int) -> pa.Array:
    """Lists of token ids as large_list<uint32>."""
    try:
        ids = column.cast(TOKENS_SCHEMA.field("tokens").type)
    except pa.ArrowInvalid:
        raise CorpusError(f"{source.file}: near row {first_row}: a token id is negative or beyond 2^32") from None
    if ids.flatten().null_count:
        raise CorpusError(f"{source.file}: near row {first_row}: a token id is NULL")
    return ids


def _column(batch: pa.RecordBatch, dotted: str, source: SourceFile) -> pa.Array:
    first, *inner = dotted.split(".")
    column = batch.column(first)
    for name in inner:
        if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
            raise CorpusError(f"{source.file}: no column {dotted}: {first} is {column.type}")
        column = pc.struct_field(column, name)
    return column


def _strings(column: pa.Array, name: str, source: SourceFile) -> pa.Array:
    """A column of text in any of its encodings, as large_string."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
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


def _leftover_json(batch: pa.RecordBatch, text_field: str, source: SourceFile) -> pa.Array:
    """All fields but the text as one JSON object a row; DuckDB writes JSON of any Arrow type."""
    import duckdb

    names, columns = _leftover(batch, text_field.split("."))
    if not names:
        return repeat("{}", len(batch), pa.large_string())
    # DuckDB takes "Lang" and "lang" for the same column, so columns get names of their own and keys are spelt out.
    leftover = pa.table(columns, names=[f"c{i}" for i in range(len(columns))])
    pairs = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}', c{i}" for i, name in enumerate(names))
    try:
        with duckdb.connect() as connection:
            connection.register("leftover", leftover)
            query = f"SELECT CAST(json_object({pairs}) AS VARCHAR) AS j FROM leftover"
            table = connection.sql(query).to_arrow_table()
    except duckdb.Error as error:
        raise CorpusError(
            f"{source.file}: the columns beside the text can't become JSON: {first_line(error)}"
        ) from None
    return _without_nan(pa.array(table.column("j").combine_chunks(), pa.large_string()))


def _leftover(batch: pa.RecordBatch | pa.StructArray, text_path: list[str]) -> tuple[list[str], list[pa.Array]]:
    """Names and columns without the text, whose neighbours in a nested column stay."""
    first, *inner = text_path
    names, columns = [], []
    for i, field in enumerate(batch.schema if isinstance(batch, pa.RecordBatch) else batch.type):
        column = batch.column(i) if isinstance(batch, pa.RecordBatch) else pc.struct_field(batch, [i])
        if field.name == first and not inner:
            continue
        if field.name == first:
            below, fields = _leftover(column, inner)
            # A struct without fields can't be written as JSON by DuckDB.
            if not below:
                continue
            column = pa.StructArray.from_arrays(fields, names=below)
        names.append(field.name)
        columns.append(column)
    return names, columns


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
