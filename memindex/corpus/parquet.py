"""Parquet files (The Stack, StarCoderData, FineWeb): one document a row."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memindex.corpus.documents import BATCH_BYTES, SCHEMA, BadDocuments, BytesRead, SourceFile, repeat
from memindex.errors import CorpusError

#: Rows read at a time, at most; fewer when documents are long.
MOST_ROWS = 16_384

#: What Arrow raises on damaged files; names that are no UTF-8 come as Python's own error.
UNREADABLE = (OSError, pa.ArrowException, UnicodeDecodeError)


def read_parquet(
    source: SourceFile, text_field: str, domain_field: str | None, bad: BadDocuments, read: BytesRead
) -> Iterator[pa.RecordBatch]:
    """Yield the documents of one file; raises CorpusError with file and row."""
    try:
        file = pq.ParquetFile(source.file, page_checksum_verification=True)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CorpusError(f"{source.file}: not a readable Parquet file: {_first_line(error)}") from None
    _check_columns(file.schema_arrow.names, source, text_field, domain_field)
    row, rows, size = 1, file.metadata.num_rows, source.file.stat().st_size
    try:
        for batch in file.iter_batches(batch_size=_rows_per_batch(file)):
            # Columns lie apart in the file, so its rows say how far the reading is.
            read.inside = size * (row - 1 + len(batch)) // rows
            yield _documents(batch, source, text_field, domain_field, row, bad)
            row += len(batch)
    except UNREADABLE as error:
        raise CorpusError(f"{source.file}: near row {row}: {_first_line(error)}") from None


def _check_columns(names: list[str], source: SourceFile, text_field: str, domain_field: str | None) -> None:
    for name in filter(None, (text_field, domain_field)):
        if name.split(".")[0] not in names:
            raise CorpusError(f"{source.file}: no column {name}; it has {', '.join(names)}")
    if len(set(names)) < len(names):
        raise CorpusError(f"{source.file}: two columns have the same name: {', '.join(names)}")


def _documents(
    batch: pa.RecordBatch,
    source: SourceFile,
    text_field: str,
    domain_field: str | None,
    first_row: int,
    bad: BadDocuments,
) -> pa.RecordBatch:
    text = _strings(_column(batch, text_field, source), text_field, source)
    rows = np.arange(first_row, first_row + len(batch), dtype=np.int64)
    wrong = _wrong(text)
    if domain_field:
        domain = _label(_column(batch, domain_field, source), domain_field, source)
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
            text.cast(pa.large_binary()),
            domain,
            repeat(source.name, len(batch), pa.string()),
            pa.array(rows),
            _leftover_json(batch, text_field, source),
        ],
        schema=SCHEMA,
    )


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
            f"{source.file}: the columns beside the text can't become JSON: {_first_line(error)}"
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


def _rows_per_batch(file: pq.ParquetFile) -> int:
    rows, size = (
        file.metadata.num_rows,
        sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)),
    )
    return int(np.clip(BATCH_BYTES * rows // max(size, 1), 1, MOST_ROWS))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
