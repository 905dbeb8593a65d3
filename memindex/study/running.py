"""Running what a study lacks: sampling, counting, scoring, looking up what was generated.

Every piece of work is a unit with a file of its own, and a unit whose file exists is skipped: a study that was killed
goes on where it was. A run's row in `runs` is written after its last continuations, so a row there means a whole run.
What a file was made from stands in its unit's name or its row (settings, checksums, fingerprints): a change is refused
instead of mixed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from memindex.errors import MemindexError
from memindex.extras import require
from memindex.progress import Progress, report_loading
from memindex.study.checking import check_study
from memindex.study.config import ModelConfig, StudyConfig
from memindex.study.exposures import ensure_exposures, known_trainings, missing_exposures
from memindex.study.frequencies import ensure_statistics, missing_statistics
from memindex.study.jobs import LOCAL, Done, RunOptions, device_of, do_units
from memindex.study.making_indexes import all_indexes, ensure_indexes, missing_indexes
from memindex.study.making_models import ensure_models, missing_models, trainings
from memindex.study.origins import check_indexes
from memindex.study.planning import UNIT, Run, Units, check_unchanged, plan_runs
from memindex.study.preflight import check_models
from memindex.study.probe_running import probe_status, run_probes
from memindex.study.protocol import ScoringConfig
from memindex.study.sequences import ensure_sequences, sample_name
from memindex.study.spans import ensure_spans, missing_spans
from memindex.study.units import tokens_of
from memindex.tables.store import TableStore

__all__ = ["Done", "RunOptions", "Work", "run_probes", "run_study", "status", "study_runs", "work_of"]

#: How a piece of work stands.
DONE, MISSING = "done", "missing"


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
        _check_runs(config, store, runs, options, report)
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


def _check_runs(
    config: StudyConfig, store: TableStore, runs: Sequence[Run], options: RunOptions, report: Progress
) -> None:
    """Refuse models that can't be run, before sequences are sampled and counted."""
    missing = [run for run in runs if not store.has("runs", run.run_id)]
    if missing and options.engine == LOCAL:
        require("models")
    check_unchanged(store, runs, config)
    check_models(config, missing)
    if missing:
        report_loading(report)


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


@dataclass(frozen=True)
class Work:
    """A piece of work that a study consists of, and how it stands.

    Attributes:
        kind: index, model, sequences, frequencies, scores, exposures, spans or probe.
        name: Which one of them: an index, a model, a run (model and protocol); None where there is only one.
        state: done, missing or too_few_sequences.
        probe: Of a probe: which one.
        in_study: Whether study.toml asks for it; False for runs that `memindex run` added.
    """

    kind: str
    name: str | None
    state: str
    probe: str | None = None
    in_study: bool = True

    @property
    def title(self) -> str:
        """As people read it."""
        if self.probe is not None:
            return f"{self.probe} of {self.name}"
        named = {"scores": f"scores of {self.name}"}.get(self.kind, f"{self.kind} {self.name}")
        return (named if self.name else self.kind) + ("" if self.in_study else " (not in study.toml)")


def status(
    config: StudyConfig, models: Sequence[ModelConfig] | None = None, scoring: ScoringConfig | None = None
) -> list[tuple[str, str]]:
    """(piece of work, how it stands, in words) of everything in `work_of`."""
    return [(one.title, one.state.replace("_", " ")) for one in work_of(config, models, scoring)]


def work_of(
    config: StudyConfig, models: Sequence[ModelConfig] | None = None, scoring: ScoringConfig | None = None
) -> list[Work]:
    """Everything that the study consists of, and other runs in its tables."""
    made = _made(config)
    if any(one.state != DONE for one in made):
        # What comes after is named by what the indexes and models are.
        return made
    store = TableStore(config.tables)
    unit = sample_name(config)
    counted = store.has("frequencies", unit) and not missing_statistics(config)
    work = [*made, _work("sequences", None, store.has("sequences", unit)), _work("frequencies", None, counted)]
    runs = study_runs(config, models, scoring)
    for run in runs:
        alone = sum(other.model.id == run.model.id for other in runs) == 1
        work.append(_work("scores", run.model.id if alone else run.run_id, store.has("runs", run.run_id)))
    listed = config.models if models is None else models
    if known_trainings(config, listed):
        work.append(_work("exposures", None, not missing_exposures(config, listed)))
    if runs:
        traced = all(store.has("runs", run.run_id) for run in runs) and not missing_spans(config)
        work.append(_work("spans", None, traced))
    named = {run.run_id for run in runs}
    work += [Work("scores", unit, DONE, in_study=False) for unit in store.units("runs") if unit not in named]
    probes = probe_status(config, store, runs)
    return work + [Work("probe", run, state, probe=probe) for probe, run, state in probes]


def _work(kind: str, name: str | None, done: bool) -> Work:
    return Work(kind, name, DONE if done else MISSING)


def _made(config: StudyConfig) -> list[Work]:
    """The indexes and models that the study makes itself."""
    missing = missing_indexes(config)
    indexes = all_indexes(config).items() if config.build else ()
    work = [_work("index", name, path not in missing) for name, path in indexes]
    absent = missing_models(config)
    return work + [_work("model", training.id, training not in absent) for training in trainings(config)]


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
