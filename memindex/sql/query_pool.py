"""Many questions at once, with answers that are the same every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa

from memindex.errors import MemindexError
from memindex.index.sharding import processors
from memindex.sql.connection import damage_behind
from memindex.sql.functions import readable
from memindex.sql.queries import Parameter, Query, run_query

#: Queries at a time, at most.
_AT_ONCE = 8

#: Continuations that the queries under way read together, about: each of them holds some 130 bytes of each.
_ROWS = 20_000_000


def run_queries(
    con: duckdb.DuckDBPyConnection, asked: Iterable[tuple[Query, Mapping[str, Parameter]]]
) -> Iterator[pa.Table | MemindexError]:
    """The answers to queries, in their order; the same tables give the same answers to the last bit.

    Sums of floats depend on the order of their terms, so that one thread computes each answer; the machine's processors
    are used by several queries at a time. From here on the connection answers everything with one thread.

    Args:
        con: A connection of `memindex.connect`.
        asked: Queries with values of their parameters; others have their defaults.

    Yields:
        The answer, or what went wrong.

    Raises:
        MemindexError: The table continuations can't be read.
    """
    con.execute("SET threads = 1")
    workers = max(1, min(_AT_ONCE, processors(), _ROWS // max(1, _continuations(con))))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="memindex-query")
    try:
        yield from pool.map(lambda one: _answer(con, *one), asked)
    finally:
        pool.shutdown(cancel_futures=True)


def _continuations(con: duckdb.DuckDBPyConnection) -> int:
    try:
        ((rows,),) = con.execute("SELECT count(*) FROM continuations").fetchall()
    except duckdb.Error as error:
        raise (damage_behind(con, error) or readable(error)) from error
    return int(rows)


def _answer(con: duckdb.DuckDBPyConnection, query: Query, values: Mapping[str, Parameter]) -> pa.Table | MemindexError:
    try:
        return run_query(con, query, **values)
    except MemindexError as error:
        return error
