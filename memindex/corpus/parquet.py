"""Parquet files (The Stack, StarCoderData, FineWeb): one document a row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memindex.corpus.columns import check_columns, documents_of
from memindex.corpus.documents import BATCH_BYTES, BadDocuments, BytesRead, ReadOptions, SourceFile
from memindex.corpus.leftover import Leftover
from memindex.corpus.slices import joined, sizes, slices
from memindex.corpus.streams import arrow_file
from memindex.errors import CorpusError, first_line

#: Rows read at a time, at most; fewer when documents are long.
MOST_ROWS = 16_384

#: Of each column this much is read ahead; without it a column of a whole row group would be.
BUFFER_BYTES = 1 << 20

#: Rows are decoded by about this many bytes at a time, on average: fewer than a batch, for their lengths differ.
READ_BYTES = BATCH_BYTES // 2

#: Bytes that rows may decode to when a column stores a long text once for many of them.
MOST_DECODED = 48 << 20

#: The longest such text, where the file does not show it.
GUESSED_LENGTH = 1 << 20

#: Bytes of the values of fixed width.
_WIDTHS = {"INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}

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
        check_columns(file.schema_arrow, source, options)
        row, rows, size, leftover = 1, file.metadata.num_rows, source.bytes, Leftover(source)
        try:
            for batch in joined(_batches(file, raw), BATCH_BYTES, MOST_ROWS):
                # Columns lie apart in the file, so its rows say how far the reading is.
                read.inside = size * (row - 1 + len(batch)) // rows
                yield documents_of(batch, source, options, row, bad, leftover)
                row += len(batch)
        except UNREADABLE as error:
            raise CorpusError(f"{source.file}: near row {row}: {first_line(error)}") from None


def _batches(file: pq.ParquetFile, raw: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """The rows of a file, at most about BATCH_BYTES of them at a time, decoded."""
    longest = _LongestValue(file, raw)
    for group in range(file.metadata.num_row_groups):
        rows = _rows_per_batch(file, group, longest)
        for batch in file.iter_batches(batch_size=rows, row_groups=[group]):
            yield from slices(batch, BATCH_BYTES)


def _rows_per_batch(file: pq.ParquetFile, group: int, longest: _LongestValue) -> int:
    """Rows of a row group to decode at once."""
    metadata = file.metadata.row_group(group)
    rows, chunks = metadata.num_rows, [metadata.column(i) for i in range(metadata.num_columns)]
    # Numbers take their width once they are decoded, however well they are packed.
    size = sum(max(c.total_uncompressed_size, c.num_values * _WIDTHS.get(c.physical_type, 0)) for c in chunks)
    most: int = int(np.clip(READ_BYTES * rows // max(size, 1), 1, MOST_ROWS))
    for number, chunk in enumerate(chunks):
        packed = any("DICTIONARY" in encoding or encoding == "DELTA_BYTE_ARRAY" for encoding in chunk.encodings)
        if chunk.physical_type != "BYTE_ARRAY" or not packed:
            continue
        # A text that is stored once may be the text of every row; no text is larger than its column.
        values = -(-chunk.num_values // max(rows, 1))
        if min(most, rows) * values * chunk.total_uncompressed_size > MOST_DECODED:
            most = min(most, max(1, MOST_DECODED // max(1, values * longest.of(group, number))))
    return most


class _LongestValue:
    """The longest of the values that a column of a row group stores once for many rows."""

    def __init__(self, file: pq.ParquetFile, raw: pa.NativeFile) -> None:
        self._metadata, self._raw = file.metadata, raw
        self._files: dict[int, pq.ParquetFile] = {}

    def of(self, group: int, number: int) -> int:
        """Its size in bytes; a guess where the file does not show it."""
        chunk = self._metadata.row_group(group).column(number)
        guess: int = min(chunk.total_uncompressed_size, GUESSED_LENGTH)
        if not any("DICTIONARY" in encoding for encoding in chunk.encodings):
            return guess
        path = chunk.path_in_schema
        if number not in self._files:
            self._files[number] = pq.ParquetFile(
                self._raw,
                metadata=self._metadata,
                read_dictionary=[path],
                buffer_size=BUFFER_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
            )
        # One row comes with the dictionary of its column.
        column = next(self._files[number].iter_batches(batch_size=1, row_groups=[group], columns=[path])).column(0)
        while not pa.types.is_dictionary(column.type):
            if not column.type.num_fields:
                return guess
            column = column.field(0) if pa.types.is_struct(column.type) else column.values
        return int(sizes(column.dictionary).max()) if len(column.dictionary) else guess
