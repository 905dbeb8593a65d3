"""Answers of queries as bytes: JSON, CSV or an Arrow stream, never more rows or bytes than allowed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple

import duckdb
import pyarrow as pa

from memindex.server.refusals import RefusalError
from memindex.server.study_limits import StudyLimits
from memindex.sql.plain_values import encode, rows
from memindex.sql.statements import NOT_IN_FILES, NOT_IN_TEXT, plain


class Written(NamedTuple):
    """An answer: its bytes, and whether rows were cut off."""

    body: bytes
    truncated: bool


def written(relation: duckdb.DuckDBPyRelation, form: str, limits: StudyLimits, most_rows: int) -> Written:
    """The first rows of a relation in one of `memindex.server.sql_forms.MEDIA_TYPES`.

    Raises:
        RefusalError: 413: more bytes than `limits.bytes`.
    """
    names, types = list(relation.columns), [str(kind) for kind in relation.types]
    # DuckDB keeps only the first rows while it sorts when it knows how many are asked for.
    asked = plain(relation, NOT_IN_FILES if form == "arrow" else NOT_IN_TEXT).limit(most_rows + 1)
    reader = asked.to_arrow_reader(2048)
    batches, truncated = _taken(reader, limits, most_rows)
    if form == "arrow":
        body = _arrow(reader.schema, names, batches)
    elif form == "csv":
        body = _csv(names, batches, limits)
    else:
        body = _json(names, types, batches, truncated, limits)
    return Written(_checked(body, limits), truncated)


def _taken(reader: pa.RecordBatchReader, limits: StudyLimits, most: int) -> tuple[list[pa.RecordBatch], bool]:
    """Batches of at most so many rows, and whether there were more."""
    taken: list[pa.RecordBatch] = []
    count = size = 0
    for batch in reader:
        part = batch.slice(0, most - count)
        taken.append(part)
        count += batch.num_rows
        size += part.nbytes
        if size > limits.bytes:
            raise _too_large(limits)
        if count > most:
            return taken, True
    return taken, False


def _arrow(schema: pa.Schema, names: list[str], batches: Iterable[pa.RecordBatch]) -> bytes:
    fields = [field.with_name(name) for field, name in zip(schema, names, strict=True)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema(fields)) as writer:
        for batch in batches:
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=pa.schema(fields)))
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _csv(names: list[str], batches: Iterable[pa.RecordBatch], limits: StudyLimits) -> bytes:
    """RFC 4180: NULL is empty, lists are JSON."""
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(names)
    for batch in batches:
        flat = ([encode(v) if isinstance(v, list | dict) else v for v in row] for row in rows(batch))
        writer.writerows(flat)
        if sink.tell() > limits.bytes:
            raise _too_large(limits)
    return sink.getvalue().encode()


def _json(
    names: list[str], types: list[str], batches: Iterable[pa.RecordBatch], truncated: bool, limits: StudyLimits
) -> bytes:
    """{"columns": [{"name", "type"}], "rows": [[…]], "truncated": …}."""
    parts: list[str] = []
    size = 0
    for batch in batches:
        lines = [encode(row) for row in rows(batch)]
        parts += lines
        size += sum(map(len, lines))
        if size > limits.bytes:
            raise _too_large(limits)
    columns = encode([{"name": name, "type": kind} for name, kind in zip(names, types, strict=True)])
    text = f'{{"columns": {columns}, "rows": [{", ".join(parts)}], "truncated": {encode(truncated)}}}'
    # Half a surrogate pair has no bytes in UTF-8.
    return text.encode("utf-8", "replace")


def _checked(body: bytes, limits: StudyLimits) -> bytes:
    if len(body) > limits.bytes:
        raise _too_large(limits)
    return body


def _too_large(limits: StudyLimits) -> RefusalError:
    return RefusalError(413, f"the answer is larger than {limits.bytes >> 20} MiB: ask for fewer columns or rows")
