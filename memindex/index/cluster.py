"""Units of a build on a Ray cluster. Every node must see the corpus files and the index's folder under the same paths.

A unit whose node is lost is done again: what it left has no name yet, or will be written over.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from memindex.corpus.windows import ORDINARY, WindowError
from memindex.errors import MemindexError
from memindex.index.sharding import PROCESS_BYTES, shown
from memindex.index.sorting import Sorted, SortJob, sort_shard
from memindex.index.tokenizing import UnitFacts, tokenize_unit
from memindex.index.tokenizing_process import TokenTask
from memindex.index.units import TokenUnit
from memindex.work.processes import import_path
from memindex.work.ray import ray_cluster

#: Times that a unit is tried again after its node was lost.
RETRIES = 2


class Cluster:
    """The cluster that RAY_ADDRESS or the machine names; without one, Ray is started here.

    Args:
        workers: Units at the same time; None takes as many as there are processors and memory.
    """

    def __init__(self, workers: int | None) -> None:
        self._ray = ray_cluster()
        self._workers = workers

    def tokenize(
        self, task: TokenTask, units: Sequence[TokenUnit], read: Callable[[TokenUnit, int], None]
    ) -> list[UnitFacts]:
        """Tokenize the units into their folders."""
        made: dict[int, UnitFacts] = {}
        left, window = list(range(len(units))), ORDINARY
        while left:
            granted = self._ray.put(task._replace(most_window=window))
            calls = [(number, (granted, units[number])) for number in left]
            memory = PROCESS_BYTES + (window if window > ORDINARY else 0)
            left = []
            for number, facts in self._all(_tokenize, calls, [memory] * len(units)):
                if isinstance(facts, WindowError):
                    # Again, where there is memory for its window.
                    self._check_window(facts)
                    left.append(number)
                    window = max(window, facts.need)
                else:
                    made[number] = facts
                    read(units[number], units[number].bytes)
        return [made[number] for number in range(len(units))]

    def sort(self, jobs: Sequence[SortJob], done: Callable[[Sorted], None]) -> None:
        """Sort the shards, each in a process beside Ray's worker."""
        calls = [(number, (job,)) for number, job in enumerate(jobs)]
        for _, facts in self._all(_sort, calls, [PROCESS_BYTES + job.memory for job in jobs]):
            done(facts)

    def _all(
        self, do: Callable[..., Any], calls: Sequence[tuple[int, tuple[Any, ...]]], memory: Sequence[int]
    ) -> Iterator[tuple[int, Any]]:
        """What `do` gives for every call, with its number, in the order they end; nothing goes on after an error."""
        ray = self._ray
        waiting, running = list(reversed(calls)), dict[Any, int]()
        most = self._workers or len(calls)
        self._check(memory)
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    number, arguments = waiting.pop()
                    remote = ray.remote(num_cpus=1, memory=memory[number], max_retries=RETRIES)(do)
                    running[remote.remote(import_path(), *arguments)] = number
                ready, _ = ray.wait(list(running), num_returns=1)
                number = running.pop(ready[0])
                yield number, _unwrapped(ray, ready[0])
        finally:
            for left in running:
                ray.cancel(left, force=True)

    def _largest_node(self) -> int:
        return max((node["Resources"].get("memory", 0) for node in self._ray.nodes() if node["Alive"]), default=0)

    def _check_window(self, error: WindowError) -> None:
        """Raise MemindexError when no node has room for the window of a packed file."""
        if PROCESS_BYTES + error.need > self._largest_node():
            raise MemindexError(
                f"{error} fits into no node of the Ray cluster, the largest has {shown(self._largest_node())}: pack it "
                "again with a smaller window (zstd -dc --long=31 FILE | zstd > NEW)"
            )

    def _check(self, memory: Sequence[int]) -> None:
        """A unit that no node has room for would wait for ever."""
        most = self._largest_node()
        if max(memory, default=0) > most:
            raise MemindexError(
                f"a unit needs {shown(max(memory))}, the largest node of the Ray cluster has {shown(most)}: "
                "use more --shards or less --memory"
            )


def _tokenize(path: list[str], task: TokenTask, unit: TokenUnit) -> UnitFacts | Exception:
    _find_packages(path)
    try:
        return tokenize_unit(task.units, unit, task.tokenizer(), task.skip_bad, most_window=task.most_window)
    except (MemindexError, OSError) as error:
        return error


def _sort(path: list[str], job: SortJob) -> Sorted | Exception:
    _find_packages(path)
    try:
        return sort_shard(job)
    except (MemindexError, OSError) as error:
        return error


def _find_packages(path: list[str]) -> None:
    sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]


def _unwrapped(ray: Any, reference: Any) -> Any:
    """What a call gave, also a window that was too wide; raises its error, or MemindexError when its node was lost."""
    try:
        answer = ray.get(reference)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise MemindexError(f"Ray lost a unit {RETRIES + 1} times ({reason}); see Ray's own log") from None
    if isinstance(answer, Exception) and not isinstance(answer, WindowError):
        raise answer
    return answer
