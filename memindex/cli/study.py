"""`memindex study`: describe a study, run what it lacks, see what is done, export what came out."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from memindex.cli import NamingGroup
from memindex.cli.forms import form_options, print_objects
from memindex.cli.index_path import INDEX
from memindex.cli.scoring_options import PROTOCOL, WHERE, options_from, run_and_tell, scoring_from, with_options
from memindex.errors import MemindexError
from memindex.study.config import FILE, STEPS, StudyConfig, load_study, with_models
from memindex.study.protocol import ScoringConfig


@click.group(cls=NamingGroup)
def study() -> None:
    """Sample sequences and score models on them, into tables."""


@study.command()
@click.argument("directory", type=click.Path())
@click.option("-i", "--index", "index_path", required=True, type=INDEX, help="Index the models were trained on.")
@click.option("--heldout", type=INDEX, help="Index of documents that no model saw, for the unseen control.")
@click.option("--model", "models", multiple=True, help="Folder or hub name of a model to score; repeatable.")
@click.option("--prefix", default=32, show_default=True, help="Context tokens given to the model.")
@click.option("--suffix", default=32, show_default=True, help="Continuation tokens compared.")
@click.option("--uniform", default=2000, show_default=True, help="Sequences drawn uniformly from the corpus.")
@click.option("--per-bucket", default=500, show_default=True, help="Distinct sequences per frequency bucket, at most.")
@click.option("--heldout-sequences", default=1000, show_default=True, help="Sequences from the held-out index.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of all sampling.")
def init(
    directory: str,
    index_path: str,
    heldout: str | None,
    models: tuple[str, ...],
    prefix: int,
    suffix: int,
    uniform: int,
    per_bucket: int,
    heldout_sequences: int,
    seed: int,
) -> None:
    """Write DIRECTORY/study.toml, which describes a study.

    \b
    Example:
      memindex study init my-study -i pile --heldout pile-heldout --model EleutherAI/pythia-160m
    """
    from memindex.index.index import Index
    from memindex.index.manifest import write_atomically
    from memindex.study.config import SequenceConfig
    from memindex.study.study_toml import study_toml

    for path in filter(None, (index_path, heldout)):
        Index.open(path)
    if min(prefix, suffix) < 1 or min(uniform, per_bucket, heldout_sequences, seed) < 0:
        raise MemindexError("--prefix and --suffix must be at least 1, the other numbers at least 0")
    target = Path(directory)
    if (target / FILE).exists():
        raise MemindexError(f"{target / FILE} exists already: edit it, or choose another directory")
    target.mkdir(parents=True, exist_ok=True)
    sequences = SequenceConfig(prefix, suffix, uniform, per_bucket, heldout_sequences, seed)
    text = study_toml(target, index_path, heldout, models, sequences)
    write_atomically(target / FILE, text.encode())
    click.echo(os.fspath(target / FILE))


@study.command()
@click.argument("directory", type=click.Path(), default=".")
@form_options("Print JSON, one piece per line.", "one line per piece")
def check(directory: str, form: str) -> None:
    """Say what a study consists of, and whether it can be run, before any work starts.

    What can't be run gets one line: an unknown key, text or a model that is missing, a corpus that is shorter than what
    is to be trained on it. Of a size that no whole number of layers and heads makes exactly, the nearest is told.

    \b
    Example:
      memindex study check studies/families
    """
    from memindex.cli.output import print_table
    from memindex.study.checking import check_study

    plan = check_study(load_study(directory))
    states = {True: "done", False: "missing", None: ""}
    if form != "table":
        objects = [{"kind": p.kind, "name": p.name, "state": states[p.there] or None} | p.facts for p in plan]
        print_objects(form, objects)
    else:
        print_table(["what", "amount", "state"], [[one.what, one.amount, states[one.there]] for one in plan])


@study.command()
@click.argument("directory", type=click.Path(), default=".")
@click.option("--only", type=click.Choice(STEPS), help="Run one step only.")
@click.option("--models", multiple=True, metavar="PATTERN", help="Only models with such ids, as 'llama-*'; repeatable.")
@with_options(PROTOCOL, WHERE)
def run(directory: str, only: str | None, models: tuple[str, ...], **given: Any) -> None:
    """Run what a study lacks: sample and count its sequences, score its models, look up what these generated.

    Where study.toml describes a corpus ([build], [[corpus]], [plant]) and models to train on it ([[train]]), these are
    made first. Models and protocols stand there too ([[models]], [scoring]); options go before what [scoring] says.
    [frequencies] ngrams = [1, 5] says which n-grams of the sequences are counted, and [probes] run = ["compression"]
    what is measured inside the models. Of models that `memindex train` made of the study's index, it is told when they
    read each sequence (exposures). A study made before a table existed gets it from its next run.

    Machines that share the study's folder share the work by --unit. Others can each take some of the --models: the
    files of their tables folders have different names, or are the same, and can be put into one.

    \b
    Examples:
      memindex study run my-study
      memindex study run my-study --prefix 4,8,16,32 --dtype bfloat16
      memindex study run my-study --only frequencies
      memindex study run studies/families --models 'llama-*' --models 'olmo*'
    """
    config = load_study(directory)
    config = with_models(config, models) if models else config
    scoring = scoring_from(config.scoring, given)
    run_and_tell(config, options_from(given), scoring, only=only)
    _print_status(config, "table", scoring)


@study.command()
@click.argument("directory", type=click.Path(), default=".")
@form_options("Print JSON, one piece of work per line.", "one line per piece of work")
def status(directory: str, form: str) -> None:
    """Say what of a study is done.

    \b
    Example:
      memindex study status my-study
    """
    _print_status(load_study(directory), form)


@study.command()
@click.argument("directory", type=click.Path(), default=".")
@click.option("-o", "--out", required=True, type=click.Path(), help="Folder to make.")
@click.option("--replace", is_flag=True, help="Replace an earlier export; any other folder is refused.")
def export(directory: str, out: str, replace: bool) -> None:
    """Write the answers of all queries as small Parquet files, for a repository: OUT/QUERY.parquet.

    Parameters have their defaults; other texts that a query takes are files of their own, QUERY__TEXT.parquet.
    OUT/models.parquet lists the models with seed, seconds and loss of their training. Queries without rows have no
    file; stderr says why. The same tables give the same bytes.

    \b
    Example:
      memindex study export my-study --out results
    """
    from memindex.cli.output import note
    from memindex.sql.export import export_study

    folder = export_study(directory, out, replace=replace, tell=lambda line: note(f"memindex: {line}"))
    click.echo(str(folder))


def _print_status(config: StudyConfig, form: str, scoring: ScoringConfig | None = None) -> None:
    from memindex.cli.output import print_table
    from memindex.study.origins import unusable_indexes, warn_of_changes
    from memindex.study.running import work_of

    warn_of_changes(config, unusable_indexes(config))
    work = work_of(config, scoring=scoring)
    if form != "table":
        print_objects(form, [asdict(one) for one in work], ["kind", "name", "state", "probe", "in_study"])
    else:
        print_table(["work", "state"], [[one.title, one.state.replace("_", " ")] for one in work])
