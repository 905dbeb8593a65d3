"""Running what a study lacks: sampling, counting, scoring, looking up what was generated.

Every piece of work is a unit with a file of its own, and a unit whose file exists is skipped: a study that was killed
goes on where it was. A run's row in `runs` is written after its last continuations, so a row there means a whole run.
What a file was made from stands in its unit's name or its row (settings, checksums, fingerprints): a change is refused
instead of mixed in.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from memindex.errors import MemindexError
from memindex.progress import Progress
from memindex.study.config import ModelConfig, StudyConfig
from memindex.study.frequencies import ensure_statistics, missing_statistics
from memindex.study.planning import UNIT, Run, Units, check_unchanged, plan_runs
from memindex.study.preflight import check_models
from memindex.study.protocol import ScoringConfig
from memindex.study.sequences import ensure_sequences, sample_name
from memindex.study.spans import ensure_spans, missing_spans
from memindex.study.units import finish_run, tokens_of
from memindex.study.worker import Job
from memindex.tables.origins import check_indexes
from memindex.tables.store import TableStore

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)


@dataclass(frozen=True)
class RunOptions:
    """Where runs are done; nothing here decides what comes out.

    Attributes:
        device: cpu or cuda; None takes a GPU where there is one.
        batch_size: Sequences per forward pass; None takes as many as memory holds.
        engine: local (this machine) or ray (a Ray cluster).
        workers: Processes, or actors of the cluster; None takes one per GPU.
        part: (i, n) does the units whose number leaves the remainder i - 1 when divided by n; None does all.
        unit_size: Sequences per unit: what a killed run loses at most.

    Raises:
        MemindexError: A value that means nothing.
    """

    device: str | None = None
    batch_size: int | None = None
    engine: str = LOCAL
    workers: int | None = None
    part: tuple[int, int] | None = None
    unit_size: int = UNIT

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.engine not in ENGINES:
            raise MemindexError(f"unknown engine {self.engine!r}; known: {', '.join(ENGINES)}")
        for name in ("batch_size", "workers", "unit_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise MemindexError(f"{name} must be 1 or more, got {value}")
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            raise MemindexError(f"there is no unit share {self.part[0]}/{self.part[1]}: write 1/4 to 4/4")


@dataclass(frozen=True)
class Done:
    """What one call scored: sequences, and wall time with loading; seconds."""

    sequences: int = 0
    seconds: float = 0.0


def run_study(
    config: StudyConfig,
    *,
    models: Sequence[ModelConfig] | None = None,
    scoring: ScoringConfig | None = None,
    only: str | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> Done:
    """Do what is missing: sample and count the sequences, score models on them, look up what these generated.

    Args:
        config: The study.
        models: Models to score; None takes those of study.toml.
        scoring: Protocols to score them under; None takes those of study.toml.
        only: One step alone: `sequences` (sampled, and counted as wholes), `frequencies` (statistics of their n-grams,
            counts by domain), `scores`, or `spans` (the longest match of every continuation).
        options: Where it is done.
        progress: Called with (stage, done, total).

    Raises:
        MemindexError: The study's settings or a model changed since they were used, or a model can't be run.
    """
    report, options = progress or (lambda *_: None), options or RunOptions()
    check_indexes(config)
    store = TableStore(config.tables)
    runs = study_runs(config, models, scoring)
    if only in (None, "scores"):
        check_unchanged(store, runs, config)
        check_models(config, [run for run in runs if not store.has("runs", run.run_id)])
    if only not in (None, "sequences") and not store.has("frequencies", sample_name(config)):
        raise MemindexError(f"{config.directory} has no sequences yet: run it with --only sequences first")
    sequences = ensure_sequences(config, report)
    if only in (None, "frequencies"):
        ensure_statistics(config, report)
    done = _score(store, runs, sequences, options, report) if only in (None, "scores") else Done()
    if only in (None, "spans"):
        ensure_spans(config, report)
    return done


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
    store = TableStore(config.tables)
    unit = sample_name(config)
    counted = store.has("frequencies", unit) and not missing_statistics(config)
    work = [("sequences", store.has("sequences", unit)), ("frequencies", counted)]
    runs = study_runs(config, models, scoring)
    for run in runs:
        alone = sum(other.model.id == run.model.id for other in runs) == 1
        work.append((f"scores of {run.model.id if alone else run.run_id}", store.has("runs", run.run_id)))
    if runs:
        work.append(("spans", all(store.has("runs", run.run_id) for run in runs) and not missing_spans(config)))
    named = {run.run_id for run in runs}
    work += [(f"scores of {unit} (not in study.toml)", True) for unit in store.units("runs") if unit not in named]
    return [(name, "done" if done else "missing") for name, done in work]


def _score(
    store: TableStore, runs: Sequence[Run], sequences: pa.Table, options: RunOptions, progress: Progress
) -> Done:
    """Score what is missing of the runs."""
    if all(store.has("runs", run.run_id) for run in runs):
        return Done()
    device = _device(options)
    units = [Units(run, device, _rows(run, sequences), options.unit_size) for run in runs]
    jobs = _jobs(store, units, options)
    if not jobs:
        return Done()
    start = time.perf_counter()
    count = _Count(store, jobs, progress)
    _engine(store, sequences, jobs, options, count)
    return Done(count.scored, time.perf_counter() - start)


def _rows(run: Run, sequences: pa.Table) -> int:
    """Sequences that a run scores: all, but for those whose document ends too early in the model's own tokens."""
    return len(tokens_of(run, sequences).sequence_ids) if run.protocol.retokenized else len(sequences)


def _device(options: RunOptions) -> str:
    """The kind of device, for all workers alike: cpu or cuda."""
    if options.engine == RAY:
        from memindex.study.engines.cluster import cluster_gpus

        return options.device or ("cuda" if cluster_gpus() else "cpu")
    from memindex.models.runtime import find_device

    return find_device(options.device).type


def _jobs(store: TableStore, units: Sequence[Units], options: RunOptions) -> list[Job]:
    """What this process is to do: the units that are missing, or its share of them."""
    jobs: list[Job] = []
    share, shares = options.part or (1, 1)
    first = 0
    for one in units:
        numbers, first = range(first, first + len(one)), first + len(one)
        if store.has("runs", one.run.run_id):
            continue
        for stale in one.stale(store):
            store.file("continuations", stale).unlink(missing_ok=True)
        missing = one.missing(store)
        if not missing:
            finish_run(store, one)
        batch_size = options.batch_size or _batch_size(store, one, set(missing))
        jobs += [Job(one, n, batch_size) for n in missing if numbers[n] % shares == share - 1]
    return jobs


def _batch_size(store: TableStore, units: Units, missing: set[int]) -> int | None:
    """Rows per pass of the units that are there: in half precision the rest must be made alike."""
    there = [name for number, name in enumerate(units.names()) if number not in missing]
    return max((int(store.facts("continuations", name)["batch_size"]) for name in there), default=None)


def _engine(store: TableStore, sequences: pa.Table, jobs: Sequence[Job], options: RunOptions, count: _Count) -> None:
    from memindex.study.engines.local import count_gpus, run_here, run_processes

    if options.engine == RAY:
        from memindex.study.engines.cluster import run_on_cluster

        run_on_cluster(store.directory, jobs, options.workers, count)
        return
    gpus = count_gpus() if jobs[0].units.device == "cuda" else 1
    workers = min(options.workers or max(1, gpus), len(jobs))
    if workers == 1:
        run_here(store.directory, sequences, jobs, count)
    else:
        run_processes(store.directory, jobs, workers, count)


class _Count:
    """Progress of every run, from the progress of its units."""

    def __init__(self, store: TableStore, jobs: Sequence[Job], progress: Progress) -> None:
        self._progress = progress
        self._before: dict[str, int] = {}
        self._rows: dict[str, dict[int, int]] = {}
        for job in jobs:
            run_id = job.units.run.run_id
            if run_id not in self._before:
                missing = sum(_length(job.units, number) for number in job.units.missing(store))
                self._before[run_id] = job.units.rows - missing
                self._rows[run_id] = {}

    def __call__(self, job: Job, rows: int) -> None:
        run_id = job.units.run.run_id
        if not self._rows[run_id]:
            self._progress(f"score {run_id}", self._before[run_id], job.units.rows)
        self._rows[run_id][job.number] = rows
        done = self._before[run_id] + sum(self._rows[run_id].values())
        self._progress(f"score {run_id}", done, job.units.rows)

    @property
    def scored(self) -> int:
        """Sequences scored so far."""
        return sum(sum(rows.values()) for rows in self._rows.values())


def _length(units: Units, number: int) -> int:
    part = units.part(number)
    return int(part.stop - part.start)
