"""`connect(study)`: a DuckDB connection with a study's tables, its indexes and their joins, ready for SQL.

The database lives in memory and holds only views and functions; the Parquet files stay the one truth, so
nothing has to be imported and no .duckdb file is ever exchanged. A connection shows the files that were
finished when it was made; connect again to see later ones. A table without files is an empty view of the
right types, so every query runs on every study.
"""

from __future__ import annotations

import atexit
import re
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import pyarrow as pa

from memindex.errors import MemindexError
from memindex.study.config import StudyConfig, load_study
from memindex.tables import functions
from memindex.tables.functions import Indexes, Lookups
from memindex.tables.schema import DOCUMENTS, TABLES, Table
from memindex.tables.store import TableStore

# {index} is the index the models were trained on: counts in another one may stand in the table too.
_MEMORIZATION = """
CREATE VIEW memorization AS
WITH labels AS (
    SELECT run_id, CASE WHEN count(*) OVER (PARTITION BY model_id) = 1 THEN model_id
                        ELSE model_id || ' (' || run_id || ')' END AS run_label
    FROM runs
)
SELECT run_id, model_id, run_label, architecture, parameters, non_embedding_parameters,
       sequence_id, sample, bucket, domain, document, document_offset, s."index", shard, position,
       sequence_count, prefix_count, suffix_count,
       CASE WHEN sequence_count > 0 THEN floor(log2(sequence_count))::INTEGER END AS frequency_bucket,
       sample = 'heldout' AND coalesce(suffix_count = 0, false) AS unseen,
       score, matched, memorized, suffix_logprob, prefix, suffix, continuation
FROM continuations
JOIN runs USING (run_id)
JOIN labels USING (run_id)
JOIN models USING (model_id)
JOIN sequences AS s USING (sequence_id)
LEFT JOIN (FROM frequencies WHERE "index" = {index}) AS f USING (sequence_id)
"""

_CORPORA = """
CREATE VIEW corpora AS
SELECT "index", domain, count(*) AS documents, sum(tokens)::BIGINT AS tokens
FROM documents GROUP BY ALL
"""

# Statistics that queries/*.sql share. Wilson's score interval (1927) at 95 %: z = 1.959964, z² = 3.841459.
# t975 is the 97.5 % point of Student's t: a list up to 10 degrees of freedom, then three terms of Cornish and
# Fisher's expansion (within 0.001).
_MACROS = (
    "CREATE MACRO wilson_centre(k, n) AS (k::DOUBLE + 1.9207294103) / (n::DOUBLE + 3.8414588207)",
    "CREATE MACRO wilson_half(k, n) AS"
    " 1.9599639845 * sqrt(greatest(k / n::DOUBLE * (n - k) + 0.9603647052, 0)) / (n::DOUBLE + 3.8414588207)",
    "CREATE MACRO wilson_low(k, n) AS CASE WHEN n > 0 THEN greatest(wilson_centre(k, n) - wilson_half(k, n), 0) END",
    "CREATE MACRO wilson_high(k, n) AS CASE WHEN n > 0 THEN least(wilson_centre(k, n) + wilson_half(k, n), 1) END",
    "CREATE MACRO t975(df) AS CASE WHEN df > 10 THEN 1.959964 + 2.372294 / df + 2.822499 / df ** 2"
    " + 2.555848 / df ** 3 ELSE list_extract([12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912,"
    " 2.364624, 2.306004, 2.262157, 2.228139]::DOUBLE[], df::BIGINT) END",
    # 0 is '1', 1 is '2-3', 2 is '4-7', …, with an en dash (U+2013)
    "CREATE MACRO frequency_label(bucket) AS CASE WHEN bucket = 0 THEN '1'"
    " ELSE (1::BIGINT << bucket)::VARCHAR || chr(8211) || ((1::BIGINT << (bucket + 1)) - 1)::VARCHAR END",
)

_open: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()


def connect(
    study: str | Path, *, restricted: bool = False, opener: Callable[[Path], Lookups] | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB connection with a study's tables, views and index functions.

    Views: every table of `memindex.tables.schema.TABLES`, and `memorization`, `documents`, `corpora`.
    Functions: `ngram_count(index, tokens)`, `text_count(index, text)`, `tokenize(index, text)`. Threads share
    it through `con.cursor()`.

    Args:
        study: The study's directory.
        restricted: For SQL from strangers: no file or network outside the study's tables and its indexes'
            document tables can be read, no setting changed, no Python variable seen. Statements that write
            still have to be refused by the caller (accept only `duckdb.StatementType.SELECT`).
        opener: Opens an index; default `memindex.index.Index.open`.

    Raises:
        MemindexError: No study there, a table file that this version can't read, or tables that contradict study.toml.
    """
    # So far only tests use `restricted` and `opener`: the first is for a server that answers strangers.
    config = load_study(study)
    con = duckdb.connect(":memory:")
    try:
        _create_views(con, config)
        for macro in _MACROS:
            con.execute(macro)
        functions.register(con, Indexes(config.indexes(), opener))
        if restricted:
            _restrict(con, config)
    except duckdb.Error as error:
        con.close()
        raise functions.readable(error) from error
    except BaseException:
        con.close()
        raise
    _open.add(con)
    return con


def require(con: duckdb.DuckDBPyConnection, table_name: str) -> None:
    """Raise MemindexError, with the command that fills it, when a table has no rows."""
    if not con.execute(f'SELECT 1 FROM "{table_name}" LIMIT 1').fetchall():
        raise MemindexError(f"the table {table_name} is still empty; fill it with: memindex study run STUDY")


def _create_views(con: duckdb.DuckDBPyConnection, config: StudyConfig) -> None:
    store = TableStore(config.tables)
    for table in TABLES.values():
        _create_view(con, table, {"": store.files(table.name)})
    found = {name: path / "documents.parquet" for name, path in config.indexes().items()}
    _create_view(con, DOCUMENTS, {name: [file] for name, file in found.items() if file.is_file()})
    _check_frequencies(con, config)
    con.execute(_MEMORIZATION.format(index=_text(config.index.name)))
    con.execute(_CORPORA)


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


def _create_view(con: duckdb.DuckDBPyConnection, table: Table, files: Mapping[str, list[Path]]) -> None:
    """A view over Parquet files; the key of `files` stands for the column `index` where the files lack it."""
    parts = [_select(table, name, listed) for name, listed in files.items() if listed]
    con.execute(f'CREATE VIEW "{table.name}" AS ' + (" UNION ALL ".join(parts) or _select_nothing(table)))


def _select(table: Table, index_name: str, files: list[Path]) -> str:
    columns = [
        f'{_text(index_name)} AS "index"' if index_name and c.name == "index" else f'"{c.name}"' for c in table.columns
    ]
    listed = ", ".join(_text(_literal_path(file)) for file in files)
    # A folder named key=value on the way to the study is no column of its tables.
    return f"SELECT {', '.join(columns)} FROM read_parquet([{listed}], hive_partitioning = false)"


def _select_nothing(table: Table) -> str:
    columns = ", ".join(f'NULL::{_sql_type(c.type)} AS "{c.name}"' for c in table.columns)
    return f"SELECT {columns} WHERE false"


def _sql_type(type_: pa.DataType) -> str:
    """DuckDB's name of an Arrow type of the schemas."""
    if pa.types.is_list(type_):
        return _sql_type(type_.value_type) + "[]"
    names = {"int32": "INTEGER", "int64": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "bool": "BOOLEAN"}
    return (names | {"string": "VARCHAR", "timestamp[us]": "TIMESTAMP"})[str(type_)]


def _literal_path(path: Path) -> str:
    """The path with glob characters made plain."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def _text(value: str) -> str:
    """A SQL text literal."""
    return "'" + value.replace("'", "''") + "'"


def _restrict(con: duckdb.DuckDBPyConnection, config: StudyConfig) -> None:
    folders = [config.tables, *config.indexes().values()]
    # DuckDB compares with what stands in read_parquet(...), where glob characters are made plain.
    allowed = ", ".join(_text(path) for f in folders for path in sorted({str(f), _literal_path(f)}))
    for setting in (
        "python_enable_replacements = false",
        f"allowed_directories = [{allowed}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        con.execute(f"SET {setting}")


@atexit.register
def _close_all() -> None:
    """At exit, DuckDB must let go of Python's functions before Python takes its types apart."""
    for con in list(_open):
        try:
            functions.unregister(con)
            con.close()
        except duckdb.Error:  # closed by its owner
            continue
