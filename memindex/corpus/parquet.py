"""Parquet files (The Stack, StarCoderData, FineWeb): one document a row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memindex.corpus.columns import check_columns, documents_of
from memindex.corpus.documents import BATCH_BYTES, BadDocuments, BytesRead, ReadOptions, SourceFile
from memindex.corpus.streams import arrow_file
from memindex.errors import CorpusError, first_line

#: Rows read at a time, at most; fewer when documents are long.
MOST_ROWS = 16_384

#: Of each column this much is read ahead; without it a column of a whole row group would be.
BUFFER_BYTES = 1 << 20

#: What Arrow raises on damaged files; names that are no UTF-8 come as Python's own error.
UNREADABLE = (OSError, pa.ArrowException, UnicodeDecodeError)


def read_parquet(
    source: SourceFile, options: ReadOptions, bad: BadDocuments, read: BytesRead
) -> Iterator[pa.RecordBatch]:
    """Yield the documents of one file; raises CorpusError with file and row."""
    with arrow_file(source.file) as raw:
        try:
            file = pq.ParquetFile(raw, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
        except UNREADABLE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise CorpusError(f"{source.file}: not a readable Parquet file: {first_line(error)}") from None
        check_columns(file.schema_arrow.names, source, options)
        row, rows, size = 1, file.metadata.num_rows, source.bytes
        try:
            for batch in file.iter_batches(batch_size=_rows_per_batch(file)):
                # Columns lie apart in the file, so its rows say how far the reading is.
                read.inside = size * (row - 1 + len(batch)) // rows
                yield documents_of(batch, source, options, row, bad)
                row += len(batch)
        except UNREADABLE as error:
            raise CorpusError(f"{source.file}: near row {row}: {first_line(error)}") from None


def _rows_per_batch(file: pq.ParquetFile) -> int:
    rows, size = (
        file.metadata.num_rows,
        sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)),
    )
    return int(np.clip(BATCH_BYTES * rows // max(size, 1), 1, MOST_ROWS))
