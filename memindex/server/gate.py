"""What every request passes first and every answer last: names, keys, headers, numbers, and unexpected errors."""

from __future__ import annotations

import asyncio
import hmac
import time
import traceback
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memindex.server.hosts import Hosts
from memindex.server.log import log
from memindex.server.metrics import Metrics
from memindex.server.page import is_of_page
from memindex.server.problems import ProblemError, stopped

#: Scripts, styles and pictures from this server only, none of them inline; no page may show ours inside its own.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]

#: Whoever runs the service must see whether it lives, without a key and by any name; it tells nothing else.
OPEN_PATHS = {"/health", "/health/"}

#: What counts as a method in the metrics; others would make a label each.
METHODS = {"GET", "HEAD", "POST", "OPTIONS"}


class Gate:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: Hosts, api_keys: Iterable[str] = ()) -> None:
        self._app, self._metrics, self._hosts = app, metrics, hosts
        self._keys = [key.encode() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and what comes back with the headers that every answer has."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, is_head = time.perf_counter(), 0, scope["method"] == "HEAD"
        # Routes know of GET alone; what it answers goes out without its body.
        asked = {**scope, "method": "GET"} if is_head else scope

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in HEADERS if pair[0] not in own)]
            elif is_head:
                message["body"] = b""
            await send(message)

        try:
            self._check(scope)
            await self._app(asked, receive, send_on)
        except asyncio.CancelledError:
            if status:
                raise
            # The server stops: `memindex.server.stopping` gives up what took longer than its grace.
            await _response(stopped(), scope)(scope, receive, send_on)
        except Exception as error:
            if status:
                # Half of the answer is out: the connection must break, so that the client knows.
                raise
            await _response(error, scope)(scope, receive, send_on)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.answered(_route(asked), method, status, time.perf_counter() - began)

    def _check(self, scope: Scope) -> None:
        """Raise ProblemError for a request under a wrong name (421) or without a key (401)."""
        if scope["path"] not in OPEN_PATHS and not self._hosts.allow(scope["headers"]):
            raise ProblemError(421, "this server is not asked under the name in Host: --allowed-host would allow it")
        if self._keys and not self._has_key(scope):
            raise ProblemError(401, "this server asks for an API key", headers={"WWW-Authenticate": "Bearer"})

    def _has_key(self, scope: Scope) -> bool:
        # The page has a field for the key.
        if scope["path"] in OPEN_PATHS or is_of_page(scope):
            return True
        headers = Headers(scope=scope)
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        # Every key is compared to its end: no time tells which one came near.
        matches = [hmac.compare_digest(given.encode("latin-1", "replace"), key) for key in self._keys]
        return any(matches)


def _response(error: Exception, scope: Scope) -> ASGIApp:
    if not isinstance(error, ProblemError):
        trace = " | ".join("".join(traceback.format_exception(error)).split("\n"))
        log(f"{scope['method']} {scope['path'][:200]!r} failed: {trace}")
        error = ProblemError(500, "something went wrong in the server; its log says what")
    return error.as_error() if scope["path"] == "/" else error.response()


def _route(scope: Scope) -> str:
    """The route's pattern: paths as they are asked would be labels without number."""
    return scope.get("memindex.route") or str(getattr(scope.get("route"), "path", "other"))
