"""The web page: static files beside this module, served as they are, and open to whoever has no key yet."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from memindex.server.accept import preferred
from memindex.server.problems import ProblemError

HTML = "text/html"

_FOLDER = Path(__file__).parent
_TYPES = {".html": HTML, ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

#: A newer server has newer files under the same names: browsers ask whether theirs are still right.
_HEADERS = {"Cache-Control": "no-cache"}


def page_router() -> APIRouter:
    """The files of the page, and the page itself for those whose `GET /` can't ask for HTML."""
    router = APIRouter(include_in_schema=False)

    @router.get("/page/{name}")
    async def file(name: str) -> Response:
        # Only what lies here is served: the name is compared, never joined to a path.
        found = next((path for path in _FOLDER.iterdir() if path.name == name and path.suffix in _TYPES), None)
        if found is None:
            raise ProblemError(404, "no such file of the page")
        return Response(found.read_bytes(), media_type=f"{_TYPES[found.suffix]}; charset=utf-8", headers=_HEADERS)

    return router


def start_page() -> Response:
    """The page."""
    headers = {**_HEADERS, "Vary": "Accept"}
    return Response((_FOLDER / "index.html").read_bytes(), media_type="text/html; charset=utf-8", headers=headers)


def wants_page(scope: Scope) -> bool:
    """Whether a request for / comes from a browser."""
    asked = scope["method"] in ("GET", "HEAD") and scope["path"] == "/"
    return asked and preferred(Headers(scope=scope).get("accept", ""), ("application/json", HTML)) == HTML


def is_of_page(scope: Scope) -> bool:
    """Whether a request is for the page and its files, which tell nothing of indexes and studies."""
    path: str = scope["path"]
    return wants_page(scope) or (scope["method"] in ("GET", "HEAD") and path.startswith("/page/"))
