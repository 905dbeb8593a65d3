"""Counts of many requests in one lookup: what comes while the engine is busy is asked together when it is free.

Nothing waits for company: a request that finds the engine free is asked at once, so one client alone pays no more.
Under load batches grow by themselves to what comes during one lookup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from memindex.index.index import Index
from memindex.ragged import from_lists

#: N-grams of one lookup: a thousand take about a millisecond from memory, so nobody waits long for others.
MOST = 1024

#: Ids of queries, and the count of each.
Counted = list[int]


class _Waiting(NamedTuple):
    queries: Sequence[Sequence[int]]
    future: asyncio.Future[Counted]


class Batcher:
    """Counts n-grams in one index, in one thread of its own."""

    def __init__(self, index: Index, asked: Callable[[int], None] = lambda queries: None) -> None:
        """`asked` is told the queries of every lookup."""
        self._index = index
        self._asked = asked
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memindex-count")
        self._waiting: list[_Waiting] = []
        self._busy = False

    def count(self, queries: Sequence[Sequence[int]]) -> asyncio.Future[Counted]:
        """Occurrences of a few n-grams; ids must be those of the index, and no n-gram empty."""
        future: asyncio.Future[Counted] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(queries, future))
        if not self._busy:
            self._next()
        return future

    def close(self) -> None:
        """Ask no more; what waits is given up."""
        for entry in self._waiting:
            entry.future.cancel()
        self._waiting.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> None:
        """Ask what waits, as much as fits; what was given up meanwhile is not asked."""
        batch: list[_Waiting] = []
        size = taken = 0
        for entry in self._waiting:
            if batch and size + len(entry.queries) > MOST:
                break
            taken += 1
            if not entry.future.done():
                batch.append(entry)
                size += len(entry.queries)
        del self._waiting[:taken]
        self._busy = bool(batch)
        if batch:
            self._asked(size)
            loop = asyncio.get_running_loop()
            queries = [query for entry in batch for query in entry.queries]
            asked = loop.run_in_executor(self._thread, self._count, queries)
            asked.add_done_callback(lambda answer: self._tell(batch, answer))

    def _count(self, queries: list[Sequence[int]]) -> Counted:
        if len(queries) == 1:
            return [self._index.count_one(queries[0])]
        counts: Counted = self._index.count(from_lists(queries)).tolist()
        return counts

    def _tell(self, batch: list[_Waiting], answer: asyncio.Future[Counted]) -> None:
        error = None if answer.cancelled() else answer.exception()
        start = 0
        for entry in batch:
            end = start + len(entry.queries)
            if not entry.future.done():
                if answer.cancelled():
                    entry.future.cancel()
                elif error is not None:
                    entry.future.set_exception(error)
                else:
                    entry.future.set_result(answer.result()[start:end])
            start = end
        self._next()
