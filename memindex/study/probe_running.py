"""Running probes: those that study.toml lists, or those that are asked for, on the runs that are finished."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from memindex.progress import Progress, report_loading
from memindex.study.config import ModelConfig, StudyConfig
from memindex.study.jobs import Done, RunOptions, device_of, do_units
from memindex.study.planning import Run, check_unchanged, plan_runs
from memindex.study.probe_config import ProbeConfig
from memindex.study.probe_sample import LEAST, OUTCOMES, TooFewError
from memindex.study.probing import UNIT, ProbeUnits, plan_probe, probed_runs
from memindex.study.protocol import ScoringConfig
from memindex.study.sequences import ensure_sequences, sample_name
from memindex.tables.store import TableStore


def run_probes(
    config: StudyConfig,
    probes: Sequence[str] | None = None,
    *,
    models: Sequence[ModelConfig] | None = None,
    scoring: ScoringConfig | None = None,
    settings: ProbeConfig | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> Done:
    """Do what is missing of probes on the finished runs of the main protocol.

    Runs without sequences of an outcome that a probe compares are skipped, with a warning; those with few of one are
    probed, with a warning too.

    Args:
        config: The study.
        probes: Their names (`memindex.study.probe_config.PROBES`); None takes those of study.toml.
        models: Models to look into; None takes those of study.toml.
        scoring: Protocols they were scored under; None takes those of study.toml.
        settings: What decides about the results; None takes that of study.toml.
        options: Where it is done.
        progress: Called with (stage, done, total).

    Raises:
        MemindexError: A model changed since it was scored, or can't be run; or no run has sequences for a probe that
            `probes` names.
    """
    report, options, settings = progress or (lambda *_: None), options or RunOptions(), settings or config.probes
    store = TableStore(config.tables)
    named = config.models if models is None else models
    runs = probed_runs(config, plan_runs(config, named, scoring or config.scoring, sample_name(config)))
    runs = [run for run in runs if store.has("runs", run.run_id)]
    wanted = config.probes.run if probes is None else probes
    if probes is None:
        runs = [run for run in runs if settings.takes(run.model.id)]
    if not runs or not wanted:
        return Done()
    check_unchanged(store, runs, config)
    sequences = ensure_sequences(config, report)
    missing: list[ProbeUnits] = []
    for probe in dict.fromkeys(wanted):
        units, few = _planned(store, probe, runs, sequences, settings, options.unit_size or UNIT)
        if few and not units and probes is not None:
            raise few[0]
        for error in few:
            warnings.warn(str(error), stacklevel=2)
        missing += [one for one in units if not one.done(store)]
    if not missing:
        return Done()
    _warn_of_few(missing)
    report_loading(report)
    device = device_of(options)
    # Model by model, not probe by probe: each is then loaded once, and worker processes are started once.
    missing.sort(key=lambda one: runs.index(one.run))
    return do_units(store, [replace(one, device=device) for one in missing], sequences, options, report)


def _warn_of_few(units: Sequence[ProbeUnits]) -> None:
    """Warn of runs whose sample has few sequences of an outcome; without memorized ones a probe of these has no row."""
    for one in units:
        few = [(count, name) for count, name in zip(one.there, OUTCOMES, strict=False) if count < LEAST]
        if not few:
            continue
        found = ", ".join(f"{count} {name}" for count, name in few)
        warnings.warn(
            f"{one.probe}: the sample {one.sample} of {one.run.run_id!r} has only {found} sequences, fewer than "
            f"{LEAST}: sample more sequences, or take a model that memorized more",
            stacklevel=3,
        )


def probe_status(config: StudyConfig, store: TableStore, runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """(probe, model, state) of the probes that study.toml asks for; done, missing or too_few_sequences."""
    work = []
    for probe in dict.fromkeys(config.probes.run):
        for run in probed_runs(config, [run for run in runs if config.probes.takes(run.model.id)]):
            state = "missing"
            if store.has("runs", run.run_id):
                sequences = store.read("sequences", units=[run.sample])
                units, _ = _planned(store, probe, [run], sequences, config.probes, UNIT)
                state = ("done" if units[0].done(store) else "missing") if units else "too_few_sequences"
            work.append((probe, run.model.id, state))
    return work


def _planned(
    store: TableStore, probe: str, runs: Sequence[Run], sequences: pa.Table, settings: ProbeConfig, size: int
) -> tuple[list[ProbeUnits], list[TooFewError]]:
    """The units of a probe on the runs that have sequences for it, and an error for each of the others."""
    units, few = [], []
    for run in runs:
        try:
            units += plan_probe(store, probe, [run], sequences, settings, size)
        except TooFewError as error:
            few.append(error)
    return units, few
