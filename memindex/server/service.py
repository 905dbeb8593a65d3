"""What all routes share: open indexes, threads, bodies, numbers; and how a request becomes an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from memindex.errors import CorruptIndexError, MemindexError
from memindex.index.describing import Answer
from memindex.ragged import Ragged
from memindex.server.batch_json import read_batch
from memindex.server.bodies import Bodies
from memindex.server.config import ServerConfig
from memindex.server.indexes import Indexes, Served
from memindex.server.log import log
from memindex.server.metrics import Metrics
from memindex.server.problems import RETRY_AFTER, ProblemError, too_much
from memindex.server.work import Workers

Model = TypeVar("Model", bound=BaseModel)
Result = TypeVar("Result")

JSON = "application/json"

#: Bodies up to this size are parsed where they arrive: that takes less than handing them to a thread.
SMALL_BODY = 16 << 10


class Service:
    """One server's state."""

    def __init__(self, config: ServerConfig) -> None:
        """Open the indexes; errors as `Indexes`."""
        self.config = config
        self.metrics = Metrics()
        self.indexes = Indexes(config.indexes, config.limits, self.metrics.counted)
        self.workers = Workers(config.limits)
        self.bodies = Bodies(config.limits)
        self.metrics.watch(lambda: self.workers.waiting, lambda: self.bodies.held)

    def close(self) -> None:
        """Take no more requests."""
        self.workers.close()
        self.indexes.close()

    async def answer(
        self, request: Request, name: str, kind: str, model: type[Model], do: Callable[[Served, Model], Answer]
    ) -> Response:
        """Read a request, let a thread answer it, and send that as JSON.

        Args:
            request: The request.
            name: The index.
            kind: What the metrics call it.
            model: What the body must be.
            do: Answers the parsed body.
        """
        served = self.indexes.get(name)
        async with self.bodies.of(request, JSON) as body:
            most = self.config.limits.max_json_bytes
            if len(body) > most:
                raise too_much("the body is too large", most, "max_json_bytes")
            return await self.answer_with(request, served, kind, lambda: do(served, parsed(model, body)))

    async def answer_batch(
        self,
        request: Request,
        served: Served,
        kind: str,
        body: bytes,
        do: Callable[[Served, Ragged, bool], bytes],
        with_domains: bool,
    ) -> Response:
        """As `answer`, of a body of many queries that was read; `do` gets their ids, and whether to tell domains."""

        def work() -> bytes:
            asked = read_batch(body, with_domains)
            most = served.limits.max_queries
            if len(asked.queries) > most:
                raise too_much(f"{len(asked.queries):,} queries are too many", most, "max_queries")
            return do(served, served.column_batch(asked.queries), asked.by_domain)

        return await self.answer_with(request, served, kind, work)

    async def answer_with(
        self, request: Request, served: Served, kind: str, do: Callable[[], Answer | bytes]
    ) -> Response:
        """What `do` returns in a thread, as JSON."""

        def work() -> bytes:
            answer = guarded(served, do)
            return answer if isinstance(answer, bytes) else to_json(answer, inf_nan_mode="null")

        with self.workers.admitted():
            answer = await self.workers.run(work, request.receive)
        self.metrics.asked(served.name, kind, 1)
        return Response(answer, media_type=JSON)


def guarded(served: Served, do: Callable[[], Result]) -> Result:
    """What `do` returns; raises ProblemError for what an index refuses or can't answer."""
    try:
        return do()
    except (MemindexError, OSError) as error:
        raise as_problem(served, error) from None


def as_problem(served: Served, error: MemindexError | OSError) -> ProblemError:
    """The answer to an error of an index; what is wrong with its files goes to the log."""
    if not isinstance(error, (CorruptIndexError, OSError)):
        return ProblemError(400, served.clean(error))
    log(f"{type(error).__name__}: {error}" if isinstance(error, OSError) else str(error))
    if served.is_replaced():
        line = f"the folder of {served.name} was replaced or removed: try again, or tell who runs this server"
        return ProblemError(503, line, headers={"Retry-After": str(RETRY_AFTER)})
    if isinstance(error, OSError):
        return ProblemError(503, f"the files of {served.name} can't be read; the server's log says more")
    return ProblemError(500, f"the files of {served.name} are damaged or were replaced; the server's log says more")


def parsed(model: type[Model], body: bytes) -> Model:
    """A body as what it must be; raises ProblemError 422 naming the first field that is not."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        places = [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
        raise ProblemError(422, first_fault(faults), errors=places) from None


def first_fault(faults: Sequence[Any]) -> str:
    """The place and the message of the first field that is wrong, of pydantic's errors.

    Where a field may be one thing or another, each says what is wrong: the one that comes farthest was meant.
    """
    of_field = [fault for fault in faults if fault["loc"][:1] == faults[0]["loc"][:1]]
    fault = max(of_field, key=lambda fault: len(fault["loc"]))
    place = ".".join(str(part) for part in fault["loc"] if "[" not in str(part))
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])
