"""`memindex demo`: everything once, on text found on this machine."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import click


@click.command()
@click.option(
    "-o",
    "--out",
    default="demo",
    show_default=True,
    type=click.Path(),
    help="Folder to make; a demo that was stopped goes on.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: a GPU where there is one]")
def demo(out: str, device: str | None) -> None:
    """Run the whole main job on text found on this machine: no network, minutes on two processor cores.

    Indexes the Python sources installed here, trains three small models on that index, and asks how much each
    memorized, by how often a sequence stands in the corpus, against text that none of them saw.

    \b
    Example:
      memindex demo --out /tmp/demo
    """
    from memindex.cli.output import note, print_table
    from memindex.cli.progress_bars import progress_bar
    from memindex.cli.stopping import resumable
    from memindex.report import write_report
    from memindex.study.demo import DemoPlan, run_demo

    start = time.perf_counter()
    with progress_bar("sequences") as progress, resumable("finished stages"):
        study = run_demo(Path(out), DemoPlan(), note, progress, device)
        note("Drawing the report")
        page = write_report(study, progress=progress)
    for title, columns, rows in _results(study):
        print_table(columns, rows, title=title)
    click.echo(f"Report: {page}")
    command = shlex.quote(sys.argv[0])
    click.echo("Ask further:")
    click.echo(f"  {command} sql -s {shlex.quote(str(study))} unseen_floor")
    index = shlex.quote(str(Path(out) / "python"))
    click.echo(f"  {command} count -i {index} 'Licensed under the Apache License' --by-domain")
    note(f"Done in {time.perf_counter() - start:.0f} s")


def _results(study: Path) -> list[tuple[str, list[str], list[list[object]]]]:
    """The tables that a newcomer sees, from the same queries as the report."""
    from memindex.sql.connection import connect
    from memindex.sql.queries import run_query

    con = connect(study)
    try:
        by_frequency = run_query(con, "rate_by_frequency").to_pylist()
        by_size = run_query(con, "rate_by_size").to_pylist()
        by_domain = run_query(con, "domain_shares").to_pylist()
    finally:
        con.close()
    return [_frequency_table(by_frequency), _size_table(by_size), _domain_table(by_domain)]


def _frequency_table(rows: list[dict[str, object]]) -> tuple[str, list[str], list[list[object]]]:
    runs = list(dict.fromkeys(str(row["run_label"]) for row in rows))
    lines: dict[str, list[object]] = {}
    for row in rows:
        line = lines.setdefault(str(row["frequency"]), [row["frequency"], row["sequences"], *([None] * len(runs))])
        line[2 + runs.index(str(row["run_label"]))] = f"{row['rate']:.1%}"
    title = "Memorized sequences (32 tokens given, all next 32 generated), by occurrences in the corpus"
    return title, ["occurrences", "sequences", *runs], list(lines.values())


def _size_table(rows: list[dict[str, object]]) -> tuple[str, list[str], list[list[object]]]:
    lines = [
        [
            row["run_label"],
            row["non_embedding_parameters"],
            f"{row['rate']:.2%}",
            f"{row['rate_low']:.2%} to {row['rate_high']:.2%}",
        ]
        for row in rows
    ]
    title = "Memorization rate on sequences drawn uniformly from the corpus, with 95 % intervals"
    return title, ["model", "parameters", "rate", "interval"], lines


def _domain_table(rows: list[dict[str, object]]) -> tuple[str, list[str], list[list[object]]]:
    runs = list(dict.fromkeys(str(row["run_label"]) for row in rows))
    lines: dict[str, list[object]] = {}
    for row in rows:
        line = lines.setdefault(
            str(row["domain"]), [row["domain"], f"{row['share_sample']:.1%}", *([None] * len(runs))]
        )
        line[2 + runs.index(str(row["run_label"]))] = _percent(row["share_memorized"])
    title = "Where the memorized sequences stand: each domain's share of them, beside its share of the corpus"
    return title, ["domain", "corpus", *runs], list(lines.values())


def _percent(share: object) -> str | None:
    # NULL where nothing was memorized: then no domain has a share of it.
    return f"{share:.1%}" if isinstance(share, float) else None
