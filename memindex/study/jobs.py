"""Units of work dealt out: which are missing, who does them, and how far it all is."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from memindex.errors import MemindexError
from memindex.progress import Progress
from memindex.study.planning import Units
from memindex.study.probing import ProbeUnits, finish_probe
from memindex.study.units import finish_run
from memindex.study.worker import Job
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
        unit_size: Sequences per unit: what a killed run loses at most; None is 16,384 for scores, 1,024 for probes.

    Raises:
        MemindexError: A value that means nothing.
    """

    device: str | None = None
    batch_size: int | None = None
    engine: str = LOCAL
    workers: int | None = None
    part: tuple[int, int] | None = None
    unit_size: int | None = None

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


def do_units(
    store: TableStore, units: Sequence[Units], sequences: pa.Table, options: RunOptions, progress: Progress
) -> Done:
    """Do what is missing of the units.

    Args:
        store: The study's tables.
        units: The units of each run or probe, all for one kind of device.
        sequences: The study's sequences.
        options: Where it is done.
        progress: Called with (stage, done, total).
    """
    jobs = _jobs(store, units, options)
    if not jobs:
        return Done()
    start = time.perf_counter()
    count = _Count(store, jobs, progress)
    # A model takes seconds to load before its first sequence is done.
    count.start(jobs[0])
    _engine(store, sequences, jobs, options, count)
    return Done(count.scored, time.perf_counter() - start)


def device_of(options: RunOptions) -> str:
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
        if one.done(store):
            continue
        one.forget(store)
        missing = one.missing(store)
        if not missing:
            _finish(store, one)
        batch_size = options.batch_size or _batch_size(store, one, set(missing))
        jobs += [Job(one, n, batch_size) for n in missing if numbers[n] % shares == share - 1]
    return jobs


def _finish(store: TableStore, units: Units) -> None:
    if isinstance(units, ProbeUnits):
        finish_probe(store, units)
    else:
        finish_run(store, units)


def _batch_size(store: TableStore, units: Units, missing: set[int]) -> int | None:
    """Rows per pass of the units that are there: in half precision the rest must be made alike."""
    there = [name for number, name in enumerate(units.names()) if number not in missing]
    return max((int(store.facts(units.table, name)["batch_size"]) for name in there), default=None)


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
        arguments = [os.fspath(store.directory)]
        run_processes("memindex.study.worker", arguments, jobs, workers, jobs[0].units.device, count)


class _Count:
    """Progress of every run and probe, from the progress of its units."""

    def __init__(self, store: TableStore, jobs: Sequence[Job], progress: Progress) -> None:
        self._progress = progress
        self._before: dict[str, int] = {}
        self._rows: dict[str, dict[int, int]] = {}
        for job in jobs:
            title = job.units.title
            if title not in self._before:
                missing = sum(_length(job.units, number) for number in job.units.missing(store))
                self._before[title] = job.units.rows - missing
                self._rows[title] = {}

    def start(self, job: Job) -> None:
        """Report the run of a job before the first of its sequences is done."""
        self._progress(job.units.title, self._before[job.units.title], job.units.rows)

    def __call__(self, job: Job, rows: int) -> None:
        title = job.units.title
        if not self._rows[title]:
            self._progress(title, self._before[title], job.units.rows)
        self._rows[title][job.number] = rows
        done = self._before[title] + sum(self._rows[title].values())
        self._progress(title, done, job.units.rows)

    @property
    def scored(self) -> int:
        """Sequences scored so far."""
        return sum(sum(rows.values()) for rows in self._rows.values())


def _length(units: Units, number: int) -> int:
    part = units.part(number)
    return int(part.stop - part.start)
