"""`memindex run`: one model, or several, scored on a study's sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from memindex.cli.forms import form_options, print_objects
from memindex.cli.index_path import INDEX
from memindex.cli.scoring_options import PROTOCOL, WHERE, options_from, run_and_tell, scoring_from, with_options
from memindex.errors import MemindexError
from memindex.study.config import FILE, SequenceConfig, StudyConfig, load_study, parse_study
from memindex.study.protocol import CONTROLS, OTHER_CORPUS
from memindex.study.study_toml import study_toml


@click.command()
@click.option("--model", "models", multiple=True, required=True, help="Folder or hub name; repeatable.")
@click.option("--revision", "revisions", multiple=True, help="Branch, tag or commit of the hub models; repeatable.")
@click.option(
    "-s", "--study", "directory", default=".", show_default=True, type=click.Path(), help="Directory of the study."
)
@click.option("-i", "--index", "index_path", type=INDEX, help="Index to make the study of, where there is none.")
@click.option("--heldout", type=INDEX, help="Index of unseen documents for that study.")
@click.option(
    "--control",
    "controls",
    multiple=True,
    type=click.Choice(CONTROLS),
    help="Baselines beside the model: shuffled-suffixes, untrained. other-corpus marks models that never saw the "
    "corpus. Repeatable.",
)
@with_options(PROTOCOL, WHERE)
@form_options("Print the runs as JSON, one per line.", "one line per run")
def run(
    models: tuple[str, ...],
    revisions: tuple[str, ...],
    directory: str,
    index_path: str | None,
    heldout: str | None,
    controls: tuple[str, ...],
    form: str,
    **given: Any,
) -> None:
    """Score models on a study's sequences, into its tables.

    A run that was stopped goes on where it was. study.toml need not list the models, and stays as it is; what its
    [scoring] says holds where no option says otherwise. Every prefix length and every control is a run of its own.

    \b
    Examples:
      memindex run --model EleutherAI/pythia-1b -i pile
      memindex run --model EleutherAI/pythia-1b --revision step1000 --revision step143000 -s my-study
      memindex run --model models/llama-1M --prefix 4,8,16,32 --control shuffled-suffixes --control untrained
      memindex run --model EleutherAI/pythia-12b --dtype bfloat16 --unit 3/16    # job 3 of 16
    """
    from memindex.index.manifest import write_atomically
    from memindex.study.planning import name_models
    from memindex.study.preflight import check_models
    from memindex.study.running import study_runs

    config, text = _study(directory, index_path, heldout, given)
    mark = OTHER_CORPUS if OTHER_CORPUS in controls else None
    named = name_models(config, models, revisions, mark)
    scoring = scoring_from(config.scoring, given, [control for control in controls if control != OTHER_CORPUS])
    options = options_from(given)
    runs = study_runs(config, named, scoring)
    if text is not None:
        check_models(config, runs)
        config.directory.mkdir(parents=True, exist_ok=True)
        write_atomically(config.directory / FILE, text.encode())
    run_and_tell(config, options, scoring, named)
    _print_runs(config, [one.run_id for one in runs], form)


def _study(
    directory: str, index_path: str | None, heldout: str | None, given: dict[str, Any]
) -> tuple[StudyConfig, str | None]:
    """The study in a directory; where there is none yet, a new one of the index and the text of its study.toml."""
    from memindex.index.index import Index

    target = Path(directory)
    if (target / FILE).exists():
        config = load_study(directory)
        wanted = [Path(path).resolve() for path in (index_path, heldout) if path]
        if any(path not in (config.index, config.heldout) for path in wanted):
            raise MemindexError(
                f"{target / FILE} names other indexes: leave -i out, or choose another directory with -s"
            )
        return config, None
    if index_path is None:
        raise MemindexError(f"{directory} is not a study: name the index to make one of (-i INDEX), or a study (-s)")
    for path in filter(None, (index_path, heldout)):
        Index.open(path)
    lengths = {"prefix": max(given["prefix"], default=None), "suffix": given["suffix"]}
    sequences = SequenceConfig(**{name: tokens for name, tokens in lengths.items() if tokens is not None})
    text = study_toml(target, index_path, heldout, [], sequences)
    return parse_study(text, target.resolve()), text


def _print_runs(config: StudyConfig, run_ids: Sequence[str], form: str) -> None:
    from memindex.cli.output import print_table
    from memindex.tables.store import TableStore

    done = {row["run_id"]: row for row in TableStore(config.tables).read("runs").to_pylist()}
    columns = ["run_id", "state", "sequences", "seconds"]
    rows = [
        [run_id, "done", done[run_id]["sequences"], done[run_id]["seconds"]]
        if run_id in done
        else [run_id, "missing", None, None]
        for run_id in run_ids
    ]
    if form != "table":
        print_objects(form, (dict(zip(columns, row, strict=True)) for row in rows), columns)
    else:
        print_table(columns, rows)
