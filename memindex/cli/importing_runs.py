"""What the commands of `memindex import` share: their options, and the import itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memindex.cli.scoring_options import with_options
from memindex.cli.sql import study_option
from memindex.errors import MemindexError

if TYPE_CHECKING:
    from memindex.importers.chunks import Source
    from memindex.importers.writing import Report

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))


def import_options(*, decoding: str | None, model_required: bool) -> Decorator:
    """The options that all formats share."""
    required: dict[str, Any] = {"required": True} if decoding is None else {"default": decoding, "show_default": True}
    options: list[Decorator] = [
        FILES,
        study_option(),
        click.option("--model-id", required=model_required, help="Name of the model in the study."),
        click.option("--name", help="Name of the sequences' source: the same for all models scored on the same ones."),
        click.option("--source", help="Hub name or folder of the model.  [default: the model id]"),
        click.option("--revision", help="Checkpoint of the model."),
        click.option("--parameters", type=click.IntRange(1), help="Parameters of the model, embeddings included."),
        click.option("--non-embedding-parameters", type=click.IntRange(1), help="Those outside the embeddings."),
        click.option("--decoding", type=click.Choice(["greedy", "sampled"]), help="How it generated.", **required),
        click.option("--seed", type=click.IntRange(0), help="Seed of sampling."),
        click.option("--top-k", type=click.IntRange(1), help="Likeliest tokens that sampling chose from."),
        click.option(
            "--temperature", type=click.FloatRange(0, min_open=True), help="Divisor of the logits in sampling."
        ),
        click.option("--no-lookup", is_flag=True, help="Neither count nor find the sequences in the study's index."),
        click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
    ]
    return with_options(options)


def import_all(sources: list[tuple[Source, str | None]], name: str, options: dict[str, Any]) -> None:
    """Import runs, each with what tells it from others of its name, and print what came in."""
    from memindex.cli.progress_bars import progress_bar
    from memindex.cli.stopping import resumable
    from memindex.importers.checking import Protocol
    from memindex.importers.writing import import_run
    from memindex.study.config import load_study
    from memindex.study.origins import open_index
    from memindex.tables.store import TableStore

    config = load_study(options["study"])
    protocol = Protocol(**{field.name: options[field.name] for field in fields(Protocol)})
    sampling = (protocol.seed, protocol.top_k, protocol.temperature)
    if protocol.decoding == "greedy" and any(option is not None for option in sampling):
        raise MemindexError("--seed, --top-k and --temperature go with --decoding sampled")
    index = None if options["no_lookup"] else open_index(config, config.index)
    store = TableStore(config.tables)
    for source, trial in sources:
        with progress_bar() as progress, resumable("finished runs"):
            report = import_run(store, source, name, protocol, index=index, trial=trial, progress=progress)
        _print_report(report, name, source, index is not None, options["as_json"])


def _print_report(report: Report, name: str, source: Source, looked_up: bool, as_json: bool) -> None:
    if report.already:
        tell(f"the run {report.run_id!r} was imported before: nothing to do")
    elif report.looked_up:
        tell(f"{report.found:,} of {report.looked_up:,} new sequences occur in the study's index")
        if not report.found:
            tell("none does: are they tokens of the index's tokenizer?")
    elif looked_up and report.new_sequences:
        tell("the files hold no tokens: the sequences can't be counted in the index")
    if as_json:
        click.echo(json.dumps({**vars(report), "name": None if source.of_study else name}, ensure_ascii=False))
    elif not report.already:
        click.echo(
            f"{report.run_id}: {report.rows:,} rows, {report.memorized:,} memorized; "
            + (
                f"{report.new_sequences:,} new sequences of {name!r}"
                if not source.of_study
                else "the study's own sequences"
            )
        )


def tell(text: str) -> None:
    """One line to stderr."""
    from memindex.cli.output import note

    note(f"memindex: {text}")
