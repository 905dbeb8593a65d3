"""`memindex sql`: ask a study's tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memindex.cli.forms import form_options
from memindex.errors import MemindexError

if TYPE_CHECKING:
    from memindex.cli.sql_shell import Shell

NO_STUDY = "no study is named: give -s/--study, set MEMINDEX_STUDY, or go to a directory with a study.toml"


def study_option(required: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option -s of the commands that read a study; the current directory where it is one."""

    def chosen(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
        if value is None and Path("study.toml").is_file():
            return "."
        if value is None and required:
            raise click.UsageError(NO_STUDY)
        return value

    return click.option(
        "-s",
        "--study",
        "study",
        envvar="MEMINDEX_STUDY",
        type=click.Path(),
        callback=chosen,
        help="Directory of the study (or set MEMINDEX_STUDY).  [default: . where it holds a study.toml]",
    )


class _NamingAll(click.Command):
    """A command whose help names every table and function there is."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from memindex.sql.functions import FUNCTIONS
        from memindex.tables.schema import TABLES, VIEWS

        scope = [function.signature() + (" in FROM" if function.is_table else "") for function in FUNCTIONS]
        names = {"TABLES": ", ".join(TABLES), "VIEWS": ", ".join(VIEWS), "FUNCTIONS": ", ".join(scope)}
        self.help = (self.help or "").format(**names)
        super().format_help_text(ctx, formatter)


@click.command(cls=_NamingAll)
@click.argument("query", required=False)
@study_option(required=False)  # --list goes without
@click.option("-f", "--file", type=click.Path(), help="Read the SQL from a file (- is stdin).")
@click.option(
    "-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Of a named query; repeatable."
)
@form_options("Print one JSON object per row and line.")
@click.option("--parquet", type=click.Path(path_type=Path), metavar="FILE", help="Write a Parquet file instead.")
@click.option("--list", "list_names", is_flag=True, help="List the named queries; needs no study.")
def sql(
    query: str | None,
    study: str | None,
    file: str | None,
    parameters: tuple[str, ...],
    form: str,
    parquet: Path | None,
    list_names: bool,
) -> None:
    """Run QUERY on a study: SQL, the name of a query in queries/, or a dot command such as .tables.

    Without QUERY and -f, SQL is read from stdin; on a terminal that is a prompt, with history, completion (Tab) and
    statements over several lines. Of several statements only the last one's rows are shown.

    Tables: {TABLES}.
    Views: {VIEWS}. memorization has one row per sequence and run of the main protocol, memorization_runs those of every
    one; documents and corpora show the indexes.
    Functions: {FUNCTIONS}, where index is the name of an index of the study or an index directory, and query tokens or
    a text; discoverable_n(p_z, p); rate_interval(memorized, cluster), a rate's 95 % interval, by document.

    In JSON, NaN and infinity are the texts "NaN", "Infinity" and "-Infinity"; times and bytes are written as DuckDB
    writes them.

    \b
    Examples:
      memindex sql -s my-study
      memindex sql -s my-study .tables
      memindex sql -s my-study domain_shares -p domains=8
      memindex sql -s my-study "SELECT model_id, avg(memorized::INT) FROM memorization GROUP BY ALL"
      memindex sql -s my-study "FROM documents_with('pile', 'Permission is hereby granted', 3)"
      memindex sql -s my-study -f question.sql --csv > answer.csv
      memindex sql -s my-study "FROM memorization" --parquet answer.parquet
    """
    if parquet is not None and form != "table":
        raise click.UsageError(f"choose one of --{form} and --parquet")
    if list_names:
        from memindex.cli.sql_shell import print_queries

        print_queries(form)
        return
    if query is not None and file is not None:
        raise click.UsageError("give a QUERY or a file with -f, not both")
    if query is not None and _is_name(query):
        from memindex.sql.queries import load_query

        load_query(query.strip())  # an unknown name is said before a missing study is
    if study is None:
        raise click.UsageError(NO_STUDY)
    _check_target(parquet)
    interactive = query is None and file is None and sys.stdin.isatty()
    text = "" if interactive else _read(file or "-") if query is None else query
    if not interactive and not text.strip():
        raise click.UsageError("give a QUERY, or a file with -f (see --list for the named ones)")
    from memindex.cli.sql_shell import Shell
    from memindex.sql.connection import close, connect

    con = connect(study)
    try:
        shell = Shell(con, form)
        if not interactive:
            # What stands in a file is SQL, even if it is one word.
            _run_once(shell, text, parameters, parquet, is_name=query is not None and _is_name(query))
            return
        if parameters or parquet:
            raise click.UsageError("--parameter and --parquet need a QUERY; in the prompt: .run NAME NAME=VALUE")
        from memindex.cli.sql_prompt import prompt

        prompt(shell)
    finally:
        close(con)


def _is_name(query: str) -> bool:
    return len(query.split()) == 1 and not query.strip().startswith(".")


def _check_target(parquet: Path | None) -> None:
    """Before a long query runs, not after it."""
    if parquet is None:
        return
    if parquet.is_dir() or not parquet.absolute().parent.is_dir():
        raise MemindexError(f"--parquet {parquet}: give the name of a file in a directory that exists")
    if not os.access(parquet.absolute().parent, os.W_OK):
        raise MemindexError(f"--parquet {parquet}: nothing may be written there; choose another directory")


def _run_once(shell: Shell, text: str, parameters: tuple[str, ...], parquet: Path | None, is_name: bool) -> None:
    from memindex.cli.output import note
    from memindex.cli.sql_writing import write_parquet
    from memindex.sql.queries import few_documents_note

    text = text.strip()
    if text.startswith("."):
        if parameters or parquet:
            raise MemindexError("--parameter and --parquet belong to queries, not to dot commands")
        shell.command(text)
        return
    if parameters and not is_name:
        raise MemindexError("--parameter belongs to a named query; write the value into the SQL itself")
    for_file = parquet is not None
    answer = shell.named(text, parameters, for_file=for_file) if is_name else shell.ask(text, for_file=for_file)
    if answer is None:
        raise MemindexError("that statement gives no rows: ask with SELECT")
    unfilled = shell.unfilled()
    if unfilled and not answer.num_rows:
        raise MemindexError(unfilled)
    if parquet is None:
        shell.write(answer)
    else:
        write_parquet(answer, parquet)
        click.echo(str(parquet))
    for message in filter(None, (unfilled, few_documents_note(answer))):
        note(f"memindex: {message}")


def _read(file: str) -> str:
    content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MemindexError(f"{file}: not UTF-8 text (byte {error.start})") from None
