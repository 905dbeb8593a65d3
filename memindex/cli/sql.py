"""`memindex sql`: ask a study's tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memindex.errors import MemindexError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

study_option = click.option(
    "-s",
    "--study",
    "study",
    required=True,
    envvar="MEMINDEX_STUDY",
    type=click.Path(),
    help="Directory of the study (or set MEMINDEX_STUDY).",
)


@click.command()
@click.argument("query", required=False)
@study_option
@click.option("-f", "--file", type=click.Path(), help="Read the SQL from a file (- is stdin).")
@click.option(
    "-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Of a named query; repeatable."
)
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", help="[default: table]")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json: one object per row and line.")
@click.option("--list", "list_names", is_flag=True, help="List the named queries.")
def sql(
    query: str | None,
    study: str,
    file: str | None,
    parameters: tuple[str, ...],
    form: str,
    as_json: bool,
    list_names: bool,
) -> None:
    """Run QUERY on a study: SQL, or the name of a query in queries/.

    Tables: models, runs, sequences, frequencies, continuations; documents and corpora of the indexes; and the view
    memorization, one row per run and sequence. Functions: ngram_count(index, tokens), text_count(index, text),
    tokenize(index, text), where index is the name of an index directory.

    \b
    Examples:
      memindex sql -s my-study rate_by_frequency
      memindex sql -s my-study "SELECT model_id, avg(memorized::INT) FROM memorization GROUP BY ALL"
      memindex sql -s my-study -f question.sql --format csv > answer.csv
    """
    from memindex.tables.connection import connect
    from memindex.tables.queries import list_queries, load_query

    if list_names:
        _print_names([(name, load_query(name).question) for name in list_queries()], as_json)
        return
    if (query is None) == (file is None):
        raise click.UsageError("give a QUERY, or a file with -f (see --list for the named ones)")
    con = connect(study)
    try:
        _print(_answer(con, query if file is None else _read(file), parameters), "json" if as_json else form)
    finally:
        con.close()


def _answer(con: duckdb.DuckDBPyConnection, query: str | None, parameters: tuple[str, ...]) -> pa.Table:
    import duckdb

    from memindex.tables.functions import readable
    from memindex.tables.queries import list_queries, run_query

    text = (query or "").strip()
    if text in list_queries():
        pairs = [parameter.partition("=") for parameter in parameters]
        return run_query(con, text, **{name: value for name, _, value in pairs})
    if parameters:
        raise MemindexError("--parameter belongs to a named query; write the value into the SQL itself")
    if " " not in text:
        raise MemindexError(f"there is no query {text!r}; the named ones are: {', '.join(list_queries())}")
    try:
        answer: pa.Table = con.sql(text).to_arrow_table()
    except duckdb.Error as error:
        raise readable(error) from None
    except AttributeError:
        raise MemindexError("that statement gives no rows: ask with SELECT") from None
    return answer


def _read(file: str) -> str:
    return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")


def _print(answer: pa.Table, form: str) -> None:
    if form == "csv":
        import pyarrow.csv

        pyarrow.csv.write_csv(_flat(answer), sys.stdout.buffer)
        return
    rows = answer.to_pylist()
    if form == "json":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False, default=str))
        return
    from memindex.cli.output import print_table

    print_table(answer.column_names, [list(row.values()) for row in rows])


def _flat(answer: pa.Table) -> pa.Table:
    """CSV has no lists: they become JSON."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name, column in zip(answer.column_names, answer.columns, strict=True):
        nested = pa.types.is_nested(column.type)
        columns[name] = pa.array([json.dumps(v, default=str) for v in column.to_pylist()]) if nested else column
    return pa.table(columns)


def _print_names(names: list[tuple[str, str]], as_json: bool) -> None:
    if as_json:
        for name, question in names:
            click.echo(json.dumps({"query": name, "question": question}, ensure_ascii=False))
        return
    from memindex.cli.output import print_table

    print_table(["query", "question"], names)
