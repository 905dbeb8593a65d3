"""What is wrong with a request, as an exception and as an answer: RFC 9457 problems, or infini-gram's {"error"}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.responses import Response

from memindex.errors import shortened

PROBLEM_JSON = "application/problem+json"

#: Seconds after which a client that was refused should try again.
RETRY_AFTER = 1

#: The client went away before its answer; the number is nginx's, for logs and metrics: nobody reads the answer.
CLIENT_GONE = 499


#: Wrong fields that an answer lists, and characters of the name of each: a body may have a million of any length.
_MOST_ERRORS, _MOST_CHARACTERS = 20, 100


class ProblemError(Exception):
    """A request that is not answered.

    Attributes:
        status: HTTP status.
        detail: One line that says what to do.
        limit: Name of the limit in `Limits` that the request met, if any.
        headers: Headers of the answer.
        type: What kind of problem it is; `about:blank` says no more than the status.
        errors: Of a 422, each field that is wrong: `loc`, `msg` and `type`, as FastAPI has them.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        limit: str | None = None,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.status, self.detail, self.limit = status, shortened(detail), limit
        super().__init__(self.detail)
        self.type = "about:blank"
        self.headers = dict(headers or {})
        self.errors = [_as_fault(error) for error in errors[:_MOST_ERRORS]]
        if status == 422 and not self.errors:
            self.errors = [{"loc": [], "msg": self.detail, "type": "value_error"}]

    def response(self) -> Response:
        """The answer, as problem+json."""
        title = "Client Closed Request" if self.status == CLIENT_GONE else HTTPStatus(self.status).phrase
        body: dict[str, Any] = {"type": self.type, "title": title, "status": self.status, "detail": self.detail}
        if self.limit:
            body["limit"] = self.limit
        if self.errors:
            body["errors"] = self.errors
        return Response(to_json(body), self.status, self.headers, PROBLEM_JSON)

    def as_error(self) -> Response:
        """The answer, as infini-gram's clients read it."""
        return Response(to_json({"error": self.detail}), self.status, self.headers, "application/json")


def too_much(what: str, most: float, limit: str, status: int = 413) -> ProblemError:
    """A request above a limit."""
    return ProblemError(status, f"{what}: at most {most:,} here ({limit})", limit)


def stopped() -> ProblemError:
    """A request that was not answered before the server stopped."""
    detail = "the server stopped before this was answered (max_stop_seconds): try again later"
    return ProblemError(503, detail, "max_stop_seconds", {"Retry-After": str(RETRY_AFTER)})


def busy(detail: str, limit: str) -> ProblemError:
    """Too many requests at a time."""
    return ProblemError(503, f"{detail} ({limit}): try again later", limit, {"Retry-After": str(RETRY_AFTER)})


def _as_fault(error: Mapping[str, Any]) -> dict[str, Any]:
    place = [part if isinstance(part, int) else shortened(str(part), _MOST_CHARACTERS) for part in error["loc"]]
    return {"loc": place, "msg": shortened(str(error["msg"])), "type": error["type"]}


class FaultyField(BaseModel):
    """A field of a request that is wrong."""

    loc: list[str | int] = Field(description="Where it is: body or query, then names of fields and places in lists.")
    msg: str
    type: str = Field(description="What kind of mistake it is, as pydantic names them.")


class ProblemAnswer(BaseModel):
    """What is wrong with a request (RFC 9457)."""

    type: str = Field(description="about:blank: the status says it all; server-overloaded for OLMoTrace's clients.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The status.")
    detail: str = Field(description="One line that says what to do.")
    limit: str | None = Field(None, description="The limit that was met, as `memindex serve` calls its option.")
    errors: list[FaultyField] | None = Field(None, description="Of a 422: the fields that are wrong, at most 20.")
