"""Record batches of about the same size in memory, however their columns are encoded.

A dictionary or a run-end encoded column holds each value once, so a batch that is small as it is stored can be large
once it is decoded. Rows are therefore cut by their decoded size first, and each slice is decoded by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: Bytes of a value whose size is not known.
_UNKNOWN = 16


def slices(batch: pa.RecordBatch, limit: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a batch in slices of at most about `limit` bytes, or of one row.

    No column of a slice is dictionary or run-end encoded; those inside of other columns stay as they are.
    """
    if not any(map(_is_encoded, batch.schema.types)) and batch.nbytes <= limit:
        yield batch
        return
    ends = np.cumsum(sum((sizes(column) for column in batch.columns), np.zeros(len(batch), np.int64)))
    first = 0
    while first < len(batch):
        done = int(ends[first - 1]) if first else 0
        end = max(first + 1, int(np.searchsorted(ends, done + limit, side="right")))
        part = batch.slice(first, end - first)
        yield pa.record_batch([decoded(column) for column in part.columns], names=batch.schema.names)
        first = end


def joined(batches: Iterable[pa.RecordBatch], limit: int, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield small batches joined until they have `limit` bytes or `rows` rows."""
    held: list[pa.RecordBatch] = []
    size = length = 0
    for batch in batches:
        held.append(batch)
        size, length = size + batch.nbytes, length + len(batch)
        if size >= limit or length >= rows:
            yield _concatenated(held)
            held, size, length = [], 0, 0
    if held:
        yield _concatenated(held)


def _concatenated(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _is_encoded(kind: pa.DataType) -> bool:
    """Whether values of the type can be stored once for many rows."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return True
    if isinstance(kind, pa.BaseExtensionType):
        return _is_encoded(kind.storage_type)
    return any(_is_encoded(kind.field(i).type) for i in range(kind.num_fields))


def decoded(column: pa.Array) -> pa.Array:
    """The values of a column that is dictionary or run-end encoded, or both; other columns as they are."""
    while pa.types.is_dictionary(column.type) or pa.types.is_run_end_encoded(column.type):
        values, indices = _encoding(column)
        if pa.types.is_string_view(values.type):
            values = values.cast(pa.large_string())
        elif pa.types.is_binary_view(values.type):
            values = values.cast(pa.large_binary())
        column = values.take(indices)
    return column


def _encoding(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The values of an encoded column, and for each row the number of its value."""
    if pa.types.is_dictionary(column.type):
        return column.dictionary, column.indices
    places = np.arange(column.offset, column.offset + len(column))
    return column.values, pa.array(np.searchsorted(np.asarray(column.run_ends), places, side="right"))


def sizes(column: pa.Array) -> npt.NDArray[np.int64]:
    """Bytes of each value of a column once it is decoded, about."""
    kind = column.type
    if not len(column):
        return np.zeros(0, np.int64)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        values, indices = _encoding(column)
        numbers = indices.fill_null(0).to_numpy(zero_copy_only=False)
        of_rows: npt.NDArray[np.int64] = sizes(values)[numbers] if len(values) else np.zeros(len(column), np.int64)
        return of_rows
    if isinstance(column, pa.ExtensionArray):
        return sizes(column.storage)
    if pa.types.is_struct(kind):
        total = np.zeros(len(column), np.int64)
        for i in range(kind.num_fields):
            total += sizes(column.field(i))
        return total
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _sizes_of_lists(column)
    return _sizes_of_plain(column)


def _sizes_of_lists(column: pa.Array) -> npt.NDArray[np.int64]:
    offsets = column.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    inner = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    ends = np.concatenate([[0], np.cumsum(sizes(inner))])
    lengths: npt.NDArray[np.int64] = np.diff(ends[offsets - offsets[0]])
    return lengths


def _sizes_of_plain(column: pa.Array) -> npt.NDArray[np.int64]:
    kind = column.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        # A view is 16 bytes, of which the first four are the length.
        views = np.frombuffer(column.buffers()[1], dtype=np.int32).reshape(-1, 4)
        return views[column.offset : column.offset + len(column), 0].astype(np.int64)
    if any(check(kind) for check in (pa.types.is_string, pa.types.is_large_string)) or (
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    ):
        lengths: npt.NDArray[np.int64] = np.asarray(pc.binary_length(column).fill_null(0), dtype=np.int64)
        return lengths
    try:
        size = -(-kind.bit_width // 8)
    except ValueError:
        size = max(_UNKNOWN, column.nbytes // len(column))
    return np.full(len(column), size, np.int64)
