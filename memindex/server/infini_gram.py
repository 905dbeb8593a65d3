"""`POST /` and `GET /` as infini-gram's API answers them, so that its clients can ask here.

Checked against the published server: order of checks, texts of errors, status codes. `[Flask]` stands in its texts.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from fastapi import APIRouter
from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response

from memindex.errors import CorruptIndexError, MemindexError
from memindex.index.describing import Answer
from memindex.server.indexes import Served
from memindex.server.infini_gram_answers import (
    ANSWERS,
    MAXIMA,
    METHODS,
    REQUIRED,
    RefusedError,
    is_ids,
    is_integer,
)
from memindex.server.infini_gram_openapi import DESCRIPTION, RESPONSES
from memindex.server.page import start_page, wants_page
from memindex.server.problems import ProblemError
from memindex.server.service import JSON, Service, as_problem

#: Bytes of a body: 500 tokens take far less, and so much is parsed in a millisecond.
MOST_BYTES = 256 << 10

MOST_CHARACTERS, MOST_TOKENS, MOST_CLAUSES, MOST_TERMS = 1000, 500, 4, 4

#: Keys that are no arguments of a query type; some clients send what they were told about themselves.
NO_ARGUMENTS = ("query_type", "corpus", "index", "engine", "source", "timestamp", "query", "query_ids")


class Asked(NamedTuple):
    """A request whose fields are there: `query` is a text or None, `ids` what stands as query_ids."""

    served: Served
    method: str
    query: Any
    ids: Any
    arguments: Answer


def infini_gram_router(service: Service) -> APIRouter:
    """Both routes."""
    router = APIRouter(tags=["infini-gram"])

    @router.get("/", response_model=list[str], responses={status: RESPONSES[status] for status in (401, 421, 500, 503)})
    async def names(request: Request) -> Any:
        """Names of the indexes; to a browser, which asks for HTML, the page."""
        return start_page() if wants_page(request.scope) else service.indexes.names()

    @router.post("/", response_class=Response, openapi_extra=DESCRIPTION, responses=RESPONSES)
    async def ask(request: Request) -> Response:
        """Any query type of infini-gram's API, with its keys and its errors."""
        return await answer(service, request)

    return router


async def answer(service: Service, request: Request) -> Response:
    """What `POST /` answers."""
    try:
        return await _answered(service, request)
    except ProblemError as problem:
        return problem.as_error()


async def _answered(service: Service, request: Request) -> Response:
    async with service.bodies.of(request, JSON) as body:
        if len(body) > MOST_BYTES:
            raise ProblemError(413, f"[Flask] The body is too large: at most {MOST_BYTES:,} bytes!")
        asked = _asked(service, _object(body))
    began = time.perf_counter()
    with service.workers.admitted():
        try:
            ids = _ids(asked)
            if _is_plain_count(asked, ids):
                counts = await service.workers.answer_in_time(asked.served.batcher.count([ids]), request.receive)
                return _json(_framed(asked, ids, {"count": counts[0], "approx": False}, began))
            answer = await service.workers.run(
                lambda: _json(_framed(asked, ids, _ask(asked, ids), began)), request.receive
            )
        except RefusedError as refused:
            return _json({"error": str(refused)})
        except (CorruptIndexError, OSError) as error:
            problem = as_problem(asked.served, error)
            raise _internal(problem.detail) if problem.status == 500 else problem from None
    service.metrics.asked(asked.served.name, asked.method, 1)
    return answer


def _framed(asked: Asked, ids: Any, answer: Answer, began: float) -> Answer:
    """An answer with what all of them have; the ids of a document give way to the query's, as there."""
    milliseconds = (time.perf_counter() - began) * 1000
    return answer | {"latency": milliseconds, "token_ids": ids, "tokens": _names(asked.served, ids)}


def _is_plain_count(asked: Asked, ids: Any) -> bool:
    """Whether a request can share its lookup with others."""
    plain = asked.method == "count" and not asked.arguments and is_ids(ids) and bool(ids)
    return plain and max(ids) <= asked.served.largest_id


def _object(body: bytes) -> Answer:
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ProblemError(400, f"[Flask] Failed to decode JSON object: {error}") from None
    if not isinstance(data, dict):
        raise ProblemError(400, "[Flask] The body must be a JSON object!")
    return data


def _asked(service: Service, data: Answer) -> Asked:
    for field, names in (("query_type", ("query_type",)), ("index", ("corpus", "index"))):
        if not any(name in data for name in names):
            raise ProblemError(400, f"[Flask] Missing required field: '{field}'")
    if ("query" in data) == ("query_ids" in data):
        raise ProblemError(400, "[Flask] Exactly one of query and query_ids must be present!")
    name, method = data["corpus"] if "corpus" in data else data["index"], data["query_type"]
    served = service.indexes.find(name) if isinstance(name, str) else None
    if served is None:
        raise ProblemError(400, f"[Flask] Invalid index: {str(name)[:200]}")
    if not isinstance(method, str) or method not in METHODS:
        raise ProblemError(400, f"[Flask] Invalid query_type: {str(method)[:200]}")
    arguments = {key: value for key, value in data.items() if key not in NO_ARGUMENTS}
    return Asked(served, method, data.get("query"), data.get("query_ids"), arguments)


def _ids(asked: Asked) -> Any:
    """The query's ids, checked; raises RefusedError."""
    try:
        ids = _tokenized(asked.served, asked.query) if asked.ids is None and asked.query is not None else asked.ids
    except MemindexError as error:
        raise RefusedError(asked.served.clean(error)) from None
    simple = is_ids(ids)
    if not simple and not _is_cnf(ids):
        raise RefusedError("query_ids must be a list of integers, or a triply-nested list of integers!")
    every = ids if simple else [token for clause in ids for term in clause for token in term]
    if len(every) > MOST_TOKENS:
        raise RefusedError(f"Please limit your input to <= {MOST_TOKENS} tokens!")
    if not simple:
        if len(ids) > MOST_CLAUSES:
            raise RefusedError(f"Please enter at most {MOST_CLAUSES} disjunctive clauses!")
        if any(len(clause) > MOST_TERMS for clause in ids):
            raise RefusedError(f"Please enter at most {MOST_TERMS} terms in each disjunctive clause!")
    if not asked.served.infini_gram.allows(every):
        raise RefusedError("Some item(s) in your query_ids are out-of-range!")
    return ids


def _tokenized(served: Served, query: Any) -> Any:
    if not isinstance(query, str):
        raise RefusedError("query must be a string!")
    if len(query) > MOST_CHARACTERS:
        raise RefusedError(f"Please limit your input to <= {MOST_CHARACTERS} characters!")
    tokens = served.infini_gram
    if " AND " not in query and " OR " not in query:
        return tokens.ids(query)
    return [[tokens.ids(term) for term in clause.split(" OR ")] for clause in query.split(" AND ")]


def _is_cnf(ids: Any) -> bool:
    return isinstance(ids, list) and all(isinstance(clause, list) and all(map(is_ids, clause)) for clause in ids)


def _ask(asked: Asked, ids: Any) -> Answer:
    """The answer of a query type; arguments that it does not have are an error of the server, as there."""
    method = asked.method
    if method in {"count", "search_docs"} and not is_ids(ids):
        method += "_cnf"
    names = METHODS[method]
    for name in asked.arguments:
        if name not in names:
            raise _internal(f"Processor.{method}() got an unexpected keyword argument '{name[:200]}'")
    missing = [f"'{name}'" for name in names if name in REQUIRED and name not in asked.arguments]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise _internal(
            f"Processor.{method}() missing {len(missing)} required positional argument{plural}: {' and '.join(missing)}"
        )
    arguments = {name: value for name, value in asked.arguments.items() if value is not None or name in REQUIRED}
    try:
        for name in names:
            if name in MAXIMA and name in arguments and not _is_within(arguments[name], MAXIMA[name]):
                raise RefusedError(f"{name} must be an integer in [1, {MAXIMA[name]}]!")
        return ANSWERS[method](asked.served, ids, arguments)
    except RefusedError as refused:
        return {"error": str(refused)}
    except CorruptIndexError:
        raise
    except MemindexError as error:
        return {"error": asked.served.clean(error)}


def _is_within(value: Any, most: int) -> bool:
    return is_integer(value) and 0 < value <= most


def _internal(what: str) -> ProblemError:
    return ProblemError(500, f"[Flask] Internal server error: {what}")


def _names(served: Served, ids: Any) -> Any:
    tokens = served.infini_gram
    return tokens.names(ids) if is_ids(ids) else [[tokens.names(term) for term in clause] for clause in ids]


def _json(answer: Answer) -> Response:
    return Response(to_json(answer), media_type=JSON)
