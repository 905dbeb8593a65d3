"""`memindex sql`: ask a study's tables."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memindex.errors import MemindexError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


def study_option(required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option -s of the commands that read a study."""
    return click.option(
        "-s",
        "--study",
        "study",
        required=required,
        envvar="MEMINDEX_STUDY",
        type=click.Path(),
        help="Directory of the study (or set MEMINDEX_STUDY).",
    )


@click.command()
@click.argument("query", required=False)
@study_option(required=False)  # --list goes without
@click.option("-f", "--file", type=click.Path(), help="Read the SQL from a file (- is stdin).")
@click.option(
    "-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Of a named query; repeatable."
)
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", help="[default: table]")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json: one object per row and line.")
@click.option("--list", "list_names", is_flag=True, help="List the named queries; needs no study.")
def sql(
    query: str | None,
    study: str | None,
    file: str | None,
    parameters: tuple[str, ...],
    form: str,
    as_json: bool,
    list_names: bool,
) -> None:
    """Run QUERY on a study: SQL, or the name of a query in queries/.

    Tables: models, runs, sequences, frequencies, buckets, continuations; documents and corpora of the indexes; and the
    views memorization, one row per sequence and run of the main protocol, and memorization_runs, those of every one.
    Functions: ngram_count(index, tokens), text_count(index, text), ngram_count_by_domain(index, tokens),
    longest_match(index, tokens), longest_matches(index, tokens), tokenize(index, text), detokenize(index, tokens), and
    in FROM documents_with(index, tokens or text, limit), where index is the name of an index of the study or an index
    directory; discoverable_n(p_z, p); rate_interval(memorized, cluster), a rate's 95 % interval, by document.

    \b
    Examples:
      memindex sql -s my-study rate_by_frequency
      memindex sql -s my-study "SELECT model_id, avg(memorized::INT) FROM memorization GROUP BY ALL"
      memindex sql -s my-study "FROM documents_with('pile', 'Permission is hereby granted', 3)"
      memindex sql -s my-study -f question.sql --format csv > answer.csv
    """
    from memindex.tables.connection import connect
    from memindex.tables.queries import list_queries, load_query

    if list_names:
        _print_names([(name, load_query(name).question) for name in list_queries()], as_json)
        return
    if (query is None) == (file is None):
        raise click.UsageError("give a QUERY, or a file with -f (see --list for the named ones)")
    if study is None:
        raise click.UsageError("Missing option '-s' / '--study'.")
    text = (query or "") if file is None else _read(file)
    con = connect(study)
    try:
        # What stands in a file is SQL, even if it is one word.
        is_name = file is None and len(text.split()) < 2
        answer = _run_named(con, text.strip(), parameters) if is_name else _run_sql(con, text, parameters)
        _print(answer, "json" if as_json else form)
    finally:
        con.close()


def _run_named(con: duckdb.DuckDBPyConnection, name: str, parameters: tuple[str, ...]) -> pa.Table:
    from memindex.tables.queries import list_queries, run_query

    if name not in list_queries():
        raise MemindexError(f"there is no query {name!r}; the named ones are: {', '.join(list_queries())}")
    pairs = [parameter.partition("=") for parameter in parameters]
    return run_query(con, name, **{key: value for key, _, value in pairs})


def _run_sql(con: duckdb.DuckDBPyConnection, text: str, parameters: tuple[str, ...]) -> pa.Table:
    import duckdb

    from memindex.tables.functions import readable

    if parameters:
        raise MemindexError("--parameter belongs to a named query; write the value into the SQL itself")
    try:
        answer: pa.Table = con.sql(text).to_arrow_table()
    except duckdb.Error as error:
        raise readable(error) from None
    except AttributeError:
        raise MemindexError("that statement gives no rows: ask with SELECT") from None
    return answer


def _read(file: str) -> str:
    content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MemindexError(f"{file}: not UTF-8 text (byte {error.start})") from None


def _print(answer: pa.Table, form: str) -> None:
    if form == "csv":
        import pyarrow.csv

        pyarrow.csv.write_csv(_flat(answer), sys.stdout.buffer)
        return
    # Row by row as tuples: two columns may have one name, and a dict would keep only one of them.
    rows = zip(*(_values(column) for column in answer.columns), strict=True)
    if form == "json":
        _one_name_each(answer.column_names)
        for row in rows:
            click.echo(json.dumps(dict(zip(answer.column_names, row, strict=True)), ensure_ascii=False, default=str))
        return
    from memindex.cli.output import print_table

    print_table(answer.column_names, list(rows))


def _values(column: pa.ChunkedArray) -> list[Any]:
    """The column's values; a map, as of counts by domain, is a dict."""
    import pyarrow as pa

    values: list[Any] = column.to_pylist()
    if pa.types.is_map(column.type):
        return [None if pairs is None else dict(pairs) for pairs in values]
    return values


def _one_name_each(names: list[str]) -> None:
    """An object has each name once."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise MemindexError(f"several columns are called {', '.join(twice)}: name them apart with AS for JSON")


def _flat(answer: pa.Table) -> pa.Table:
    """CSV has no lists: they become JSON."""
    import pyarrow as pa

    columns = [
        pa.array([json.dumps(v, default=str) for v in _values(column)]) if pa.types.is_nested(column.type) else column
        for column in answer.columns
    ]
    return pa.Table.from_arrays(columns, names=answer.column_names)


def _print_names(names: list[tuple[str, str]], as_json: bool) -> None:
    if as_json:
        for name, question in names:
            click.echo(json.dumps({"query": name, "question": question}, ensure_ascii=False))
        return
    from memindex.cli.output import print_table

    print_table(["query", "question"], names)
