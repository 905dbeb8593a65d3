"""Bodies of requests: read with a limit before anything looks at them, and held in bounded memory all together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from memindex.server.config import Limits
from memindex.server.problems import CLIENT_GONE, ProblemError, busy, too_much


class Bodies:
    """Reads bodies; knows how many bytes of them are held."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held = 0

    @asynccontextmanager
    async def of(self, request: Request, content_type: str | None) -> AsyncIterator[bytes]:
        """The body of a request, until the block ends.

        Args:
            request: The request.
            content_type: What it must say of its body; None for anything.

        Raises:
            ProblemError: 413 (too large), 415 (of another type, or compressed), 408 (too slow), 503 (too many)
        """
        self._check_headers(request, content_type)
        body = bytearray()
        try:
            await self._read(request, body)
            yield bytes(body)
        finally:
            self.held -= len(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        try:
            async with asyncio.timeout(self._limits.max_seconds):
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ProblemError(CLIENT_GONE, "the client went away")
                    part, more = message.get("body", b""), message.get("more_body", False)
                    self.held += len(part)
                    body += part
                    self._check(len(body))
        except TimeoutError:
            # The rest of the body would stand before the next request.
            headers = {"Connection": "close"}
            raise ProblemError(408, "the body did not arrive in time (max_seconds)", "max_seconds", headers) from None

    def _check_headers(self, request: Request, content_type: str | None) -> None:
        # Names are in lower case, as ASGI has them.
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        given = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if content_type and given != content_type.encode():
            raise ProblemError(415, f"the body must be {content_type}: say so in Content-Type")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ProblemError(415, "send the body without Content-Encoding")
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > self._limits.max_body_bytes:
            raise self._too_large()

    def _check(self, size: int) -> None:
        if size > self._limits.max_body_bytes:
            raise self._too_large()
        if self.held > self._limits.max_buffered_bytes:
            raise busy("the bodies of all requests together are too large", "max_buffered_bytes")

    def _too_large(self) -> ProblemError:
        return too_much("the body is too large", self._limits.max_body_bytes, "max_body_bytes")
