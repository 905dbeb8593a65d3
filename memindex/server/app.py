"""Makes the application: `make_app(config)` opens the indexes and returns what an ASGI server runs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from memindex.server import infini_gram
from memindex.server.config import ServerConfig, by_name
from memindex.server.gate import Gate
from memindex.server.hosts import Hosts
from memindex.server.olmotrace import attribution_router
from memindex.server.openapi import described
from memindex.server.page import page_router
from memindex.server.problems import ProblemError
from memindex.server.routes import answer_count, health_router, v1_router
from memindex.server.service import Service, first_fault
from memindex.server.shortcuts import Shortcut, Shortcuts
from memindex.server.studies import studies_router
from memindex.server.study_asking import Studies
from memindex.server.study_limits import StudyLimits


def make_app(config: ServerConfig) -> FastAPI:
    """The application that serves what a config names.

    Raises:
        MemindexError: Two indexes or two studies have one name, or one of them does not open.
        CorruptIndexError: As `Index.open`.
    """
    indexes = by_name("indexes", config.indexes)
    studies = Studies(by_name("studies", config.studies), StudyLimits.of(config.limits), indexes)
    service = Service(config)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()
        studies.close()
        service.indexes.drop()

    # The pages that FastAPI makes of the OpenAPI load scripts from elsewhere: openapi.json alone is served.
    # Newer versions would look at each request whether somebody collects OpenTelemetry's traces.
    untold: Any = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(title="memindex", lifespan=lifespan, docs_url=None, redoc_url=None, telemetry=untold)
    app.state.service = service
    app.include_router(v1_router(service, studies.of_index))
    app.include_router(studies_router(studies, service.bodies))
    app.include_router(page_router())
    app.include_router(health_router(service))
    app.include_router(infini_gram.infini_gram_router(service))
    app.include_router(attribution_router(service))
    app.openapi = lambda: described(app, bool(config.api_keys))  # type: ignore[method-assign]
    app.add_exception_handler(HTTPException, _as_problem)
    app.add_exception_handler(RequestValidationError, _as_problem)
    app.add_middleware(Shortcuts, shortcuts=_shortcuts(service))
    app.add_middleware(Gate, metrics=service.metrics, hosts=Hosts(config.allowed_hosts), api_keys=config.api_keys)
    if config.cors_origins:
        headers = ["Authorization", "Content-Type", "X-API-Key"]
        app.add_middleware(
            CORSMiddleware, allow_origins=config.cors_origins, allow_methods=["GET", "POST"], allow_headers=headers
        )
    return app


def _shortcuts(service: Service) -> tuple[Shortcut, ...]:
    return (
        Shortcut("/", re.compile("/"), partial(infini_gram.answer, service)),
        Shortcut("/v1/indexes/{index}/count", re.compile("/v1/indexes/([^/]+)/count"), partial(answer_count, service)),
    )


async def _as_problem(request: Request, error: Any) -> Response:
    """What FastAPI refuses itself: unknown routes, other methods, parameters that are none."""
    if isinstance(error, RequestValidationError):
        problem = ProblemError(422, first_fault(error.errors()), errors=error.errors())
    elif error.status_code == 404:
        problem = ProblemError(404, "no such route: GET /openapi.json describes them")
    else:
        problem = ProblemError(error.status_code, str(error.detail), headers=error.headers)
    return problem.as_error() if request.url.path == "/" else problem.response()
