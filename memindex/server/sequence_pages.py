"""Pages of a study's sequences, found in two steps: the numbers that stand on a page, then all about them.

Which those are is read from the columns that filters and order are about. With tokens, and joined to every table, a
page of two million sequences would take four seconds.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import duckdb

from memindex.server.refusals import RefusalError
from memindex.sql.plain_values import rows

Row = dict[str, Any]

#: Order -> the column it is by and what rows are ordered by before their number, the largest first.
_KEYS = {
    "id": ("", "0::DOUBLE"),
    "frequency": ("sequence_count", "coalesce(sequence_count, -1)::DOUBLE"),
    "score": ("score", "coalesce(score, -1)::DOUBLE"),
}
_OUTCOMES = {"memorized": "memorized", "half": "score > 0 AND NOT memorized", "unmemorized": "score = 0"}

_COUNTS = '(FROM frequencies WHERE "index" = study_index())'
_WITH_RUN = (
    "SELECT sequence_id, sample, domain, sequence_count, score, matched, memorized, prefix, suffix, continuation "
    "FROM memorization_runs WHERE run_id = $run"
)
_WITHOUT_RUN = (
    "SELECT sequence_id, sample, domain, sequence_count, NULL::FLOAT AS score, NULL::INTEGER AS matched, "
    "NULL::BOOLEAN AS memorized, prefix, suffix, NULL::INTEGER[] AS continuation "
    f"FROM sequences LEFT JOIN {_COUNTS} USING (sequence_id)"
)
_IN_ORDER = (
    "SELECT asked.* FROM ({}) AS asked JOIN (SELECT unnest($ids) AS sequence_id, unnest($places) AS place) "
    "USING (sequence_id) ORDER BY place"
)


class Filters(NamedTuple):
    """What the sequences of a page must be; None: anything."""

    run: str | None
    sample: str | None
    domain: str | None
    bucket: int | None
    outcome: str | None


def page_of(
    con: duckdb.DuckDBPyConnection, filters: Filters, order: str, limit: int, cursor: str | None
) -> tuple[list[Row], str | None]:
    """The rows of a page, tokens as ids, and the cursor of the next page.

    Raises:
        RefusalError: 422: an outcome without a run, or a cursor that is none.
    """
    found = _numbers(con, filters, order, limit + 1, cursor)
    after = _cursor(found[limit - 1]) if len(found) > limit else None
    ids = [row["sequence_id"] for row in found[:limit]]
    values: Row = {"ids": ids, "places": list(range(len(ids)))}
    if filters.run is not None:
        values["run"] = filters.run
    sql = _IN_ORDER.format(_WITHOUT_RUN if filters.run is None else _WITH_RUN)
    return list(rows_of(con, sql, values)) if ids else [], after


def rows_of(con: duckdb.DuckDBPyConnection, sql: str, values: Row | None = None) -> Iterator[Row]:
    """Rows with the values that JSON has."""
    for batch in con.sql(sql, params=values or None).to_arrow_table().to_batches():
        names = batch.schema.names
        yield from (dict(zip(names, row, strict=True)) for row in rows(batch))


def _numbers(con: duckdb.DuckDBPyConnection, filters: Filters, order: str, limit: int, cursor: str | None) -> list[Row]:
    """`sequence_id` and `key` of as many sequences."""
    by, key = _KEYS[order]
    if by == "score" and filters.run is None:
        by, key = _KEYS["id"]
    conditions, values = _conditions(filters)
    source = _source(filters.run, {by, *(column for column, _ in conditions)})
    texts = [text for _, text in conditions]
    if cursor is not None:
        texts.append("(key < $key OR (key = $key AND sequence_id > $after))")
        values |= _read_cursor(cursor)
    where = f"WHERE {' AND '.join(texts)}" if texts else ""
    sql = (
        f"SELECT sequence_id, key FROM (SELECT *, {key} AS key FROM {source}) {where} "
        "ORDER BY key DESC, sequence_id LIMIT $limit"
    )
    return list(rows_of(con, sql, values | {"limit": limit}))


def _conditions(filters: Filters) -> tuple[list[tuple[str, str]], Row]:
    """Conditions, each with the column that it is about, and the values in them."""
    conditions: list[tuple[str, str]] = []
    values: Row = {} if filters.run is None else {"run": filters.run}
    for column, value in (("sample", filters.sample), ("domain", filters.domain)):
        if value is not None:
            conditions.append((column, f"{column} = ${column}"))
            values[column] = value
    if filters.bucket is not None and filters.bucket < 0:
        conditions.append(("sequence_count", "sequence_count = 0"))
    elif filters.bucket is not None:
        conditions.append(("sequence_count", "sequence_count BETWEEN $least AND $most"))
        values |= {"least": 1 << filters.bucket, "most": (2 << filters.bucket) - 1}
    if filters.outcome is not None:
        if filters.run is None:
            raise RefusalError(422, "outcome: say of which run, with run or model")
        conditions.append(("score", _OUTCOMES[filters.outcome]))
    return conditions, values


def _source(run: str | None, columns: set[str]) -> str:
    """The tables that have these columns."""
    if run is None:
        source = "sequences"
    else:
        source = "(FROM continuations WHERE run_id = $run)"
        if columns & {"sample", "domain"}:
            source += " JOIN (SELECT sequence_id, sample, domain FROM sequences) USING (sequence_id)"
    if "sequence_count" in columns:
        source += f" LEFT JOIN (SELECT sequence_id, sequence_count FROM {_COUNTS}) USING (sequence_id)"
    return source


def _cursor(row: Row) -> str:
    return base64.urlsafe_b64encode(json.dumps([row["key"], row["sequence_id"]]).encode()).decode()


def _read_cursor(cursor: str) -> Row:
    try:
        key, after = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return {"key": float(key), "after": int(after)}
    except (ValueError, TypeError, OverflowError, binascii.Error):
        raise RefusalError(422, "cursor: take it from the answer before, as it is") from None
