"""`memindex report`: one HTML page of a study."""

from __future__ import annotations

import click

from memindex.cli.sql import study_option


@click.command()
@study_option()
@click.option("--out", type=click.Path(), help="[default: STUDY/report.html]")
def report(study: str, out: str | None) -> None:
    """Write a study's figures, with the numbers and the SQL behind each, as one self-contained HTML page.

    \b
    Example:
      memindex report -s my-study
    """
    from memindex.report import write_report

    click.echo(str(write_report(study, out)))
