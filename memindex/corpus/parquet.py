"""Parquet files (The Stack, StarCoderData, FineWeb): one document a row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memindex.corpus.documents import BATCH_BYTES, SCHEMA, BadDocuments, SourceFile, repeat
from memindex.errors import CorpusError

#: Rows read at a time, at most; fewer when documents are long.
MOST_ROWS = 16_384


def read_parquet(
    source: SourceFile, text_field: str, domain_field: str | None, bad: BadDocuments
) -> Iterator[pa.RecordBatch]:
    """Yield the documents of one file; raises CorpusError with file and row."""
    try:
        file = pq.ParquetFile(source.file)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise CorpusError(f"{source.file}: not a readable Parquet file: {_first_line(error)}") from None
    schema = file.schema_arrow
    for name in filter(None, (text_field, domain_field)):
        if name.split(".")[0] not in schema.names:
            raise CorpusError(f"{source.file}: no column {name}; it has {', '.join(schema.names)}")
    row = 1
    try:
        for batch in file.iter_batches(batch_size=_rows_per_batch(file)):
            yield _documents(batch, source, text_field, domain_field, row, bad)
            row += len(batch)
    except OSError as error:
        raise CorpusError(f"{source.file}: near row {row}: {_first_line(error)}") from None


def _documents(
    batch: pa.RecordBatch,
    source: SourceFile,
    text_field: str,
    domain_field: str | None,
    first_row: int,
    bad: BadDocuments,
) -> pa.RecordBatch:
    text = _column(batch, text_field, source)
    if not (pa.types.is_string(text.type) or pa.types.is_large_string(text.type)):
        raise CorpusError(f"{source.file}: the column {text_field} is {text.type}, not text")
    rows = np.arange(first_row, first_row + len(batch), dtype=np.int64)
    missing = text.is_null()
    if domain_field:
        domain = _column(batch, domain_field, source).cast(pa.large_string())
        missing = pc.or_(missing, domain.is_null())
    else:
        domain = repeat(source.folder, len(batch), pa.large_string())
    for number in rows[missing.to_numpy(zero_copy_only=False)]:
        bad.report(f"{source.file}: row {number}", "the text or the domain is NULL")
    made = pa.record_batch(
        [
            text.cast(pa.large_string()).cast(pa.large_binary()).fill_null(b""),
            domain.fill_null(""),
            repeat(source.name, len(batch), pa.string()),
            pa.array(rows),
            _leftover_json(batch, text_field),
        ],
        schema=SCHEMA,
    )
    return made.filter(pc.invert(missing))


def _column(batch: pa.RecordBatch, dotted: str, source: SourceFile) -> pa.Array:
    first, *inner = dotted.split(".")
    column = batch.column(first)
    for name in inner:
        if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
            raise CorpusError(f"{source.file}: no column {dotted}: {first} is {column.type}")
        column = pc.struct_field(column, name)
    return column


def _leftover_json(batch: pa.RecordBatch, text_field: str) -> pa.Array:
    """All other columns as one JSON object a row; DuckDB writes JSON of any Arrow type."""
    import duckdb

    others = [name for name in batch.schema.names if name != text_field.split(".", maxsplit=1)[0]]
    if not others:
        return repeat("{}", len(batch), pa.large_string())
    leftover = pa.Table.from_batches([batch]).select(others)
    with duckdb.connect() as connection:
        connection.register("leftover", leftover)
        query = "SELECT CAST(to_json(leftover) AS VARCHAR) AS j FROM leftover"
        table = connection.sql(query).to_arrow_table()
    return table.column("j").combine_chunks().cast(pa.large_string())


def _rows_per_batch(file: pq.ParquetFile) -> int:
    rows, size = (
        file.metadata.num_rows,
        sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)),
    )
    return int(np.clip(BATCH_BYTES * rows // max(size, 1), 1, MOST_ROWS))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
