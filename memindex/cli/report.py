"""`memindex report`: one HTML page of a study, or one figure of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memindex.cli.sql import study_option
from memindex.errors import MemindexError

if TYPE_CHECKING:
    from memindex.sql.queries import Query


@click.command()
@study_option()
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="[default: report.html in STUDY; NAME.svg with --figure]"
)
@click.option("--figure", metavar="NAME", help="Draw only the figure of this query, as .svg or .png (see sql --list).")
@click.option(
    "-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Of the figure's query; repeatable."
)
@click.option("--dark", is_flag=True, help="Draw a .png for dark paper; a .svg follows the reader's choice by itself.")
def report(study: str, out: Path | None, figure: str | None, parameters: tuple[str, ...], dark: bool) -> None:
    """Write a study's figures, with the numbers and the SQL behind each, as one self-contained HTML page.

    \b
    Examples:
      memindex report -s my-study
      memindex report -s my-study --figure rate_by_frequency --out frequency.png
      memindex report -s my-study --figure domain_shares -p domains=8 --out domains.svg
    """
    # Without a home, or with one that may not be written, matplotlib says so at length, and works all the same.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if figure is None:
        if parameters or dark:
            raise click.UsageError("--parameter and --dark need a --figure; the page shows every query as it is")
        click.echo(str(_write_page(study, out)))
        return
    from memindex.sql.queries import load_query

    query = load_query(figure)
    target = Path(f"{figure}.svg") if out is None else out
    if dark and target.suffix != ".png":
        raise click.UsageError("--dark is for a .png; a .svg has both, for light and for dark paper")
    click.echo(str(_draw(study, query, target, parameters, dark)))


def _write_page(study: str, out: Path | None) -> Path:
    from memindex.cli.output import note
    from memindex.cli.progress_bars import progress_bar

    lacking: list[str] = []
    with progress_bar() as progress:
        # Before DuckDB and matplotlib are imported.
        progress("load the study", 0, 1)
        from memindex.report import write_report

        def report(stage: str, done: int, total: int) -> None:
            progress("load the study", 1, 1)
            progress(stage, done, total)

        file = write_report(study, out, report, tell=lacking.append)
    for line in lacking:
        note(f"memindex: {line}")
    return file


def _draw(study: str, query: Query, target: Path, parameters: tuple[str, ...], dark: bool) -> Path:
    from memindex.cli.progress_bars import progress_bar

    with progress_bar() as progress:
        progress(f"draw {query.name}", 0, 1)
        return _draw_figure(study, query, target, parameters, dark)


def _draw_figure(study: str, query: Query, target: Path, parameters: tuple[str, ...], dark: bool) -> Path:
    from memindex.cli.sql_shell import Shell
    from memindex.report import families_of, save_figure
    from memindex.sql.connection import connect

    con = connect(study)
    try:
        shell = Shell(con, "table")
        table = shell.named(query.name, parameters)
        if not table.num_rows and (empty := shell.unfilled()):
            raise MemindexError(empty)
        return save_figure(query, table, target, families_of(con), dark=dark)
    finally:
        con.close()
