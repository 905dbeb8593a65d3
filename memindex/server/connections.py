"""Connections of clients: each has a bounded time for the head of a request, and for taking an answer.

uvicorn waits for ever for a head that never ends, and for a client that never reads. Bodies and answers have their time
in `bodies` and `work`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from memindex.server.config import Limits
from memindex.server.log import LogHandler
from memindex.server.stopping import StoppingServer

#: Bytes of a request that are no body: line, headers, trailers, lengths of chunks. h11 has a limit of its own,
#: httptools none.
MOST_BESIDE = 64 << 10

#: Seconds between the look that finds a client late and the one that breaks off.
AGAIN = 0.01


def http_server(app: ASGIApp, limits: Limits, log_level: str = "warning") -> uvicorn.Server:
    """What serves an application over sockets.

    Args:
        app: The application.
        limits: Of these `max_head_seconds` and `max_stop_seconds`.
        log_level: What uvicorn tells of itself.
    """
    config = uvicorn.Config(
        app,
        http=_protocol(limits.max_head_seconds),
        log_level=log_level,
        log_config=None,
        access_log=False,
        server_header=False,
        # Nothing here is about who asks, and from where.
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=math.ceil(limits.max_head_seconds),
    )
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).handlers = [LogHandler()]
        logging.getLogger(name).propagate = False
    return StoppingServer(config, limits.max_stop_seconds)


def _protocol(seconds: float) -> type[asyncio.Protocol]:
    """The protocol of uvicorn, by httptools where that is installed, with an end to its patience."""
    parts: tuple[type[Any], ...]
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        from memindex.server.upgrades import NoUpgrades

        parts = (_Impatient, _Brief, NoUpgrades, HttpToolsProtocol)
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol

        parts = (_Impatient, H11Protocol)
    return type("HttpProtocol", parts, {"seconds": seconds})


class _Impatient(asyncio.Protocol):
    """Breaks a connection off that makes no progress while nothing is worked on for it.

    The time runs from the connection, or from the answer before, to the end of a request's head: whatever comes
    meanwhile does not stop it. While a client takes parts of an answer, it starts anew.
    """

    #: Of uvicorn's protocols.
    cycle: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    seconds: float

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]
        self._since, self._unsent, self._late = self.loop.time(), 0, False
        self._timer = self.loop.call_later(self.seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()  # type: ignore[misc]

    def _look(self) -> None:
        """Once in a while, not at each request: one timer for a connection costs requests nothing."""
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if unsent < self._unsent or (self._is_busy() and not unsent):
            self._since = now
        self._unsent = unsent
        left = self._since + self.seconds - now
        if left > 0 or not self._late:
            # Where the loop was held up, what came meanwhile is read before the next look.
            self._late = left <= 0
            self._timer = self.loop.call_later(max(left, AGAIN), self._look)
        else:
            # Not close, which would wait for what the client does not take.
            self.transport.abort()

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


class _Joined:
    """A transport that sends together what is written in one go: uvicorn writes head and body of an answer apart.

    Two packets would cost as much as half of all else that the server does for a count, and wake its client twice.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send when the task that writes waits for something, or ends."""
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)

    def close(self) -> None:
        """Send what was written, and hang up."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.writelines(parts)


class _Brief(asyncio.Protocol):
    """Breaks a request off in which too much is no body; uvicorn and httptools would keep all of it."""

    _beside = 0

    def on_message_begin(self) -> None:
        self._beside = 0
        super().on_message_begin()  # type: ignore[misc]

    def on_body(self, body: bytes) -> None:
        # Twice: a body that comes in many chunks may have as much beside it.
        self._beside -= 2 * len(body)
        super().on_body(body)  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        self._beside += len(data)
        super().data_received(data)
        if self._beside > MOST_BESIDE:
            self.transport.abort()  # type: ignore[attr-defined]
