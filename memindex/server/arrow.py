"""Counts of Arrow streams: one column of texts or token lists in, one row of counts per query out."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa

from memindex.errors import QueryError
from memindex.server.answering import check_numbers, check_queries
from memindex.server.indexes import Served
from memindex.server.problems import ProblemError

ARROW_STREAM = "application/vnd.apache.arrow.stream"

#: What Arrow calls a record batch in a message's header, and where the flatbuffers name the fields that are looked at.
RECORD_BATCH, HEADER_TYPE, HEADER, COMPRESSION = 3, 6, 8, 10


def count_stream(served: Served, body: bytes, by_domain: bool, with_tokens: bool) -> bytes:
    """Answer a stream of queries with a stream of as many rows.

    Args:
        served: The index.
        body: An Arrow IPC stream of one column: texts, or lists of token ids.
        by_domain: Whether to add a column `domain:NAME` for every domain.
        with_tokens: Whether to tell the ids that texts were asked with.

    Raises:
        ProblemError: 400 for what is no such stream, 413 above a limit.
        QueryError: A query has no answer.
    """
    column = read_column(served, body)
    texts = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    batch = served.column_batch(column)
    columns: dict[str, Any] = {}
    if texts and with_tokens:
        columns["tokens"] = pa.LargeListArray.from_arrays(batch.offsets, batch.values)
    if by_domain:
        served.check_domains()
        names = served.index.domains
        check_numbers(served, batch.rows * len(names), "counts by domain")
        counts = served.index.count_by_domain(batch)
        columns["count"] = counts.sum(axis=1, dtype="uint64")
        columns |= {f"domain:{name}": counts[:, place] for place, name in enumerate(names)}
    else:
        columns["count"] = served.index.count(batch)
    return _written(pa.table(columns))


def read_column(served: Served, body: bytes) -> pa.Array:
    """The only column of a stream, validated; errors as `count_stream`."""
    try:
        _refuse_compressed(body)
        with pa.ipc.open_stream(body) as stream:
            if len(stream.schema) != 1:
                raise ProblemError(
                    400, f"the stream has {len(stream.schema)} columns: send one, of texts or token lists"
                )
            kind = stream.schema.field(0).type
            if not _is_query(kind):
                raise ProblemError(400, f"the column is {str(kind)[:80]}: it must hold text, or lists of token ids")
            batches, rows = [], 0
            for batch in stream:
                rows += batch.num_rows
                check_queries(served, rows)
                batch.validate(full=True)
                batches.append(batch.column(0))
    except (pa.ArrowException, OSError, ValueError, IndexError, struct.error) as error:
        raise ProblemError(400, f"the body is no Arrow IPC stream: {' '.join(str(error).split())[:200]}") from None
    column = pa.chunked_array(batches, type=kind).combine_chunks()
    if column.null_count:
        raise QueryError("the column contains NULL; filter it out first")
    return column


def _is_query(kind: Any) -> bool:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return True
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and pa.types.is_integer(kind.value_type))


def _refuse_compressed(body: bytes) -> None:
    """Refuse compressed batches before they are read: some kilobytes of them may be gigabytes of memory."""
    reader = pa.BufferReader(body)
    while True:
        try:
            message = pa.ipc.read_message(reader)
        except EOFError:
            return
        if message.type in {"record batch", "dictionary"} and _is_compressed(message.metadata.to_pybytes()):
            raise ProblemError(400, "the stream is compressed or has dictionaries: send it plain")


def _is_compressed(message: bytes) -> bool:
    """Whether the flatbuffer of a batch names a compression; anything but a plain record batch counts as one."""
    (table,) = struct.unpack_from("<I", message)
    if message[_place(message, table, HEADER_TYPE)] != RECORD_BATCH:
        return True
    header = _place(message, table, HEADER)
    (offset,) = struct.unpack_from("<I", message, header)
    batch = header + int(offset)
    return _place(message, batch, COMPRESSION) != batch


def _place(message: bytes, table: int, slot: int) -> int:
    """Where a field of a flatbuffer table stands; the table's own place when it has none."""
    (back,) = struct.unpack_from("<i", message, table)
    vtable = table - back
    if vtable < 0:
        raise struct.error("a table before the message")
    (size,) = struct.unpack_from("<H", message, vtable)
    if slot + 2 > size:
        return table
    (offset,) = struct.unpack_from("<H", message, vtable + slot)
    return table + int(offset)


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written
