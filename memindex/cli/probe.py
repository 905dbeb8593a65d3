"""`memindex probe`: measurements inside the models of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from memindex.cli.forms import form_options, print_objects
from memindex.cli.scoring_options import WHERE, options_from, with_options
from memindex.errors import MemindexError
from memindex.study.config import ModelConfig, StudyConfig, load_study
from memindex.study.probe_config import PROBES, REPLACEMENTS, SAMPLES, ProbeConfig
from memindex.study.protocol import DTYPES


@click.command()
@click.argument("name", type=click.Choice(list(PROBES)))
@click.option(
    "-s", "--study", "directory", default=".", show_default=True, type=click.Path(), help="Directory of the study."
)
@click.option(
    "--model", "models", multiple=True, help="Model of the study to look into; repeatable. [default: those listed]"
)
@click.option(
    "--sequences",
    type=click.IntRange(1),
    help="Most sequences of a run: memorized ones for compression (default: all), of each domain for head_importance, "
    "else of each outcome (default: 200).",
)
@click.option(
    "--sample",
    type=click.Choice(SAMPLES),
    help="Sample that the sequences are from. [default: per run, the first of uniform, bucket, domain and planted with "
    "enough sequences]",
)
@click.option("--alpha", "alphas", multiple=True, type=float, help="Strength of noise, 0 to 1; repeatable.")
@click.option("--draws", type=click.IntRange(1), help="How often noise and replaced tokens are drawn. [default: 3]")
@click.option("--replacement", type=click.Choice(REPLACEMENTS), help="What a head is replaced by. [default: others]")
@click.option("--seed", type=click.IntRange(0), help="Seed of what is drawn. [default: 0]")
@click.option("--dtype", type=click.Choice(DTYPES), help="What the run was scored with, where that was named.")
@click.option("--attention", help="Likewise.")
@with_options(WHERE)
@form_options("Print the probes as JSON, one per line.", "one line per run")
def probe(name: str, directory: str, models: tuple[str, ...], form: str, **given: Any) -> None:
    """Measure NAME inside the models of a study, on sequences they were scored on, into its tables.

    A probe looks at runs of the main protocol that are finished: greedy, with the whole prefix and suffix. One that was
    stopped goes on where it was; other settings take the place of what was there. The section [probes] of study.toml
    says what holds without options, and which probes `memindex study run` does.

    \b
    compression      the fewest last context tokens that still give the full memorized output
    noise            what noise in the residual stream does to later layers and to the output
    perturbation     what one wrong prefix token does to the output
    layer_decoding   what every layer says about the emitted tokens
    head_importance  what is left of memorized output when one attention head is replaced

    Each has a table of its name. The sequences of a run are from one sample: the first of uniform, bucket, domain and
    planted with 10 sequences of each outcome that the probe compares. For compression it must have 10 memorized ones;
    for head_importance, which compares domains, 20 memorized ones in as many domains as any sample has. Compare models
    only where their sample is the same: --sample chooses it for all of them.

    Noise, perturbation and layer_decoding compare memorized, half-memorized and
    unmemorized sequences: drawn at random from each, and in trios that are alike in domain, frequency and perplexity.

    \b
    Examples:
      memindex probe compression -s my-study
      memindex probe noise -s my-study --model pythia-1b --sequences 500 --alpha 0 --alpha 0.1 --draws 5
    """
    from memindex.cli.output import note
    from memindex.cli.progress_bars import progress_bar
    from memindex.cli.stopping import resumable
    from memindex.extras import require
    from memindex.study.planning import name_models
    from memindex.study.probe_running import run_probes

    config = load_study(directory)
    if given["engine"] != "ray":
        require("models")
    settings = _settings(config.probes, given)
    scoring = replace(
        config.scoring, **{key: value for key in ("dtype", "attention") if (value := given.pop(key)) is not None}
    )
    config = replace(config, scoring=scoring)
    named = name_models(config, models) if models else config.models
    run_ids = _scored(config, named)
    with progress_bar("sequences") as progress, resumable():
        done = run_probes(
            config, [name], models=named, settings=settings, options=options_from(given), progress=progress
        )
    if done.sequences:
        samples = _samples(config, name, run_ids)
        some = f", from the sample{'s' * (len(samples) > 1)} {', '.join(samples)}" if samples else ""
        note(f"measured {done.sequences:,} sequences in {done.seconds:,.1f} s (with loading){some}")
    _print(config, name, run_ids, form)


def _settings(base: ProbeConfig, given: dict[str, Any]) -> ProbeConfig:
    """What study.toml says, changed as the options do; takes those out of `given`."""
    options = {name: given.pop(name) for name in ("sample", "sequences", "seed", "draws", "replacement")}
    options["alphas"] = given.pop("alphas") or None
    return replace(base, **{name: value for name, value in options.items() if value is not None})


def _scored(config: StudyConfig, models: Sequence[ModelConfig]) -> list[str]:
    """The runs to look at.

    Raises:
        MemindexError: There is none.
    """
    from memindex.study.probing import probed_runs
    from memindex.study.running import study_runs
    from memindex.tables.store import TableStore

    if not models:
        raise MemindexError(f"{config.directory / 'study.toml'} lists no models: name one with --model")
    planned = [run.run_id for run in probed_runs(config, study_runs(config, models))]
    if not planned:
        raise MemindexError(
            "probes look at greedy runs with the whole prefix and suffix, and [scoring] of study.toml asks for none"
        )
    store = TableStore(config.tables)
    found = [run_id for run_id in planned if store.has("runs", run_id)]
    if not found:
        raise MemindexError(
            f"there is no finished run {planned[0]!r} to look into: memindex study run, or memindex run --model, "
            "scores models"
        )
    return found


def _rows(config: StudyConfig, name: str, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows of the table `probes` for one probe, by run."""
    from memindex.tables.store import TableStore

    rows = TableStore(config.tables).read("probes").to_pylist()
    return {row["run_id"]: row for row in rows if row["probe"] == name and row["run_id"] in run_ids}


def _samples(config: StudyConfig, name: str, run_ids: Sequence[str]) -> list[str]:
    """The samples that the runs were probed on."""
    return sorted({row["sample"] for row in _rows(config, name, run_ids).values() if row["sample"]})


def _print(config: StudyConfig, name: str, run_ids: Sequence[str], form: str) -> None:
    from memindex.cli.output import print_table

    done = _rows(config, name, run_ids)
    columns = ["run_id", "probe", "state", "sample", "sequences", "seconds"]
    rows = []
    for run_id in run_ids:
        row = done.get(run_id)
        state = ["done", row["sample"], row["sequences"], row["seconds"]] if row else ["missing", None, None, None]
        rows.append([run_id, name, *state])
    if form != "table":
        print_objects(form, (dict(zip(columns, row, strict=True)) for row in rows), columns)
    else:
        print_table(columns, rows)
