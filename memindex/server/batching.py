"""Counts of many requests in one lookup: what comes while the engine is busy is asked together when it is free.

Nothing waits for company: a request that finds the engine free is asked at once, so one client alone pays no more.
Under load batches grow by themselves to what comes during one lookup.

Where lookups take microseconds, handing them to a thread and back takes several times as long as they do. So once they
were quick for a while, they are made where they are asked for, until one is not: then it waited for a disk, as the next
ones may, and nothing else must wait with them.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import NamedTuple

from memindex.index.index import Index
from memindex.ragged import from_lists

#: N-grams of one lookup: a thousand take about a millisecond from memory, so nobody waits long for others.
MOST = 1024

#: Seconds within which a lookup is quick: one from memory takes some microseconds, the first page from a disk more.
QUICK = 0.0002

#: Quick ones in a row after which the next are expected to be quick, too.
TRUSTED = 64

#: Ids of queries, and the count of each.
Counted = list[int]


class _Waiting(NamedTuple):
    queries: Sequence[Sequence[int]]
    future: asyncio.Future[Counted]


class _Found(NamedTuple):
    """Counts of a lookup, or what went wrong, and how long it took."""

    counts: Counted
    error: Exception | None
    seconds: float

    def tell(self, future: asyncio.Future[Counted], start: int, end: int) -> None:
        """Give a future its part."""
        if self.error is None:
            future.set_result(self.counts[start:end])
        else:
            future.set_exception(self.error)


class _Batch(NamedTuple):
    entries: list[_Waiting]
    loop: asyncio.AbstractEventLoop
    batcher: Batcher


class Batcher:
    """Counts n-grams in one index, in one thread of its own or where they are asked for."""

    def __init__(self, index: Index, asked: Callable[[int], None] = lambda queries: None) -> None:
        """`asked` is told the queries of every lookup."""
        self._index, self._asked = index, asked
        self._quick = 0
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
        if self._quick >= TRUSTED and not self._busy:
            self._count_here(queries, future)
            return future
        self._waiting.append(_Waiting(queries, future))
        if not self._busy:
            self._next()
        return future

    def _count_here(self, queries: Sequence[Sequence[int]], future: asyncio.Future[Counted]) -> None:
        self._asked(len(queries))
        found = _found(self._index, queries)
        self._note(found)
        found.tell(future, 0, len(queries))

    def _note(self, found: _Found) -> None:
        """Whether a lookup was quick."""
        self._quick = self._quick + 1 if found.seconds < QUICK else 0

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

    def tell(self, entries: list[_Waiting], found: _Found) -> None:
        """What the thread found; called in the loop that asked."""
        self._note(found)
        start = 0
        for entry in entries:
            end = start + len(entry.queries)
            if not entry.future.done():
                found.tell(entry.future, start, end)
            start = end
        self._next()

    def give_up(self) -> None:
        """The loop that asked is closed: nobody waits there any more."""
        self._busy = False


def _work(index: Index, asks: SimpleQueue[_Batch | None]) -> None:
    while (batch := asks.get()) is not None:
        found = _found(index, [query for entry in batch.entries for query in entry.queries])
        try:
            batch.loop.call_soon_threadsafe(batch.batcher.tell, batch.entries, found)
        except RuntimeError:
            batch.batcher.give_up()
        del batch, found


def _found(index: Index, queries: Sequence[Sequence[int]]) -> _Found:
    began = time.perf_counter()
    try:
        counts, error = _count(index, queries), None
    except Exception as raised:
        counts, error = [], raised
    return _Found(counts, error, time.perf_counter() - began)


def _count(index: Index, queries: Sequence[Sequence[int]]) -> Counted:
    if len(queries) == 1:
        return [index.count_one(queries[0])]
    counts: Counted = index.count(from_lists(queries)).tolist()
    return counts
