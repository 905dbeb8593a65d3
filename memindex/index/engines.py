"""Who does the units of a build: this machine, in this process and in others, or a Ray cluster (`cluster`)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Protocol, TypeVar

from memindex.corpus.tokenizer import Tokenizer
from memindex.corpus.windows import WindowError
from memindex.index.sharding import (
    beyond_memory,
    concurrent_sorters,
    concurrent_tokenizers,
    processors,
    window_memory,
)
from memindex.index.sorting import Sorted, SortJob, sort_shard
from memindex.index.tokenizing import UnitFacts, tokenize_unit
from memindex.index.tokenizing_process import TokenProcess, TokenTask
from memindex.index.units import TokenUnit
from memindex.work.processes import Process

Unit = TypeVar("Unit")
Facts = TypeVar("Facts")

#: Called with a unit and the bytes of its files that were read so far.
UnitRead = Callable[[TokenUnit, int], None]

#: Called with a window that a process has no memory for; raises MemindexError when no other process will have.
Check = Callable[[WindowError], None]


class Engine(Protocol):
    """Does units in any order, and raises what the first of them that fails raises."""

    def tokenize(self, task: TokenTask, units: Sequence[TokenUnit], read: UnitRead) -> list[UnitFacts]:
        """Tokenize the units into their folders."""

    def sort(self, jobs: Sequence[SortJob], done: Callable[[Sorted], None]) -> None:
        """Sort the shards."""


class Local:
    """This machine.

    One tokenizer works in this process, several in processes of their own; every shard is sorted in a new one.
    """

    def __init__(self, tokenizer: Tokenizer, memory: int, workers: int) -> None:
        self._tokenizer = tokenizer
        self._memory = memory
        self._workers = workers

    def tokenize(self, task: TokenTask, units: Sequence[TokenUnit], read: UnitRead) -> list[UnitFacts]:
        """Tokenize the units into their folders.

        Units that need more memory than a process has, to unpack a file, are left for a later round of fewer processes.
        """
        made: dict[int, UnitFacts] = {}
        left, window = list(units), 0
        while left:
            count = min(concurrent_tokenizers(self._memory, self._workers, window), len(left))
            granted = task._replace(most_window=window_memory(self._memory, count))
            do = self._in_this_process if count == 1 else _in_processes
            wide: list[TokenUnit] = []
            for unit, facts in zip(left, do(granted, left, count, read, self._check), strict=True):
                if isinstance(facts, WindowError):
                    wide.append(unit)
                    window = max(window, facts.need)
                else:
                    made[unit.number] = facts
            left = wide
        return [made[unit.number] for unit in units]

    def _check(self, error: WindowError) -> None:
        """Raise MemindexError when even one process alone could not unpack the file."""
        if error.need > window_memory(self._memory, 1):
            raise beyond_memory(error, self._memory) from None

    def _in_this_process(
        self, task: TokenTask, units: Sequence[TokenUnit], count: int, read: UnitRead, check: Check
    ) -> list[UnitFacts | WindowError]:
        facts: list[UnitFacts | WindowError] = []
        for unit in units:

            def told(done: int, unit: TokenUnit = unit) -> None:
                read(unit, done)

            try:
                facts.append(tokenize_unit(task.units, unit, self._tokenizer, task.skip_bad, told, task.most_window))
            except WindowError as error:
                check(error)
                facts.append(error)
        return facts

    def sort(self, jobs: Sequence[SortJob], done: Callable[[Sorted], None]) -> None:
        """Sort the shards, as many at a time as memory and processors allow."""
        sort_here(jobs, concurrent_sorters(jobs, self._memory, self._workers), done)


def sort_here(jobs: Sequence[SortJob], count: int, done: Callable[[Sorted], None]) -> None:
    """Sort shards on this machine, `count` at a time; the threads wait for their processes."""
    told, running = threading.Lock(), set[Process]()

    def do(job: SortJob) -> None:
        facts = sort_shard(job, running)
        with told:
            done(facts)

    with ThreadPoolExecutor(count) as pool:
        try:
            _all(pool, do, jobs)
        except KeyboardInterrupt:
            for process in list(running):
                process.kill()
            raise


def _in_processes(
    task: TokenTask, units: Sequence[TokenUnit], count: int, read: UnitRead, check: Check
) -> list[UnitFacts | WindowError]:
    """Tokenize in `count` processes, which threads hand the units to."""
    idle, told = queue.SimpleQueue[TokenProcess](), threading.Lock()
    processes: list[TokenProcess] = []

    def tell(unit: TokenUnit, done: int) -> None:
        with told:
            read(unit, done)

    def do(unit: TokenUnit) -> UnitFacts | WindowError:
        process = idle.get()
        try:
            return process.do(unit, lambda done: tell(unit, done))
        except WindowError as error:
            check(error)
            return error
        finally:
            idle.put(process)

    try:
        # Here, not in the threads: one that was being started when the build is stopped must find its process gone.
        for _ in range(count):
            processes.append(TokenProcess(task, max(1, processors() // count)))
            idle.put(processes[-1])
        with ThreadPoolExecutor(count) as pool:
            try:
                return _all(pool, do, units)
            finally:
                # A thread whose process is gone waits no longer.
                for process in processes:
                    process.kill()
    finally:
        for process in processes:
            process.close()


def _all(pool: ThreadPoolExecutor, do: Callable[[Unit], Facts], units: Sequence[Unit]) -> list[Facts]:
    """What `do` gives for every unit; after the first failure no other is begun."""
    futures: list[Future[Facts]] = []
    try:
        futures.extend(pool.submit(do, unit) for unit in units)
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            if future.done() and not future.cancelled() and (error := future.exception()):
                raise error
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise
