"""Single counts pass FastAPI by: finding a route and calling it took three quarters of such a request's time.

The same functions stand behind FastAPI's routes, which the OpenAPI describes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class Shortcut(NamedTuple):
    """A POST route: its pattern as FastAPI writes it, a pattern of its path, and what answers; groups are arguments."""

    route: str
    path: re.Pattern[str]
    answer: Callable[..., Awaitable[Response]]


class Shortcuts:
    """Answers what a shortcut leads to; everything else goes on to the application."""

    def __init__(self, app: ASGIApp, shortcuts: tuple[Shortcut, ...]) -> None:
        self._app, self._shortcuts = app, shortcuts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["method"] == "POST":
            for shortcut in self._shortcuts:
                if found := shortcut.path.fullmatch(scope["path"]):
                    scope["memindex.route"] = shortcut.route
                    response = await shortcut.answer(Request(scope, receive), *found.groups())
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)
