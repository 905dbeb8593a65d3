"""`connect(study)`: a DuckDB connection with a study's tables, its indexes and their joins, ready for SQL.

The database lives in memory and holds only views and functions; the Parquet files stay the one truth, so
nothing has to be imported and no .duckdb file is ever exchanged. A connection shows the files that were
finished when it was made; connect again to see later ones. A table without files is an empty view of the
right types, so every query runs on every study.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import weakref
from collections.abc import Callable, Container, Mapping
from pathlib import Path

import duckdb
import pyarrow as pa

from memindex.errors import DamagedTableError, MemindexError
from memindex.index.manifest import DOCUMENTS_FILE
from memindex.index.sharding import processors
from memindex.sql import functions, statistics, templates
from memindex.sql.empty_tables import still_empty
from memindex.sql.functions import Indexes, Lookups
from memindex.sql.sandbox import restrict
from memindex.sql.views import joined_views, literal_path, text_literal
from memindex.study.config import StudyConfig, load_study
from memindex.study.origins import unusable_indexes, warn_of_changes
from memindex.tables.schema import DOCUMENTS, TABLES, Column, Table
from memindex.tables.store import TableStore

#: Every open connection, and the tables that it shows.
_open: weakref.WeakKeyDictionary[duckdb.DuckDBPyConnection, TableStore] = weakref.WeakKeyDictionary()

#: Connections that are busy with a query that could not be stopped.
_left: list[duckdb.DuckDBPyConnection] = []

#: Why the documents of some indexes of an open connection can't be read.
_unreadable: weakref.WeakKeyDictionary[duckdb.DuckDBPyConnection, list[str]] = weakref.WeakKeyDictionary()

#: What DuckDB says of a Parquet file that is damaged; not always which one.
_DAMAGE = re.compile(
    "TProtocol|don't know what type|Out of buffer|Failed to read file|Parquet|parquet|decompress|Snappy|ZSTD|[Cc]orrupt"
)
#: And of one that is not there any more.
_GONE = re.compile(r'(?:No files found that match the pattern|Cannot open file) "([^"]+)"')


def connect(
    study: str | Path,
    *,
    restricted: bool = False,
    opener: Callable[[Path], Lookups] | None = None,
    settings: Mapping[str, int | str] | None = None,
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB connection with a study's tables, views and index functions.

    Views: every table of `memindex.tables.schema.TABLES`, and `memorization` (the runs of the study's main protocol),
    `memorization_runs` (all runs), `documents`, `corpora`.
    Functions: `ngram_count(index, tokens)`, `text_count(index, text)`, `ngram_count_by_domain(index, tokens)`,
    `longest_match(index, tokens)`, `longest_matches(index, tokens)`, `tokenize(index, text)`,
    `detokenize(index, tokens)`, `discoverable_n(p_z, p)`; in FROM: `documents_with(index, tokens or text, limit)`
    (docs/tables.md says what they give). Aggregates: `rate_interval(value, cluster)` and
    `mean_interval(value, cluster)`, the 95 % interval of an average by document, as a struct of low and high.
    Threads share it through `con.cursor()`.

    Args:
        study: The study's directory.
        restricted: For SQL from strangers: nothing but the study's tables and its indexes' document tables can be
            read, no setting changed, no Python variable seen. Statements that write and functions that tell of the
            connection itself still have to be refused by the caller, as `memindex.server.sql_guard` does.
        opener: Opens an index; default `memindex.index.Index.open`.
        settings: DuckDB's settings, made when the database is: threads (default: all processors), memory_limit.

    An index that changed since the tables were made from it is warned of. What needs it then fails, as for one that is
    missing or damaged: its documents (also where all documents are read, or `corpora`), and functions that name it.

    Raises:
        MemindexError: No study there, a table file that this version can't read, or tables that contradict study.toml.
    """
    config = load_study(study)
    # Before anything is read of them.
    indexes = Indexes(config.indexes(), opener, only_named=restricted)
    refused = indexes.refused = unusable_indexes(config)
    undocumented = indexes.undocumented = _without_documents(config) | refused
    # DuckDB would take all processors of a machine that a batch system gave a part of.
    con = duckdb.connect(":memory:", config={"threads": processors(), **(settings or {})})
    try:
        statistics.register(con)
        templates.register(con)
        functions.register(con, indexes)
        _create_views(con, config, undocumented)
        if restricted:
            restrict(con, config)
    except duckdb.Error as error:
        con.close()
        raise functions.readable(error) from error
    except BaseException:
        con.close()
        raise
    _open[con] = TableStore(config.tables)
    _unreadable[con] = list(undocumented.values())
    warn_of_changes(config, refused)
    return con


def require(con: duckdb.DuckDBPyConnection, table_name: str) -> None:
    """Raise MemindexError, with the command that fills it, when a table has no rows."""
    if not con.execute(f'SELECT 1 FROM "{table_name}" LIMIT 1').fetchall():
        raise MemindexError(still_empty(con, table_name) or f"the view {table_name} has no rows")


def lacks_index(con: duckdb.DuckDBPyConnection, error: MemindexError) -> bool:
    """Whether a query failed only because it needs an index of the study that can't be used."""
    return any(line in str(error) for line in _unreadable.get(con, ()))


def damage_behind(con: duckdb.DuckDBPyConnection, error: Exception) -> DamagedTableError | None:
    """The file of the study, damaged or gone, that makes DuckDB fail, with what to do; None where there is none."""
    if con not in _open:
        return None
    text = str(error)[: functions.LOOKED_AT]
    if (gone := _GONE.search(text)) and Path(gone[1]).is_relative_to(_open[con].directory):
        return DamagedTableError(
            f"{gone[1]} was removed after this connection was made, by a run perhaps: connect again"
        )
    if not _DAMAGE.search(text):
        return None
    try:
        damage = next(_open[con].damaged(), None)
    except MemindexError as unreadable:  # not even its schema
        damage = unreadable
    return DamagedTableError(str(damage)) if damage else None


def _create_views(con: duckdb.DuckDBPyConnection, config: StudyConfig, undocumented: Container[str]) -> None:
    store = TableStore(config.tables)
    for table in TABLES.values():
        _create_table(con, table, store)
    _create_documents(con, {name: path / DOCUMENTS_FILE for name, path in config.indexes().items()}, undocumented)
    _check_frequencies(con, config)
    for view in joined_views(config.index.name, _lengths(con)):
        con.execute(view)


def _lengths(con: duckdb.DuckDBPyConnection) -> tuple[int, int] | None:
    """Tokens of every prefix and suffix, where all sequences have the same."""
    lengths = con.execute("SELECT DISTINCT prefix_tokens, suffix_tokens FROM sequences LIMIT 2").fetchall()
    return lengths[0] if len(lengths) == 1 and None not in lengths[0] else None


def _check_frequencies(con: duckdb.DuckDBPyConnection, config: StudyConfig) -> None:
    """The counts must be found by the index's name, each sequence's once: else rates would be silently wrong."""
    name = config.index.name
    grouped = 'SELECT "index", count(*) > count(DISTINCT sequence_id) FROM frequencies GROUP BY ALL ORDER BY ALL'
    repeated: dict[str, bool] = dict(con.execute(grouped).fetchall())
    if repeated.get(name):
        raise MemindexError(
            f"{config.tables / 'frequencies'}: some sequences are counted twice in {name}: a file is left over from "
            "another sample; remove it"
        )
    if repeated and name not in repeated:
        raise MemindexError(
            f"{config.tables / 'frequencies'} has counts in {', '.join(repeated)}, but the index of study.toml is "
            f"called {name}: give its directory the old name, or remove {config.tables} to start anew"
        )


def _create_table(con: duckdb.DuckDBPyConnection, table: Table, store: TableStore) -> None:
    """The view of a table's files."""
    groups = store.lacking(table.name, store.readable(table.name))
    parts = [_select(table, "", files, lacking) for lacking, files in groups.items()]
    con.execute(f'CREATE VIEW "{table.name}" AS ' + (" UNION ALL ".join(parts) or _select_nothing(table)))


def _without_documents(config: StudyConfig) -> dict[str, str]:
    """The study's indexes that have no table of documents, as folders of infini-gram files, each with what to do."""
    return {
        name: f"the index {name} has no {DOCUMENTS_FILE}: make it with: memindex index open {path}"
        for name, path in config.indexes().items()
        if not (path / DOCUMENTS_FILE).is_file()
    }


def _create_documents(con: duckdb.DuckDBPyConnection, files: Mapping[str, Path], undocumented: Container[str]) -> None:
    """The view of the indexes' documents; to read those of an index that can't be used is an error that says why."""
    parts = [
        _select_refused(DOCUMENTS, name) if name in undocumented else _select(DOCUMENTS, name, [file])
        for name, file in files.items()
    ]
    con.execute(f'CREATE VIEW "{DOCUMENTS.name}" AS ' + (" UNION ALL ".join(parts) or _select_nothing(DOCUMENTS)))


def _select(table: Table, index_name: str, files: list[Path], lacking: tuple[str, ...] = ()) -> str:
    said = {c.name: f'{_without(c)}::{_sql_type(c.type)} AS "{c.name}"' for c in table.columns if c.name in lacking}
    if index_name:
        said["index"] = f'{text_literal(index_name)} AS "index"'
    same = f" WHERE {functions.SAME_INDEX}({text_literal(index_name)})" if index_name else ""
    columns = [said.get(c.name, f'"{c.name}"') for c in table.columns]
    listed = ", ".join(text_literal(literal_path(file)) for file in files)
    # A folder named key=value on the way to the study is no column of its tables.
    return f"SELECT {', '.join(columns)} FROM read_parquet([{listed}], hive_partitioning = false){same}"


def _without(column: Column) -> str:
    """What a column is in files that lack it."""
    if column.length_of:
        return f'len("{column.length_of}")'
    return "NULL" if column.before is None else text_literal(column.before)


def _select_nothing(table: Table) -> str:
    columns = ", ".join(f'NULL::{_sql_type(c.type)} AS "{c.name}"' for c in table.columns)
    return f"SELECT {columns} WHERE false"


def _select_refused(table: Table, index_name: str) -> str:
    """The rows of an index that can't be used: an error for a query that reads them."""
    name = text_literal(index_name)
    values = {"index": name}
    columns = [f'{values.get(c.name, f"NULL::{_sql_type(c.type)}")} AS "{c.name}"' for c in table.columns]
    return f"SELECT {', '.join(columns)} WHERE {functions.SAME_INDEX}({name})"


def _sql_type(type_: pa.DataType) -> str:
    """DuckDB's name of an Arrow type of the schemas."""
    if pa.types.is_list(type_):
        return _sql_type(type_.value_type) + "[]"
    names = {"int32": "INTEGER", "int64": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "bool": "BOOLEAN"}
    return (names | {"string": "VARCHAR", "timestamp[us]": "TIMESTAMP"})[str(type_)]


def leave_open(con: duckdb.DuckDBPyConnection) -> None:
    """Never close a connection: to close one that is busy waits for its query, and that may not end."""
    # One reference that is never given back keeps the connection from ending with the process.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(con))
    _open.pop(con, None)
    _left.append(con)


def close(con: duckdb.DuckDBPyConnection) -> None:
    """Close a connection, unless it is busy with a query that could not be stopped."""
    if not any(busy is con for busy in _left):
        con.close()


def is_one_left_open() -> bool:
    """Whether a query goes on that could not be stopped: an orderly exit would wait for it."""
    return bool(_left)


def _leave_to_parent() -> None:
    """In a forked process: DuckDB's threads did not come along, so ending the parent's databases waits for ever."""
    for con in list(_open):
        leave_open(con)
    _left.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


@atexit.register
def _close_all() -> None:
    """At exit, DuckDB must let go of Python's functions before Python takes its types apart."""
    for con in list(_open):
        try:
            functions.unregister(con)
            statistics.unregister(con)
            templates.unregister(con)
            con.close()
        except duckdb.Error:  # closed by its owner
            continue
