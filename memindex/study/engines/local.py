"""Work on this machine: in this process, or in one process per GPU that take jobs from one queue.

The processes run a worker's module (`memindex.work.processes`).
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from memindex.errors import MemindexError
from memindex.study.worker import Job, Worker
from memindex.work.processes import Process

#: Called with a job and how much of it is done.
Report = Callable[[Any, int], None]


def run_here(tables: Path, sequences: pa.Table, jobs: Sequence[Job], report: Report) -> None:
    """Do the jobs in this process, one after another."""
    with Worker(tables, sequences) as worker:
        for job in jobs:
            worker.score(job, lambda done, _, job=job: report(job, done))  # type: ignore[misc]


def run_processes(
    module: str, arguments: Sequence[str], jobs: Sequence[Any], workers: int, device: str, report: Report
) -> None:
    """Do the jobs in `workers` processes, dealt out one at a time; on GPUs each process sees one of them.

    Args:
        module: The module that a process runs: one that calls `memindex.study.worker.run_worker`.
        arguments: Of its command line.
        jobs: What its worker does; pickled.
        workers: Processes.
        device: cpu or cuda.
        report: Told of progress.

    Raises:
        MemindexError: A job failed, or a process died. The others have finished the jobs they were at.
    """
    crew = _Crew(jobs, report)
    processes = [_start(module, arguments, number, workers, device) for number in range(workers)]
    threads = [threading.Thread(target=crew.drive, args=(process,), daemon=True) for process in processes]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for process in processes:
            process.kill()
            _close(process)
    if crew.errors:
        raise crew.errors[0]


class _Crew:
    """The jobs that are left, and the first thing that went wrong."""

    def __init__(self, jobs: Sequence[Any], report: Report) -> None:
        self._jobs = iter(jobs)
        self._report = report
        self._lock = threading.Lock()
        self.errors: list[BaseException] = []

    def drive(self, process: Process) -> None:
        """Hand one worker job after job, until there is none or one failed."""
        try:
            while (job := self._take()) is not None:
                _send(process, job)
                while (answer := _receive(process))[0] == "progress":
                    with self._lock:
                        self._report(job, answer[1])
            _send(process, None)
            _receive(process)
        except BaseException as error:  # told by the thread that waits for all workers
            with self._lock:
                self.errors.append(error)

    def _take(self) -> Any:
        with self._lock:
            return None if self.errors else next(self._jobs, None)


def _send(process: Process, job: Any) -> None:
    assert process.stdin is not None
    try:
        pickle.dump(job, process.stdin)
        process.stdin.flush()
    except BrokenPipeError:
        raise _died(process) from None


def _receive(process: Process) -> tuple[Any, ...]:
    assert process.stdout is not None
    try:
        answer: tuple[Any, ...] = pickle.load(process.stdout)
    except (EOFError, pickle.UnpicklingError):
        raise _died(process) from None
    if answer[0] == "failed":
        raise MemindexError(answer[1])
    return answer


def _close(process: Process) -> None:
    """Wait for a process that was told to end, and close its pipes."""
    with suppress(BrokenPipeError), process:
        pass


def _died(process: Process) -> MemindexError:
    return MemindexError(
        f"a worker process {process.reason()}; finished units are kept: run the same command again to resume"
    )


def _start(module: str, arguments: Sequence[str], number: int, workers: int, device: str) -> Process:
    return Process(module, arguments, {**os.environ, **_share(number, workers, device)})


def _share(number: int, workers: int, device: str) -> dict[str, str]:
    """Settings that give a worker its part of the machine."""
    if device != "cuda":
        threads = max(1, len(os.sched_getaffinity(0)) // workers) if hasattr(os, "sched_getaffinity") else 1
        return {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(gpu) for gpu in range(count_gpus())]
    return {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}


def count_gpus() -> int:
    """GPUs that this process may use."""
    import memindex.models.torch_setup  # noqa: F401

    import torch

    return torch.cuda.device_count()
