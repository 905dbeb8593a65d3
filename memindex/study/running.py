"""Running what a study lacks: sampling, counting, scoring, looking up what was generated.

Every piece of work is a unit with a file of its own, and a unit whose file exists is skipped: a study that was killed
goes on where it was. A run's row in `runs` is written after its last continuations, so a row there means a whole run.
What a file was made from stands in its unit's name or its row (settings, checksums, fingerprints): a change is refused
instead of mixed in.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from memindex.errors import MemindexError
from memindex.extras import require
from memindex.progress import Progress
from memindex.study.checking import check_study
from memindex.study.config import ModelConfig, StudyConfig
from memindex.study.exposures import ensure_exposures, known_trainings, missing_exposures
from memindex.study.frequencies import ensure_statistics, missing_statistics
from memindex.study.jobs import LOCAL, Done, RunOptions, device_of, do_units
from memindex.study.making_indexes import all_indexes, ensure_indexes, missing_indexes
from memindex.study.making_models import ensure_models, missing_models, trainings
from memindex.study.planning import UNIT, Run, Units, check_unchanged, plan_runs
from memindex.study.preflight import check_models
from memindex.study.probe_running import probe_status, run_probes
from memindex.study.protocol import ScoringConfig
from memindex.study.sequences import ensure_sequences, sample_name
from memindex.study.spans import ensure_spans, missing_spans
from memindex.study.units import tokens_of
from memindex.tables.origins import check_indexes
from memindex.tables.store import TableStore

__all__ = ["Done", "RunOptions", "run_probes", "run_study", "status", "study_runs"]


def run_study(
    config: StudyConfig,
    *,
    models: Sequence[ModelConfig] | None = None,
    scoring: ScoringConfig | None = None,
    only: str | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> Done:
    """Do what is missing: make indexes and models, sample and count sequences, score models on them, and so on.

    Args:
        config: The study.
        models: Models to score; None takes those of study.toml.
        scoring: Protocols to score them under; None takes those of study.toml.
        only: One step alone: `build` (indexes and planted texts of a corpus that study.toml describes), `train` (its
            models), `sequences` (sampled, and counted as wholes), `frequencies` (statistics of their n-grams, counts by
            domain), `scores`, `exposures` (when in training models saw them), `spans` (the longest match of every
            continuation), or `probes`.
        options: Where it is done.
        progress: Called with (stage, done, total).

    Raises:
        MemindexError: The study's settings or a model changed since they were used, or a model can't be run.
    """
    report, options = progress or (lambda *_: None), options or RunOptions()
    _make(config, only, options, report)
    if only in ("build", "train"):
        return Done()
    store = TableStore(config.tables)
    runs = study_runs(config, models, scoring)
    if only in (None, "scores"):
        if options.engine == LOCAL and not all(store.has("runs", run.run_id) for run in runs):
            require("models")  # before sequences are sampled and counted
        check_unchanged(store, runs, config)
        check_models(config, [run for run in runs if not store.has("runs", run.run_id)])
    if only not in (None, "sequences") and not store.has("frequencies", sample_name(config)):
        raise MemindexError(f"{config.directory} has no sequences yet: run it with --only sequences first")
    sequences = ensure_sequences(config, report)
    if only in (None, "frequencies"):
        ensure_statistics(config, report)
    done = _score(store, runs, sequences, options, report) if only in (None, "scores") else Done()
    if only in (None, "exposures"):
        ensure_exposures(config, config.models if models is None else models, sequences, report)
    if only in (None, "spans"):
        ensure_spans(config, report)
    if only in (None, "probes"):
        run_probes(config, models=models, scoring=scoring, options=options, progress=report)
    return done


def _make(config: StudyConfig, only: str | None, options: RunOptions, report: Progress) -> None:
    """Make what is missing of the indexes and models that study.toml describes."""
    if missing_indexes(config) or missing_models(config):
        check_study(config)
        if only in (None, "train") and missing_models(config):
            require("models")  # before an index is built
    if only in (None, "build"):
        ensure_indexes(config, report)
    check_indexes(config)
    if only in (None, "train"):
        ensure_models(config, options, report)


def study_runs(
    config: StudyConfig, models: Sequence[ModelConfig] | None = None, scoring: ScoringConfig | None = None
) -> list[Run]:
    """The runs that models and protocols make, by default those of study.toml."""
    models = config.models if models is None else models
    return plan_runs(config, models, scoring or config.scoring, sample_name(config))


def status(
    config: StudyConfig, models: Sequence[ModelConfig] | None = None, scoring: ScoringConfig | None = None
) -> list[tuple[str, str]]:
    """(piece of work, "done" or "missing") for everything the study consists of, and for other runs in its tables."""
    made = _made(config)
    if any(not done for _, done in made):
        # What comes after is named by what the indexes and models are.
        return [(name, "done" if done else "missing") for name, done in made]
    store = TableStore(config.tables)
    unit = sample_name(config)
    counted = store.has("frequencies", unit) and not missing_statistics(config)
    work = [*made, ("sequences", store.has("sequences", unit)), ("frequencies", counted)]
    runs = study_runs(config, models, scoring)
    for run in runs:
        alone = sum(other.model.id == run.model.id for other in runs) == 1
        work.append((f"scores of {run.model.id if alone else run.run_id}", store.has("runs", run.run_id)))
    listed = config.models if models is None else models
    if known_trainings(config, listed):
        work.append(("exposures", not missing_exposures(config, listed)))
    if runs:
        work.append(("spans", all(store.has("runs", run.run_id) for run in runs) and not missing_spans(config)))
    named = {run.run_id for run in runs}
    work += [(f"scores of {unit} (not in study.toml)", True) for unit in store.units("runs") if unit not in named]
    states = [(name, "done" if done else "missing") for name, done in work]
    return [*states, *probe_status(config, store, runs)]


def _made(config: StudyConfig) -> list[tuple[str, bool]]:
    """(what, whether it is there) of the indexes and models that the study makes itself."""
    missing = missing_indexes(config)
    indexes = all_indexes(config).items() if config.build else ()
    work = [(f"index {name}", path not in missing) for name, path in indexes]
    absent = missing_models(config)
    return work + [(f"model {training.id}", training not in absent) for training in trainings(config)]


def _score(
    store: TableStore, runs: Sequence[Run], sequences: pa.Table, options: RunOptions, progress: Progress
) -> Done:
    """Score what is missing of the runs."""
    if all(store.has("runs", run.run_id) for run in runs):
        return Done()
    device, size = device_of(options), options.unit_size or UNIT
    units = [Units(run, device, _rows(run, sequences), size) for run in runs]
    return do_units(store, units, sequences, options, progress)


def _rows(run: Run, sequences: pa.Table) -> int:
    """Sequences that a run scores: all, but for those whose document ends too early in the model's own tokens."""
    return len(tokens_of(run, sequences).sequence_ids) if run.protocol.retokenized else len(sequences)
