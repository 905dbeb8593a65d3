"""Stopping: requests under way are answered first, those that take longer than a grace get 503, and nothing is left.

uvicorn cancels what takes longer: its clients would get a bare 500, and the log a traceback of each.
"""

from __future__ import annotations

import asyncio
import math
import socket
from types import FrameType
from typing import Any

import uvicorn

from memindex.server.log import log

#: Seconds between two looks at whether somebody asked once more to stop.
_LOOK = 0.05

#: Seconds that the last answers have to go out.
_LAST = 0.5


class StoppingServer(uvicorn.Server):
    """A uvicorn server that ends in bounded time, at once when it is told to stop a second time."""

    def __init__(self, config: uvicorn.Config, grace: float) -> None:
        """`grace`: seconds that requests under way have."""
        # uvicorn's own patience is for what doesn't end when it is cancelled.
        config.timeout_graceful_shutdown = math.ceil(grace + 10 * _LAST)
        super().__init__(config)
        self._grace = grace
        self._at_once = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal that asks to stop."""
        self._at_once = self.should_exit
        super().handle_exit(sig, frame)
        # It would leave requests without an answer, and the processes of studies running.
        self.force_exit = False

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; called by uvicorn."""
        giving_up = asyncio.ensure_future(self._give_up_late_requests())
        try:
            await super().shutdown(sockets)
        finally:
            giving_up.cancel()

    async def _give_up_late_requests(self) -> None:
        """Once the grace is over: cancel all requests, which `memindex.server.gate` answers then."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._grace
        while loop.time() < end and not self._at_once:
            await asyncio.sleep(_LOOK)
        for connection in self._connections():
            cycle = connection.cycle
            if cycle is not None and cycle.response_started and not cycle.response_complete:
                # Nothing can be said behind half of an answer; a broken connection says it.
                connection.transport.abort()
        await asyncio.sleep(0)
        tasks = list(self.server_state.tasks)
        if tasks:
            log(f"stopped before {len(tasks):,} {'request was' if len(tasks) == 1 else 'requests were'} answered")
        for task in tasks:
            task.cancel()
        await asyncio.sleep(_LAST)
        for connection in self._connections():
            connection.transport.abort()

    def _connections(self) -> list[Any]:
        return list(self.server_state.connections)
