"""Which SQL a stranger may run: one SELECT over the study's tables, with functions that only compute.

DuckDB's own parser says what a text is; the tree that it makes is walked and everything in it has to be known. That
is the first of three walls: the connection is locked (`memindex.sql.sandbox`), and it lives in a process of its
own with bounded memory and time (`memindex.server.study_processes`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from memindex.server.refusals import RefusalError
from memindex.sql.functions import FUNCTIONS
from memindex.sql.statements import explained
from memindex.tables.schema import TABLES, VIEWS

#: Longest text of a query; characters.
MOST_CHARACTERS = 50_000

_TABLES = frozenset({*TABLES, *VIEWS})
_TABLE_FUNCTIONS = frozenset(
    {"range", "generate_series", "unnest", "json_each", "json_tree", "regexp_split_to_table", "generate_subscripts"}
    | {function.name for function in FUNCTIONS if function.is_table}
)
_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
#: How DuckDB's tree calls what stands in FROM.
_FROM = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "SHOW_REF", "PIVOT"})

#: Functions that tell of the database, the session or the machine, read raw memory, wait, or write a log.
_REFUSED = re.compile(
    r"_\w*|pg_(?!typeof|size_pretty)\w+|duckdb_\w+|pragma_\w+|has_\w+_privilege|inet_\w+|\w*_description"
    r"|current_(?!date|time|timestamp|localtime|localtimestamp)\w+|get_block_size|getenv|getvariable|in_search_path"
    r"|json_serialize_\w+|json_execute_\w+|nextval|currval|setval|setseed|txid_current|user|session_user|version"
    r"|combine|finalize|to_aggregate_state|variant_bytes_to_variant|stats|vector_type|write_log|sleep_ms"
    r"|parse_duckdb_log_message|read_\w+|query|query_table|glob|which_secret"
)
#: Functions that give something else each time, and may.
_CHANGING = frozenset({"random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "error"})


class Guard:
    """Checks statements on one connection."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        """Learn the functions and hidden views of this version of DuckDB from `con`."""
        volatile = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE' AND internal"
        self._changing = {name for (name,) in con.execute(volatile).fetchall()} - _CHANGING
        hidden = "SELECT view_name FROM duckdb_views() WHERE internal OR view_name LIKE '\\_%' ESCAPE '\\'"
        self._hidden = {name for (name,) in con.execute(hidden).fetchall()}

    def check(self, con: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement:
        """The statement of `text`.

        Raises:
            RefusalError: It is none that a stranger may run (400), or too long (413).
        """
        statement = _only(con, text)
        tree = _tree(con, text)
        ctes = set(_cte_names(tree))
        for name in ctes:
            if name in self._hidden or not re.fullmatch(r"\w+", name):
                raise RefusalError(400, f"WITH can't name a table {name!r} here: take another name")
        for node in _objects(tree):
            self._check(node, ctes)
        return statement

    def _check(self, node: dict[str, Any], ctes: set[str]) -> None:
        """Refuse one object of the tree."""
        kind = str(node.get("type", ""))
        if kind.endswith("_NODE") and kind not in _NODES:
            raise RefusalError(400, f"only SELECT is answered here, not {kind.partition('_')[0]}")
        if "function_name" in node:
            self._check_function(node)
        if "alias" in node and "class" not in node and kind not in _FROM and "query_location" in node:
            raise RefusalError(400, f"{kind} can't stand in FROM here")
        if kind == "BASE_TABLE":
            _check_table(node, ctes)
        elif kind == "TABLE_FUNCTION":
            _check_table_function(node)
        elif kind == "SHOW_REF" and node.get("query") is None:
            raise RefusalError(400, f"of SHOW only DESCRIBE and SUMMARIZE are answered here; {_the_tables()}")

    def _check_function(self, node: dict[str, Any]) -> None:
        name = str(node["function_name"]).lower()
        if node.get("is_operator") and not re.fullmatch(r"\w+", name):
            return
        if name in self._changing or _REFUSED.fullmatch(name):
            raise RefusalError(400, f"the function {name} is not answered here")
        if node.get("schema") not in ("", "main", None) or node.get("catalog") not in ("", "memory", "system", None):
            raise RefusalError(400, f"write the function {name} without a schema")


def _only(con: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement:
    """The one statement of a text; anything but a SELECT is refused."""
    if len(text) > MOST_CHARACTERS:
        raise RefusalError(413, f"the query has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")
    try:
        text.encode("utf-8")
        statements = con.extract_statements(text)
    except UnicodeEncodeError:
        raise RefusalError(400, "the query is not UTF-8 text") from None
    except duckdb.Error as error:
        raise RefusalError(400, str(explained(con, error, text))) from None
    if len(statements) != 1:
        number = f"{len(statements)} statements" if statements else "no statement"
        raise RefusalError(400, f"one statement at a time: there is {number} in it")
    kind = statements[0].type
    if kind.name == "MULTI":
        raise RefusalError(400, "write the values of PIVOT out: PIVOT … ON column IN (…), in FROM (…)")
    if kind != duckdb.StatementType.SELECT:
        raise RefusalError(400, f"only SELECT is answered here, not {kind.name}")
    return statements[0]


def _tree(con: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any]:
    """What DuckDB's parser makes of a SELECT."""
    [(told,)] = con.execute("SELECT json_serialize_sql($1::VARCHAR)", [text]).fetchall()
    tree: dict[str, Any] = json.loads(told)
    if tree.get("error"):
        raise RefusalError(400, "only SELECT is answered here")
    return tree


def _objects(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the tree; without recursion, whatever its depth."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _cte_names(tree: Any) -> Iterator[str]:
    for node in _objects(tree):
        if isinstance(node.get("cte_map"), dict):
            yield from (str(entry["key"]).lower() for entry in node["cte_map"].get("map", []))
        if node.get("cte_name"):
            yield str(node["cte_name"]).lower()


def _check_table(node: dict[str, Any], ctes: set[str]) -> None:
    name = str(node.get("table_name", "")).lower()
    outer = [part for part in (node.get("catalog_name"), node.get("schema_name")) if part]
    if outer or (name not in _TABLES and name not in ctes):
        named = ".".join([*map(str, outer), str(node.get("table_name", ""))])
        near = difflib.get_close_matches(name, _TABLES, 2)
        hint = f"did you mean {' or '.join(near)}?" if near and not outer else _the_tables()
        raise RefusalError(400, f"there is no table {named} here; {hint}")


def _the_tables() -> str:
    return f"the tables are: {', '.join([*TABLES, *VIEWS])}"


def _check_table_function(node: dict[str, Any]) -> None:
    function = node.get("function") or {}
    name = str(function.get("function_name", "")).lower()
    if name not in _TABLE_FUNCTIONS:
        known = ", ".join(sorted(_TABLE_FUNCTIONS))
        raise RefusalError(400, f"the function {name or '?'} can't stand in FROM here; these can: {known}")
