"""Work in threads: so many requests at a time, so many that wait, and none longer than it may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.types import Receive

from memindex.server.config import Limits
from memindex.server.problems import CLIENT_GONE, ProblemError, busy

Answer = TypeVar("Answer")

#: Seconds that a request waits before anybody watches whether its client is still there; most are answered by then.
PATIENCE = 0.05


class Workers:
    """Threads for lookups; knows how many requests are inside."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.max_concurrent, thread_name_prefix="memindex-work")
        self.inside = 0
        self.closing = False

    @property
    def waiting(self) -> int:
        """Requests that wait for a thread."""
        return max(0, self.inside - self._limits.max_concurrent)

    @property
    def ready(self) -> bool:
        """Whether another request would be taken."""
        return not self.closing and self.inside < self._limits.max_concurrent + self._limits.max_waiting

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request in while it waits and is worked on; raises ProblemError 503 where too many are inside."""
        if not self.ready:
            raise busy("too many requests are waiting", "max_waiting")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def run(self, do: Callable[[], Answer], receive: Receive) -> Answer:
        """What `do` returns, called in a thread; errors as `answer_in_time`, and what `do` raises."""
        loop = asyncio.get_running_loop()
        return await self.answer_in_time(loop.run_in_executor(self._threads, do), receive)

    async def answer_in_time(self, future: asyncio.Future[Answer], receive: Receive) -> Answer:
        """The result of a future.

        Work that no thread has begun is given up; what a thread has begun ends in it, and takes its place until then.

        Raises:
            ProblemError: 504 after `max_seconds`, 499 when the client went away.
        """
        if future.done():
            return future.result()
        most = self._limits.max_seconds
        try:
            if not await _done_within(future, min(PATIENCE, most)):
                await _watched(future, receive, most)
            return future.result()
        finally:
            if not future.done():
                future.cancel()
                # Nobody will ask for what it raises.
                future.add_done_callback(_forget)

    def close(self) -> None:
        """Take no more work; what waits is given up."""
        self.closing = True
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _done_within(future: asyncio.Future[Any], seconds: float) -> bool:
    """Whether a future is done in time: asyncio.wait in a third of its time."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    future.add_done_callback(wake)
    timer = loop.call_later(seconds, wake)
    try:
        await waiter
    finally:
        timer.cancel()
        future.remove_done_callback(wake)
    return future.done()


async def _watched(future: asyncio.Future[Answer], receive: Receive, seconds: float) -> None:
    """Wait until there is a result; raises ProblemError when it takes too long or the client goes away."""
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        done, _ = await asyncio.wait((future, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
    if future in done:
        return
    if done:
        raise ProblemError(CLIENT_GONE, "the client went away")
    raise ProblemError(
        504, f"no answer within {seconds:g} seconds (max_seconds): ask for less at a time", "max_seconds"
    )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _forget(future: asyncio.Future[Answer]) -> None:
    if not future.cancelled():
        future.exception()
