"""Routes under /v1/studies: what studies hold, their questions and figures, their sequences, and SQL."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from memindex.server import study_models as models
from memindex.server.bodies import Bodies
from memindex.server.problems import ProblemError
from memindex.server.routes import PROBLEMS, body_of, problems
from memindex.server.service import JSON, parsed
from memindex.server.sql_forms import MEDIA_TYPES, form_of
from memindex.server.study_asking import Studies

#: What any route here may answer instead of an answer.
_PROBLEMS = PROBLEMS | problems(
    {
        400: "A query that can't be answered.",
        404: "No such study, question, run or sequence.",
        408: "The query took too long and was stopped, or the body did not arrive in time.",
        413: "The query takes too much memory, its answer is too large, or the body is.",
        503: "Too many queries at a time, the study can't be read, or the server is stopping.",
    }
)
_ROWS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": models.Rows,
        "description": "Rows, in the form that Accept asks for.",
        "content": {MEDIA_TYPES[form]: {"schema": {"type": "string", "format": "binary"}} for form in ("csv", "arrow")},
    }
}
_FIGURE: dict[int | str, dict[str, Any]] = {200: {"description": "A figure.", "content": {"image/svg+xml": {}}}}

#: Widths in which figures are drawn; CSS pixels.
_WIDTHS = {"wide": 700, "narrow": 350}

Width = Annotated[models.Width, Query(description="Drawn for a desk or for a phone.")]
Page = Annotated[int, Query(ge=1, le=200, description="Sequences at most.")]
RunName = Annotated[str | None, Query(description="A run, or the only run of a model.")]
BucketNumber = Annotated[int | None, Query(ge=-1, le=62, description="floor(log2(occurrences)); -1: none.")]


def studies_router(studies: Studies, bodies: Bodies) -> APIRouter:
    """All routes; the caller closes the studies."""
    router = APIRouter(prefix="/v1/studies", responses=_PROBLEMS, tags=["studies"])
    _add_descriptions(router, studies)
    _add_questions(router, studies)
    _add_sequences(router, studies)

    @router.post("/{study}/sql", response_class=Response, responses=_ROWS, openapi_extra=body_of(models.SqlRequest))
    async def sql(study: str, request: Request) -> Response:
        """Run one SELECT; as JSON, CSV or an Arrow stream, as Accept says."""
        async with bodies.of(request, JSON) as body:
            asked = parsed(models.SqlRequest, body)
        form = form_of(request.headers.get("accept", ""))
        arguments = {"text": asked.sql, "values": asked.parameters, "form": form, "rows": asked.limit}
        return await _rows(studies, study, form, "sql", arguments)

    return router


def _add_descriptions(router: APIRouter, studies: Studies) -> None:
    @router.get("", response_model=models.StudyList)
    async def list_studies() -> Any:
        """All studies of this server."""
        return {"studies": [{"name": name, "title": title} for name, title in studies.titles().items()]}

    @router.get("/{study}", response_model=models.Study)
    async def describe_study(study: str) -> Any:
        """Models, runs, samples, domains, frequency buckets and rates of a study."""
        return await studies.cached(study, "overview") | {"name": study}


def _add_questions(router: APIRouter, studies: Studies) -> None:
    @router.get("/{study}/questions", response_model=models.QuestionList)
    async def questions(study: str) -> Any:
        """The questions that a study answers, with their parameters and their SQL."""
        studies.check(study)
        return {"questions": studies.questions()}

    @router.get("/{study}/questions/{name}", response_class=Response, responses=_ROWS)
    async def answer(study: str, name: str, request: Request) -> Response:
        """The answer to a question; its parameters stand in the query: ?sample=heldout."""
        form = form_of(request.headers.get("accept", ""))
        arguments = {"name": name, "values": _values(request), "form": form}
        return await _rows(studies, study, form, "question", arguments)

    @router.get("/{study}/questions/{name}/figure.svg", response_class=Response, responses=_FIGURE)
    async def figure(study: str, name: str, request: Request, width: Width = "wide") -> Response:
        """The figure of a question, light or dark as the reader prefers."""
        values = {key: value for key, value in _values(request).items() if key != "width"}
        body = await studies.figure(study, name, values, _WIDTHS[width])
        return Response(body, media_type="image/svg+xml")


def _add_sequences(router: APIRouter, studies: Studies) -> None:
    @router.get("/{study}/sequences", response_model=models.SequencePage)
    async def sequences(
        study: str,
        run: RunName = None,
        sample: str | None = None,
        domain: str | None = None,
        bucket: BucketNumber = None,
        outcome: models.Outcome | None = None,
        order: models.Order = "id",
        limit: Page = 50,
        cursor: str | None = None,
    ) -> Any:
        """Sequences, page by page; with a run also what it made of them."""
        filters = {"run": run, "sample": sample, "domain": domain, "bucket": bucket, "outcome": outcome}
        return await studies.told(study, "sequences", **filters, order=order, limit=limit, cursor=cursor)

    @router.get("/{study}/sequences/{number}", response_model=models.Sequence)
    async def sequence(study: str, number: models.SequenceNumber, run: RunName = None) -> Any:
        """A sequence token by token, with its counts, its document and what a run made of it."""
        return await studies.told(study, "sequence", number=number, run=run)


async def _rows(studies: Studies, study: str, form: str, task: str, arguments: dict[str, Any]) -> Response:
    body, truncated = await studies.ask(study, task, **arguments)
    headers = {"X-Truncated": str(truncated).lower(), "Vary": "Accept"}
    return Response(body, headers=headers, media_type=MEDIA_TYPES[form])


def _values(request: Request) -> dict[str, str]:
    """Parameters of a question; each may be given once."""
    pairs = request.query_params.multi_items()
    if len({key for key, _ in pairs}) < len(pairs):
        raise ProblemError(422, "a parameter is given twice")
    return dict(pairs)
