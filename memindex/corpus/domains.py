"""Domains beyond a field or a folder: the value of an SQL expression, and new names for what came out.

An expression is evaluated by DuckDB, a batch at a time, on a connection that reaches no file and no network.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memindex.corpus.documents import SCHEMA, BadDocuments, ReadOptions
from memindex.errors import CorpusError, MemindexError, first_line

if TYPE_CHECKING:
    import duckdb

#: What an expression may name beside the fields of a document.
BUILT_IN = ("text", "domain", "path", "line", "metadata")

#: Functions whose value changes from one moment to the next, beside those that DuckDB calls volatile.
_CLOCKS = (
    "current_localtime",
    "current_localtimestamp",
    "get_current_time",
    "get_current_timestamp",
    "now",
    "today",
    "transaction_timestamp",
)

#: Parts of a dotted path whose dots may belong to keys; each more doubles the readings.
MOST_PARTS = 4

#: The name in a mapping that stands for all domains it does not name.
OTHERS = "*"


class Labels:
    """Gives documents the domains that the options ask for, beyond a field or a folder.

    Raises:
        MemindexError: The expression is none, or names a function that there is not.
    """

    def __init__(self, options: ReadOptions) -> None:
        self._expression = _Expression(options.domain_sql) if options.domain_sql is not None else None
        self._map = dict(options.domain_map)

    def apply(self, batch: pa.RecordBatch, bad: BadDocuments) -> pa.RecordBatch:
        """The batch with its final domains; documents whose expression is NULL are bad ones."""
        if self._expression and len(batch):
            self._expression.look_for_fields(batch, bad.fields)
            labels = self._expression.labels(batch)
            null = labels.is_null()
            for row in np.flatnonzero(null.to_numpy(zero_copy_only=False)):
                place = f"{batch.column('path')[row]}:{batch.column('line')[row]}"
                bad.report(place, "the expression for its domain gives NULL")
            good = pc.invert(null)
            batch = _with_domain(batch.filter(good), labels.filter(good))
        if self._map and len(batch):
            batch = _with_domain(batch, self._renamed(batch.column("domain")))
        return batch

    def _renamed(self, labels: pa.Array) -> pa.Array:
        encoded = labels.dictionary_encode()
        others = self._map.get(OTHERS)
        names = [self._map.get(old, old if others is None else others) for old in encoded.dictionary.to_pylist()]
        return pa.array(names, pa.large_string()).take(encoded.indices)


def _with_domain(batch: pa.RecordBatch, labels: pa.Array) -> pa.RecordBatch:
    return batch.set_column(batch.schema.get_field_index("domain"), SCHEMA.field("domain"), labels)


class _Expression:
    """An SQL expression over the fields of documents, ready to be evaluated."""

    def __init__(self, sql: str) -> None:
        import duckdb

        self._connection = duckdb.connect(config={"threads": 1, "enable_external_access": False})
        self._connection.execute("SET python_enable_replacements = false; SET lock_configuration = true")
        try:
            node = _parsed(self._connection, sql)
            _check_functions(self._connection, node)
            fields = _fields(node)
            self._fields = {".".join(path): _value(path, None) for path in _looked_for(node)}
            self._query = f"SELECT CAST(({sql}\n) AS VARCHAR) AS label FROM (SELECT {_columns(fields)} FROM batch)"
            self.labels(pa.record_batch([pa.array([], f.type) for f in SCHEMA], schema=SCHEMA))
        except duckdb.Error as error:
            raise MemindexError(f"--domain-sql: {first_line(error)}") from None

    def look_for_fields(self, batch: pa.RecordBatch, found: set[str]) -> None:
        """Add to `found` the fields that the expression names and a document of the batch has."""
        left = {name: value for name, value in self._fields.items() if name not in found}
        if not left:
            return
        marks = ", ".join(f"bool_or({value} IS NOT NULL)" for value in left.values())
        self._connection.register("batch", pa.table({"metadata": batch.column("metadata")}))
        try:
            (row,) = self._connection.execute(f"SELECT {marks} FROM batch").fetchall()
        finally:
            self._connection.unregister("batch")
        found.update(name for name, there in zip(left, row, strict=True) if there)

    def labels(self, batch: pa.RecordBatch) -> pa.Array:
        """The value for each document, as large_string."""
        import duckdb

        names = batch.schema.names
        known = pa.table(
            [batch.column(n).cast(pa.large_string()) if n == "text" else batch.column(n) for n in names], names
        )
        if "text" not in names:
            known = known.append_column("text", pa.nulls(len(batch), pa.large_string()))
        self._connection.register("batch", known)
        try:
            answer = self._connection.sql(self._query).to_arrow_table().column("label")
        except duckdb.Error as error:
            if not len(batch):
                raise
            place = f"{batch.column('path')[0]}, from line {batch.column('line')[0]} on"
            raise CorpusError(f"{place}: --domain-sql: {first_line(error)}") from None
        finally:
            self._connection.unregister("batch")
        if len(answer) != len(batch):
            raise MemindexError("--domain-sql: not a value for each document: leave aggregates and queries out")
        return pa.chunked_array(answer.chunks, answer.type).combine_chunks().cast(pa.large_string())


def lacking_fields(options: ReadOptions, found: Container[str]) -> list[str]:
    """The fields, as dotted paths, that the expression for the domain names and that are not among those found."""
    if options.domain_sql is None:
        return []
    import duckdb

    with duckdb.connect() as connection:
        paths = _looked_for(_parsed(connection, options.domain_sql))
    return sorted(name for name in map(".".join, paths) if name not in found)


def names_domain(sql: str) -> bool:
    """Whether an expression for the domain is about `domain`, what it would be otherwise."""
    import duckdb

    with duckdb.connect() as connection:
        nodes = _nodes(_parsed(connection, sql))
        return any(one.get("class") == "COLUMN_REF" and one["column_names"][0].lower() == "domain" for one in nodes)


def _parsed(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The syntax tree of an expression, as DuckDB tells it."""
    ((answer,),) = connection.execute("SELECT json_serialize_sql(?)", [f"SELECT {sql}\n"]).fetchall()
    parsed: dict[str, Any] = json.loads(answer)
    if parsed["error"]:
        raise MemindexError(f"--domain-sql: {parsed.get('error_message', 'not an expression')}")
    nodes = [statement["node"] for statement in parsed["statements"]]
    if len(nodes) != 1 or len(nodes[0].get("select_list", [])) != 1 or nodes[0]["from_table"]["type"] != "EMPTY":
        raise MemindexError("--domain-sql: give one expression, as: CASE WHEN lang = 'C++' THEN 'cpp' ELSE lang END")
    return nodes[0]["select_list"]


def _check_functions(connection: duckdb.DuckDBPyConnection, node: Any) -> None:
    """Refuse functions that can have another value for the same document."""
    volatile = "SELECT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE' AND function_name <> 'error'"
    refused = {name for (name,) in connection.execute(volatile).fetchall()} | set(_CLOCKS)
    for one in _nodes(node):
        if one.get("class") == "FUNCTION" and (name := str(one["function_name"]).lower()) in refused:
            raise MemindexError(
                f"--domain-sql: {name}() is another at each call: a domain must follow from the document"
            )


def _fields(node: Any) -> list[tuple[str, ...]]:
    """The names in an expression that are no built-in ones: paths of fields."""
    paths = {tuple(one["column_names"]) for one in _nodes(node) if one.get("class") == "COLUMN_REF"}
    return sorted(path for path in paths if path[0] not in BUILT_IN)


def _looked_for(node: Any) -> list[tuple[str, ...]]:
    """Those of them that are no parameter of a lambda function."""
    lambdas = [one["lhs"] for one in _nodes(node) if one.get("class") == "LAMBDA"]
    parameters = {path[0] for path in _fields(lambdas)}
    return [path for path in _fields(node) if path[0] not in parameters]


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    """A syntax tree's nodes."""
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(value)


def _columns(fields: list[tuple[str, ...]]) -> str:
    """The columns of a batch, and the fields as text from the metadata: a dotted path becomes a struct."""
    tree: dict[str, Any] = {}
    for path in fields:
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
            if node is None:
                raise MemindexError(f"--domain-sql: {path[0]} is named as a field and as a group of fields")
        if node.setdefault(path[-1], None) is not None:
            raise MemindexError(f"--domain-sql: {'.'.join(path)} is named as a field and as a group of fields")
    return ", ".join([*BUILT_IN, *(f"{_value((name,), below)} AS {_name(name)}" for name, below in tree.items())])


def _value(path: tuple[str, ...], below: dict[str, Any] | None) -> str:
    if below is None:
        values = [f"metadata ->> '{_pointer(keys)}'" for keys in _readings(path)]
        return values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"
    return "{" + ", ".join(f"{_name(name)}: {_value((*path, name), inner)}" for name, inner in below.items()) + "}"


def _readings(path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """What a dotted path may mean: keys of nested objects, or, where there are none, keys that hold dots themselves."""
    if len(path) == 1 or len(path) > MOST_PARTS:
        return [path]
    rest = _readings(path[1:])
    return [*((path[0], *keys) for keys in rest), *((f"{path[0]}.{keys[0]}", *keys[1:]) for keys in rest)]


def _pointer(keys: tuple[str, ...]) -> str:
    """The JSON pointer of a field, for between quotes of SQL."""
    pointer = "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)
    return pointer.replace("'", "''")


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def read_domain_map(file: str | Path) -> dict[str, str]:
    """A TOML file of lines `"old name" = "new name"`, for `ReadOptions.domain_map`; MemindexError when it is none."""
    try:
        table = tomllib.loads(Path(file).read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MemindexError(f"{file}: {first_line(error)}") from None
    return checked_domain_map(table, str(file))


def checked_domain_map(table: Any, place: str) -> dict[str, str]:
    """The table when it maps names to names; MemindexError that starts with the place when it does not."""
    wrong = [old for old, new in table.items() if not isinstance(new, str)] if isinstance(table, dict) else [place]
    if wrong:
        raise MemindexError(f'{place}: {wrong[0]}: write each domain as: "old name" = "new name"')
    return dict(table)
