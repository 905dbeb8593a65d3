"""Our own API: /v1, /health and /metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from memindex.errors import MemindexError
from memindex.server import answering, models, tracing
from memindex.server.arrow import ARROW_STREAM, count_stream
from memindex.server.metrics import TEXT
from memindex.server.problems import PROBLEM_JSON
from memindex.server.service import JSON, SMALL_BODY, Service, as_problem, guarded, parsed

#: A count of at most so many queries shares a lookup with other requests.
FEW_QUERIES = 16

#: Texts of at most so many characters in all are tokenized where they arrive, which takes half a millisecond.
FEW_CHARACTERS = 2000


def problems(descriptions: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI of what a route may answer instead of an answer: status -> what it says."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}
    return {status: {"description": what, "content": content} for status, what in descriptions.items()}


#: What any route may answer.
ANYWHERE = {
    401: "No API key, or a wrong one.",
    421: "The server is not asked under the name in Host.",
    500: "Something went wrong in the server.",
    503: "The server is stopping.",
}

#: What any route under /v1 may answer instead of an answer.
PROBLEMS = problems(
    {
        400: "A query has no answer.",
        401: ANYWHERE[401],
        404: "No such index.",
        408: "The body did not arrive in time.",
        413: "Above a limit, which is named.",
        415: "The body is of another type.",
        421: ANYWHERE[421],
        422: "The body or a parameter is not what it must be.",
        500: ANYWHERE[500],
        503: "Too many requests wait, the index's files are gone, or the server is stopping.",
        504: "No answer in time.",
    }
)


def body_of(model: type[Any]) -> dict[str, Any]:
    """The OpenAPI of a body that a route reads itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


ARROW_BODY = {"schema": {"type": "string", "format": "binary"}}


def v1_router(service: Service, studies_of: Callable[[str], list[str]]) -> APIRouter:
    """All routes under /v1; `studies_of`: the studies whose SQL can query an index."""
    router = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["indexes"])

    @router.get("/indexes", response_model=models.IndexList)
    async def list_indexes() -> Any:
        """All indexes of this server."""
        return {"indexes": [answering.index_info(served, studies_of(served.name)) for served in service.indexes]}

    @router.get("/indexes/{index}", response_model=models.IndexInfo)
    async def describe_index(index: str) -> Any:
        """What an index holds."""
        return answering.index_info(service.indexes.get(index), studies_of(index))

    @router.post(
        "/indexes/{index}/count", response_model=models.CountAnswer, openapi_extra=body_of(models.CountRequest)
    )
    async def count(index: str, request: Request) -> Response:
        """Count n-grams, in all and by domain."""
        return await answer_count(service, request, index)

    @router.post(
        "/indexes/{index}/count.arrow",
        response_class=Response,
        responses={200: {"description": "Counts.", "content": {ARROW_STREAM: ARROW_BODY}}},
        openapi_extra={"requestBody": {"required": True, "content": {ARROW_STREAM: ARROW_BODY}}},
    )
    async def count_arrow(
        index: str,
        request: Request,
        by_domain: Annotated[bool, Query(description="Add a column `domain:NAME` for every domain.")] = False,
        tokens: Annotated[bool, Query(description="Add a column of the ids that texts were asked with.")] = True,
    ) -> Response:
        """Count the n-grams of an Arrow IPC stream with one column: texts, or lists of token ids.

        The answer is a stream with a row for each, in their order: `count`, and what else was asked for.
        """
        served = service.indexes.get(index)
        async with service.bodies.of(request, ARROW_STREAM) as body:
            with service.workers.admitted():
                work = lambda: guarded(served, lambda: count_stream(served, body, by_domain, tokens))  # noqa: E731
                answer = await service.workers.run(work, request.receive)
                service.metrics.asked(served.name, "count.arrow", 1)
                return Response(answer, media_type=ARROW_STREAM)

    @router.post(
        "/indexes/{index}/longest-match",
        response_model=models.LongestMatchAnswer,
        openapi_extra=body_of(models.LongestMatchRequest),
    )
    async def longest_match(index: str, request: Request) -> Response:
        """For every token of every query, the longest match that starts there."""
        return await answer_longest_match(service, request, index)

    @router.post(
        "/indexes/{index}/documents",
        response_model=models.DocumentsAnswer,
        openapi_extra=body_of(models.DocumentsRequest),
    )
    async def documents(index: str, request: Request) -> Response:
        """The documents around occurrences of a query."""
        return await service.answer(request, index, "documents", models.DocumentsRequest, answering.documents)

    @router.post("/indexes/{index}/next", response_model=models.NextAnswer, openapi_extra=body_of(models.NextRequest))
    async def next_tokens(index: str, request: Request) -> Response:
        """The tokens that follow a query, in all and by domain."""
        return await service.answer(request, index, "next", models.NextRequest, answering.next_tokens)

    @router.post(
        "/indexes/{index}/trace", response_model=models.TraceAnswer, openapi_extra=body_of(models.TraceRequest)
    )
    async def trace(index: str, request: Request) -> Response:
        """The spans of a text that stand in the corpus word for word, and the documents they come from."""
        return await service.answer(request, index, "trace", models.TraceRequest, tracing.trace)

    @router.post(
        "/indexes/{index}/tokenize",
        response_model=models.TokenizeAnswer,
        openapi_extra=body_of(models.TokenizeRequest),
    )
    async def tokenize(index: str, request: Request) -> Response:
        """Tokenize texts as the index's documents were."""
        return await service.answer(request, index, "tokenize", models.TokenizeRequest, answering.tokenize)

    return router


async def answer_count(service: Service, request: Request, name: str) -> Response:
    """Counts of a few n-grams share lookups with other requests; all others have a thread to themselves."""
    served = service.indexes.get(name)
    async with service.bodies.of(request, JSON) as body:
        if len(body) > SMALL_BODY:
            return await service.answer_batch(request, served, "count", body, answering.count, with_domains=True)
        asked = parsed(models.CountRequest, body)
        answering.check_queries(served, len(asked.queries))
        if asked.by_domain or not is_small(asked.queries):
            work = lambda: answering.count(served, served.batch(asked.queries), asked.by_domain)  # noqa: E731
            return await service.answer_with(request, served, "count", work)
        with service.workers.admitted():
            try:
                tokens = [served.tokens(query) for query in asked.queries]
                counts = await service.workers.answer_in_time(served.batcher.count(tokens), request.receive)
            except (MemindexError, OSError) as error:
                raise as_problem(served, error) from None
        return Response(to_json(answering.counted(served, tokens, counts)), media_type=JSON)


async def answer_longest_match(service: Service, request: Request, name: str) -> Response:
    """As `answer_count`, without batches of several requests."""
    served, kind = service.indexes.get(name), "longest-match"
    async with service.bodies.of(request, JSON) as body:
        if len(body) > SMALL_BODY:
            do = lambda served, batch, by_domain: answering.longest_match(served, batch)  # noqa: E731
            return await service.answer_batch(request, served, kind, body, do, with_domains=False)
        asked = parsed(models.LongestMatchRequest, body)
        answering.check_queries(served, len(asked.queries))
        work = lambda: answering.longest_match(served, served.batch(asked.queries))  # noqa: E731
        return await service.answer_with(request, served, kind, work)


def is_small(queries: list[str] | list[list[int]]) -> bool:
    """Whether queries take so little that they need no thread of their own."""
    return len(queries) <= FEW_QUERIES and sum(map(len, queries)) <= FEW_CHARACTERS


_BUSY: dict[int | str, dict[str, Any]] = {503: {"description": "It takes no requests."}}


def health_router(service: Service) -> APIRouter:
    """Whether the server lives, and what it did."""
    router = APIRouter(tags=["server"])

    failed = problems({500: ANYWHERE[500]})

    @router.get("/health", response_model=models.Health, responses=failed | {503: {"model": models.Health}})
    async def health(response: Response) -> Any:
        """Whether the server lives, and whether it takes requests: 503 while it does not."""
        ready = service.workers.ready
        response.status_code = 200 if ready else 503
        return {"live": True, "ready": ready, "waiting": service.workers.waiting}

    @router.get("/health/", response_class=Response, status_code=204, responses=failed | _BUSY)
    async def takes_requests() -> Response:
        """The same without a body, as OLMoTrace's service says it: 204 while it takes requests."""
        return Response(status_code=204 if service.workers.ready else 503)

    @router.get("/metrics", response_class=Response, responses=problems(ANYWHERE) | {200: {"content": {TEXT: {}}}})
    async def metrics() -> Response:
        """Requests, their times, the queue and the queries, for Prometheus."""
        return Response(service.metrics.text(), media_type=TEXT)

    return router
