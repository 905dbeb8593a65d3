"""How SQL of a user is asked: plain columns out, every error one line with a hint."""

from __future__ import annotations

import difflib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

from memindex.errors import MemindexError
from memindex.near_names import either, near_names
from memindex.sql.connection import damage_behind, leave_open
from memindex.sql.functions import FUNCTIONS, LOOKED_AT, readable
from memindex.sql.queries import Parameter
from memindex.tables.schema import TABLES, VIEWS

#: Types that Parquet has no like of: they go out as DuckDB writes them.
NOT_IN_FILES = frozenset({"interval", "bit", "bignum", "varint", "union", "time with time zone", "variant", "geometry"})

#: Types that text shows as DuckDB writes them; Python's dates don't reach as far, and know no infinity.
NOT_IN_TEXT = NOT_IN_FILES | {"date", "time", "blob", "time_ns", "timestamp", "timestamp with time zone"}
NOT_IN_TEXT |= {"timestamp_s", "timestamp_ms", "timestamp_ns"}

#: Characters of DuckDB's message that are shown, so that a hint still fits after it.
_MOST = 700

#: Words that a misspelt one may have been.
_KEYWORDS = (
    *("SELECT", "FROM", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "OFFSET", "JOIN", "USING", "WITH", "UNION"),
    *("DISTINCT", "VALUES", "DESCRIBE", "SUMMARIZE", "QUALIFY", "BETWEEN", "CREATE", "EXPLAIN", "INTERSECT", "EXCEPT"),
)


Answer = TypeVar("Answer")

#: Seconds that a query has to stop after Ctrl-C.
STOPPING = 5.0


def ask(
    con: duckdb.DuckDBPyConnection, text: str, values: Mapping[str, Parameter] | None = None, *, for_file: bool = False
) -> pa.Table | None:
    """The rows of the last statement of `text`; None when it has none to give, as SET and CREATE.

    Args:
        con: A connection of `memindex.connect`.
        text: SQL, one statement or more.
        values: What stands in the text as $name.
        for_file: Keep what a Parquet file can hold (times, bytes) as it is.

    Raises:
        MemindexError: What DuckDB says, in one line, and what to do.
        KeyboardInterrupt: The query was stopped.
    """
    with _explaining(con, text):
        text.encode("utf-8")  # DuckDB's client says nothing readable about half a surrogate pair
        # DuckDB itself looks for signals between the parts of a query only, which may be hours apart.
        answer = _in_thread(lambda: _run(con, text, values, NOT_IN_FILES if for_file else NOT_IN_TEXT))
        try:
            return answer.result()
        finally:
            # Ctrl-C, or what else a signal raises.
            if not answer.done():
                _stop(con, answer)


def _in_thread(do: Callable[[], Answer]) -> Future[Answer]:
    """What `do` gives, from a thread that nothing waits for at the end of the process."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(do())
        except BaseException as error:  # raised where the answer is taken
            future.set_exception(error)

    threading.Thread(target=run, name="memindex-sql", daemon=True).start()
    return future


def _stop(con: duckdb.DuckDBPyConnection, answer: Future[Any]) -> None:
    """Stop a query; one that does not stop in time is left to itself, and its connection to it."""
    left = True
    try:
        end = time.monotonic() + STOPPING
        # Again and again: an interruption that comes before the query has begun is forgotten.
        while left and time.monotonic() < end:
            con.interrupt()
            left = not wait([answer], timeout=0.1).done
    finally:
        if left:
            leave_open(con)


def _run(
    con: duckdb.DuckDBPyConnection, text: str, values: Mapping[str, Parameter] | None, as_text: frozenset[str]
) -> pa.Table | None:
    statements = con.extract_statements(text)
    if not statements:
        raise MemindexError("there is no statement in it")
    relation = None
    for statement in statements:
        relation = con.sql(statement.query, params=dict(values) if values else None)
    last = statements[-1]
    # PIVOT is two statements in one, of which the first gives nothing.
    silent = duckdb.ExpectedResultType.NOTHING in last.expected_result_type and last.type.name != "MULTI"
    if relation is None or silent:
        return None
    return plain(relation, as_text).to_arrow_table().rename_columns(relation.columns)


@contextmanager
def _explaining(con: duckdb.DuckDBPyConnection, text: str) -> Iterator[None]:
    """Errors of DuckDB leave as MemindexError, both forms of an interruption as KeyboardInterrupt."""
    try:
        yield
    except UnicodeEncodeError:
        raise MemindexError("the query is not UTF-8 text") from None
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except duckdb.Error as error:
        raise explained(con, error, text) from None
    except RuntimeError as error:
        if "interrupted" in str(error):
            raise KeyboardInterrupt from None
        raise


def plain(relation: duckdb.DuckDBPyRelation, as_text: frozenset[str]) -> duckdb.DuckDBPyRelation:
    """The relation with columns of the types `as_text` (and what is nested in lists, too) as text.

    Its columns have other names then, those of `relation` in their order: two columns may have one name.
    """
    types = [str(kind) for kind in relation.types]
    wanted = [_type_without(kind, as_text) for kind in relation.types]
    if types == wanted:
        return relation
    parts = [
        f"#{place}" if now == then else f'#{place}::{then} AS "{place}"'
        for place, (now, then) in enumerate(zip(types, wanted, strict=True), start=1)
    ]
    return relation.project(", ".join(parts))


def _type_without(kind: DuckDBPyType, as_text: frozenset[str]) -> str:
    if kind.id in as_text:
        return "VARCHAR"
    if kind.id not in {"list", "array", "struct", "map"}:
        return str(kind)
    inner = {name: child for name, child in kind.children if isinstance(child, DuckDBPyType)}
    made = {name: _type_without(child, as_text) for name, child in inner.items()}
    if all(made[name] == str(child) for name, child in inner.items()):
        return str(kind)
    if kind.id == "struct":
        return "STRUCT(" + ", ".join(f"{quoted(name)} {value}" for name, value in made.items()) + ")"
    if kind.id == "map":
        return f"MAP({made['key']}, {made['value']})"
    return f"{made['child']}[]"


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def explained(con: duckdb.DuckDBPyConnection, error: duckdb.Error, asked: str = "") -> MemindexError:
    """DuckDB's message about what was asked in one line, with the name that was probably meant, or what to do."""
    if damaged := damage_behind(con, error):
        return damaged
    text, message = str(error), str(readable(error, _MOST))
    if len(text) > 2 * LOOKED_AT:
        text = f"{text[:LOOKED_AT]}\n{text[-LOOKED_AT:]}"
    place, hint = _place(text), ""
    if found := re.search(r"Table with name (\S+) does not exist", message):
        hint = _nearest(found.group(1), tables := table_names(con)) or f"The tables: {', '.join(tables)}"
    elif found := re.search(r'[Cc]olumn (?:named )?"([^"]+)"(?: (?:not found|was not|does not|in EXCLUDE)|$)', message):
        hint = _columns_like(con, found.group(1))
    elif found := re.search(r"Function with name (\S+) does not exist", message):
        hint = _nearest(found.group(1), function_names(con, ours=True), 0.5)
        hint = hint or _nearest(found.group(1), function_names(con), 0.7)
        hint = hint or f"memindex's own functions: {', '.join(function_names(con, ours=True))}"
    elif found := re.search(r"Candidate (?:macros|functions):\n((?:\t.+\n?)+)", text):
        hint = f"It is called as {' or '.join(found.group(1).split(chr(10))[:3])}".replace("\t", "").removesuffix(
            " or "
        )
    elif message.startswith("Parser Error"):
        hint = _keyword(place)
    elif message.startswith(("Conversion Error", "Binder Error")):
        hint = _signatures(asked)
    message = f"{message} (line {place})" if place and message.startswith("Parser Error") else message
    between = "; " if hint and message[-1] not in ".!?" else " "
    return MemindexError(f"{message}{between}{hint}".strip())


def _place(text: str) -> str:
    """Where DuckDB draws its caret: number of the line, and the line with a caret before what it can't read."""
    found = re.search(r"^LINE (\d+: )(.*)\n( *)\^", text, re.MULTILINE)
    if not found:
        return ""
    line, at = found[2], len(found[3]) - len(f"LINE {found[1]}")
    return f"{found[1]}{line[:at].lstrip()}^{line[at:].rstrip()}"


def _keyword(place: str) -> str:
    """The keyword that the word at the caret, or the one before it, was probably meant to be."""
    before, _, after = place.partition("^")
    for word in (*re.findall(r"(\w+)\W*$", before), *re.findall(r"^\w+", after)):
        if word.upper() not in _KEYWORDS and (near := difflib.get_close_matches(word.upper(), _KEYWORDS, 1, 0.7)):
            return f"Did you mean {near[0]}?"
    return ""


def _signatures(asked: str) -> str:
    """How memindex's own functions in the text are called, with the types they take."""
    named = [function for function in FUNCTIONS if re.search(rf"\b{function.name}\s*\(", asked, re.IGNORECASE)]
    return " ".join(
        f"{function.name} takes the name of an index and {'tokens or a text' if function.is_table else words}."
        for function in named
        for words in [{"INTEGER[]": "a list of token ids", "VARCHAR": "a text"}[function.argument_type]]
    )


def _nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    near = near_names(name.strip('"!'), known, 3, cutoff)
    return f"Did you mean {either(near)}?" if near else ""


def _columns_like(con: duckdb.DuckDBPyConnection, name: str) -> str:
    """Where the column stands, or what it may have been meant to be."""
    columns = column_names(con)
    here = [table for table, names in columns.items() if name.lower() in names]
    if here:
        return f"It is a column of {', '.join(here)}"
    return _nearest(name, dict.fromkeys(column for names in columns.values() for column in names)) or (
        "A text stands in single quotes; .schema TABLE lists the columns"
    )


def table_names(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The study's tables and views in the order of docs/tables.md, then those made on the connection."""
    made = [
        name
        for (name,) in con.cursor()
        .execute("SELECT DISTINCT table_name FROM duckdb_columns() WHERE NOT internal ORDER BY 1")
        .fetchall()
    ]
    documented = [*TABLES, *VIEWS]
    return documented + [name for name in made if name not in documented]


def column_names(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Table -> its columns, of every table there is."""
    found: dict[str, list[str]] = {name: [] for name in table_names(con)}
    query = "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal ORDER BY column_index"
    for table, column in con.cursor().execute(query).fetchall():
        found.setdefault(table, []).append(column)
    return found


def function_names(con: duckdb.DuckDBPyConnection, *, ours: bool = False) -> list[str]:
    """Functions and macros that SQL can call, or only those that memindex adds."""
    query = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE regexp_full_match(function_name, '[a-z]\\w*')"
    names = con.cursor().execute(f"{query} {'AND NOT internal' if ours else ''} ORDER BY 1").fetchall()
    return [name for (name,) in names]
