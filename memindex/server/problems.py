"""What is wrong with a request, as an exception and as an answer: RFC 9457 problems, or infini-gram's {"error"}."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.responses import Response

PROBLEM_JSON = "application/problem+json"

#: Seconds after which a client that was refused should try again.
RETRY_AFTER = 1

#: The client went away before its answer; the number is nginx's, for logs and metrics: nobody reads the answer.
CLIENT_GONE = 499


class ProblemError(Exception):
    """A request that is not answered.

    Attributes:
        status: HTTP status.
        detail: One line that says what to do.
        limit: Name of the limit in `Limits` that the request met, if any.
        headers: Headers of the answer.
    """

    def __init__(
        self, status: int, detail: str, limit: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.limit = status, detail, limit
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The answer, as problem+json."""
        title = "Client Closed Request" if self.status == CLIENT_GONE else HTTPStatus(self.status).phrase
        body: dict[str, Any] = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        if self.limit:
            body["limit"] = self.limit
        return Response(to_json(body), self.status, self.headers, PROBLEM_JSON)

    def as_error(self) -> Response:
        """The answer, as infini-gram's clients read it."""
        return Response(to_json({"error": self.detail}), self.status, self.headers, "application/json")


def too_much(what: str, most: float, limit: str, status: int = 413) -> ProblemError:
    """A request above a limit."""
    return ProblemError(status, f"{what}: at most {most:,} here ({limit})", limit)


def busy(detail: str, limit: str) -> ProblemError:
    """Too many requests at a time."""
    return ProblemError(503, f"{detail} ({limit}): try again later", limit, {"Retry-After": str(RETRY_AFTER)})


class ProblemAnswer(BaseModel):
    """What is wrong with a request (RFC 9457)."""

    type: str = Field(description="Always about:blank: the status says it all.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The status.")
    detail: str = Field(description="One line that says what to do.")
    limit: str | None = Field(None, description="The limit that was met, as `memindex serve` calls its option.")
