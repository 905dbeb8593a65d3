"""Counts of many requests in one lookup: what comes while the engine is busy is asked together when it is free.

Nothing waits for company: a request that finds the engine free is asked at once, so one client alone pays no more.
Under load batches grow by themselves to what comes during one lookup.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
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


class _Batch(NamedTuple):
    entries: list[_Waiting]
    loop: asyncio.AbstractEventLoop
    batcher: Batcher


class Batcher:
    """Counts n-grams in one index, in one thread of its own."""

    def __init__(self, index: Index, asked: Callable[[int], None] = lambda queries: None) -> None:
        """`asked` is told the queries of every lookup."""
        self._asked = asked
        self._asks: SimpleQueue[_Batch | None] = SimpleQueue()
        # An executor would take a third of the time of a lookup.
        # The thread knows nothing of the batcher, and ends with it.
        threading.Thread(target=_work, args=(index, self._asks), name="memindex-count", daemon=True).start()
        self.close = weakref.finalize(self, self._asks.put, None)
        self._waiting: list[_Waiting] = []
        self._busy = False

    def count(self, queries: Sequence[Sequence[int]]) -> asyncio.Future[Counted]:
        """Occurrences of a few n-grams; ids must be those of the index, and no n-gram empty."""
        future: asyncio.Future[Counted] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(queries, future))
        if not self._busy:
            self._next()
        return future

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
            self._asks.put(_Batch(batch, asyncio.get_running_loop(), self))

    def tell(self, entries: list[_Waiting], counts: Counted | None, error: Exception | None) -> None:
        """What the thread found; called in the loop that asked."""
        start = 0
        for entry in entries:
            end = start + len(entry.queries)
            if not entry.future.done():
                if counts is None:
                    entry.future.set_exception(error or RuntimeError("no counts"))
                else:
                    entry.future.set_result(counts[start:end])
            start = end
        self._next()

    def give_up(self) -> None:
        """The loop that asked is closed: nobody waits there any more."""
        self._busy = False


def _work(index: Index, asks: SimpleQueue[_Batch | None]) -> None:
    while (batch := asks.get()) is not None:
        counts, error = None, None
        try:
            counts = _count(index, [query for entry in batch.entries for query in entry.queries])
        except Exception as raised:
            error = raised
        try:
            batch.loop.call_soon_threadsafe(batch.batcher.tell, batch.entries, counts, error)
        except RuntimeError:
            batch.batcher.give_up()
        del batch, counts, error


def _count(index: Index, queries: list[Sequence[int]]) -> Counted:
    if len(queries) == 1:
        return [index.count_one(queries[0])]
    counts: Counted = index.count(from_lists(queries)).tolist()
    return counts
