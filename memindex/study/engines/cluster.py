"""Units on a Ray cluster: one actor per GPU (or per core, without GPUs), each a worker like any other.

Every node must see the study's directory and the models under the same paths. A unit whose node is lost is done again
by another actor: units are small and their files whole.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memindex.errors import MemindexError
from memindex.study.engines.local import Report
from memindex.study.worker import Job, Worker
from memindex.work.processes import import_path
from memindex.work.ray import ray_cluster

#: Times that a unit is tried again after its actor died.
RETRIES = 2


def cluster_gpus() -> int:
    """GPUs of the cluster that RAY_ADDRESS or the machine names; it is joined (or started here) first."""
    return int(ray_cluster().cluster_resources().get("GPU", 0))


def run_on_cluster(tables: Path, jobs: Sequence[Job], workers: int | None, report: Report) -> None:
    """Do the jobs on the cluster, dealt out one at a time.

    Args:
        tables: Directory of the study's tables, the same on every node.
        jobs: The units to do.
        workers: Actors; None takes one per GPU, or one per core where the jobs want none.
        report: Called after each unit.

    Raises:
        MemindexError: A job failed, or its actors died over and over.
    """
    ray = ray_cluster()
    on_gpu = jobs[0].units.device == "cuda"
    most = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 0))
    if not most:
        raise MemindexError(f"the Ray cluster has no {'GPU' if on_gpu else 'core'} to work on")
    count = min(workers or most, len(jobs))
    actor = ray.remote(num_cpus=1, num_gpus=min(1.0, most / count) if on_gpu else 0)(_Actor)
    actors = [actor.remote(str(tables), import_path()) for _ in range(count)]
    try:
        _deal(ray, actor, actors, tables, list(jobs), report)
    finally:
        for one in actors:
            ray.kill(one)


def _deal(ray: Any, actor: Any, actors: list[Any], tables: Path, jobs: list[Job], report: Report) -> None:
    """Keep every actor at a unit until none is left, then have all of them write what waits."""
    left = list(reversed(jobs))
    tries: dict[int, int] = {}
    busy: dict[Any, tuple[int, Job | None]] = {}

    def give(which: int) -> None:
        job = left.pop() if left else None
        busy[actors[which].score.remote(job) if job else actors[which].flush.remote()] = (which, job)

    unwritten: list[list[Job]] = [[] for _ in actors]
    for which in range(len(actors)):
        give(which)
    while busy:
        done, _ = ray.wait(list(busy), num_returns=1)
        which, job = busy.pop(done[0])
        try:
            message = ray.get(done[0])
        except ray.exceptions.RayActorError:
            # What it had not written is as lost as what it was at.
            for again in [*unwritten[which], *([job] if job else [])]:
                tries[id(again)] = tries.get(id(again), 0) + 1
                if tries[id(again)] > RETRIES:
                    raise MemindexError(f"Ray lost {RETRIES + 1} workers at one unit; see Ray's own log") from None
                left.append(again)
            unwritten[which] = []
            actors[which] = actor.remote(str(tables), import_path())
            give(which)
            continue
        if message is not None:
            raise MemindexError(message)
        if job is not None:
            unwritten[which].append(job)
            report(job, job.units.part(job.number).stop - job.units.part(job.number).start)
            give(which)


class _Actor:
    """A worker in an actor; answers None, or the line that says what went wrong."""

    def __init__(self, tables: str, path: list[str]) -> None:
        sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]
        self._worker = Worker(Path(tables))

    def score(self, job: Job) -> str | None:
        try:
            self._worker.score(job)
        except MemindexError as error:
            return str(error)
        return None

    def flush(self) -> str | None:
        try:
            self._worker.flush()
        except MemindexError as error:
            return str(error)
        return None
