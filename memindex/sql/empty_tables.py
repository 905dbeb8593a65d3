"""Why a query on a study has no rows: which tables are still empty, which runs are not finished, and what to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

import duckdb
import pyarrow as pa

from memindex.errors import MemindexError
from memindex.sql.functions import readable
from memindex.study.config import StudyConfig
from memindex.tables.schema import TABLES, VIEWS

#: Runs that a message names.
_NAMED = 3


def still_empty(con: duckdb.DuckDBPyConnection, table_name: str) -> str:
    """What to say when a table, or one that the view of this name is made of, has no rows; empty when all have."""
    table = (TABLES | VIEWS).get(table_name)
    for part in table.made_of or (table_name,) if table is not None else ():
        try:
            there = has_rows(con, part)
        except duckdb.Error as error:
            return str(readable(error))
        if not there:
            return f"the table {part} is still empty; fill it with: {(TABLES | VIEWS)[part].filled_by}"
    return ""


def why_empty(con: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Why a statement has no rows: the first table it reads that holds none, with the command that fills it; or ''."""
    read = dict.fromkeys(name.lower() for name in re.findall(r'\b(?:FROM|JOIN)\s+"?(\w+)', sql, re.IGNORECASE))
    return next(filter(None, (still_empty(con, name) for name in read)), "")


def has_rows(con: duckdb.DuckDBPyConnection, table_name: str) -> bool:
    """Whether a table has a row."""
    return bool(con.cursor().execute(f'SELECT 1 FROM "{table_name}" LIMIT 1').fetchall())


def check_answered(
    con: duckdb.DuckDBPyConnection, config: StudyConfig, answers: Iterable[pa.Table | MemindexError]
) -> None:
    """Raise MemindexError, with why and what to run, where no query on a study has rows.

    Queries that fail on a study that has runs say why themselves.
    """
    failed = False
    for answer in answers:
        failed = failed or isinstance(answer, MemindexError)
        if not isinstance(answer, MemindexError) and answer.num_rows:
            return
    if not (failed and has_rows(con, "runs")):
        raise MemindexError(_nothing_answered(con, config))


def _nothing_answered(con: duckdb.DuckDBPyConnection, config: StudyConfig) -> str:
    run = f"memindex study run {_quoted(config)}"
    if unfinished := unfinished_runs(con, config):
        why = unfinished
    elif not has_rows(con, "sequences"):
        why = f"it has no sequences yet: {run} samples them; memindex import reads results of other runners"
    elif not has_rows(con, "continuations") and config.models:
        why = f"no model is scored on its sequences yet: {run}"
    elif not has_rows(con, "continuations"):
        why = (
            "no model is scored on its sequences yet, and study.toml lists none: add [[models]] there and run "
            f"{run}, or use memindex run or memindex import"
        )
    else:
        why = f"no query has rows on its tables; see what is missing: memindex study status {_quoted(config)}"
    return f"the study {config.name} has no results: {why}"


def unfinished_runs(con: duckdb.DuckDBPyConnection, config: StudyConfig) -> str:
    """What to say of runs that were stopped, whose rows no query counts; empty where there are none."""
    found = con.cursor().execute("SELECT DISTINCT run_id FROM continuations ANTI JOIN runs USING (run_id) ORDER BY 1")
    names = [name for (name,) in found.fetchall()]
    if not names:
        return ""
    listed = ", ".join(map(str, names[:_NAMED])) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    runs = f"the run {listed} is" if len(names) == 1 else f"the runs {listed} are"
    return f"{runs} not finished; resume with: memindex study run {_quoted(config)}, or the same import again"


def _quoted(config: StudyConfig) -> str:
    return shlex.quote(str(config.directory))
