"""The studies of a server: which process answers what, what is remembered, and errors as problems."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from memindex.server.places import KINDS
from memindex.server.problems import RETRY_AFTER, ProblemError
from memindex.server.refusals import RefusalError
from memindex.server.study_limits import StudyLimits
from memindex.server.study_processes import Processes
from memindex.sql.queries import list_queries, load_query
from memindex.sql.reading_order import reading_order
from memindex.study.config import StudyConfig, load_study

#: Answers kept: figures and descriptions of studies, until their tables change.
_KEPT = 300

#: Requests on studies of one kind that may be inside; each takes a thread while it waits.
_INSIDE = 32


class Studies:
    """Studies by name."""

    def __init__(self, studies: Mapping[str, Path], limits: StudyLimits, indexes: Mapping[str, Path]) -> None:
        """No process starts before the first request.

        Args:
            studies: Their directories by name.
            limits: How much a query may take.
            indexes: Directories of the served indexes by name.

        Raises:
            MemindexError: One of the studies is no study.
        """
        configs = {name: load_study(path) for name, path in studies.items()}
        self._titles = {name: config.name for name, config in configs.items()}
        self._indexes = {name: _served_indexes(config, indexes) for name, config in configs.items()}
        self._processes = {name: Processes(path, limits) for name, path in studies.items()}
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._inside: Counter[str] = Counter()
        self._threads = ThreadPoolExecutor(_INSIDE * len(set(KINDS.values())), thread_name_prefix="memindex-study")

    def titles(self) -> Mapping[str, str]:
        """Name -> what study.toml calls it."""
        return self._titles

    def of_index(self, index: str) -> list[str]:
        """Studies whose SQL can query a served index by the same name."""
        return [study for study, indexes in self._indexes.items() if index in indexes]

    def check(self, study: str) -> None:
        """Raise ProblemError 404 where there is no such study."""
        if study not in self._processes:
            raise ProblemError(404, f"no study {study[:80]!r} here: GET /v1/studies lists them")

    def close(self) -> None:
        """End all processes."""
        for processes in self._processes.values():
            processes.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ask(self, study: str, task: str, **arguments: Any) -> tuple[bytes, bool]:
        """The body of an answer, and whether rows were cut off; raises ProblemError."""
        self.check(study)
        kind = KINDS[task]
        if self._inside[kind] >= _INSIDE:
            raise _busy("too many requests on studies are waiting: try again later")
        self._inside[kind] += 1
        ask = partial(self._processes[study].ask, task, **arguments)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except RefusalError as error:
            if error.status == 503:
                raise _busy(str(error)) from None
            raise ProblemError(error.status, str(error)) from None
        finally:
            self._inside[kind] -= 1

    async def told(self, study: str, task: str, **arguments: Any) -> Any:
        """An answer that is JSON; errors as `ask`."""
        body, _ = await self.ask(study, task, **arguments)
        return from_json(body)

    async def cached(self, study: str, task: str, **arguments: Any) -> Any:
        """The same, remembered until the study's tables change."""
        key = (task, *arguments.items())
        return await self._kept(study, key, lambda: self.told(study, task, **arguments))

    async def figure(self, study: str, name: str, values: Mapping[str, str], width: int) -> bytes:
        """A figure as SVG, remembered likewise."""

        async def drawn() -> bytes:
            return (await self.ask(study, "figure", name=name, values=values, width=width))[0]

        body: bytes = await self._kept(study, ("figure", name, *sorted(values.items()), width), drawn)
        return body

    async def _kept(self, study: str, key: tuple[Hashable, ...], make: Any) -> Any:
        self.check(study)
        whole = (study, self._processes[study].state(), *key)
        with self._lock:
            if whole in self._answers:
                self._answers.move_to_end(whole)
                return self._answers[whole]
        answer = await make()
        with self._lock:
            self._answers[whole] = answer
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        return answer

    @staticmethod
    @cache
    def questions() -> list[dict[str, Any]]:
        """Every question of queries/, in the order of the report."""
        return [_described(name) for name in reading_order(list_queries())]


def _served_indexes(config: StudyConfig, indexes: Mapping[str, Path]) -> list[str]:
    of_study = config.indexes()
    return [name for name, path in indexes.items() if name in of_study and of_study[name].resolve() == path.resolve()]


def _busy(line: str) -> ProblemError:
    return ProblemError(503, line, headers={"Retry-After": str(RETRY_AFTER)})


def _described(name: str) -> dict[str, Any]:
    query = load_query(name)
    texts = {"name": name, "title": query.title, "question": query.question, "note": query.note}
    drawn = {"figure": query.figure.kind, "sql": query.literal_sql(), "statement": query.sql}
    return {**texts, "parameters": dict(query.parameters), "allowed": dict(query.allowed), **drawn}
