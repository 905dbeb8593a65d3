"""How many queries of each kind run on one study at a time, so that slow ones of one kind hold up no other kind."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from memindex.server.refusals import RefusalError

#: Task of `memindex.server.study_tasks` -> its kind.
KINDS = {
    "sql": "sql",
    "question": "questions",
    "figure": "questions",
    "overview": "browsing",
    "sequences": "browsing",
    "sequence": "browsing",
}


class Places:
    """Counts queries in and out; threads share it.

    There are `most` places for queries of one kind, and one more for each other kind. A kind that runs nothing has
    one place kept free.
    """

    def __init__(self, most: int, seconds: float) -> None:
        """`seconds`: time that a query waits for a place."""
        self._most, self._seconds = most, seconds
        self._kinds = set(KINDS.values())
        self._running: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def taken(self, task: str) -> Iterator[None]:
        """A place for a task, until the block ends; raises RefusalError 503 where none is free in time."""
        kind = KINDS[task]
        until = time.monotonic() + self._seconds
        with self._changed:
            while not self._closed and not self._is_free(kind):
                if not self._changed.wait(until - time.monotonic()):
                    raise RefusalError(503, "too many queries at a time: try again later")
            if self._closed:
                raise RefusalError(503, "the server is stopping: try again later")
            self._running[kind] += 1
        try:
            yield
        finally:
            with self._changed:
                self._running[kind] -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Refuse what waits, and whatever comes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_free(self, kind: str) -> bool:
        kept = sum(not self._running[other] for other in self._kinds - {kind})
        places = self._most + len(self._kinds) - 1
        return self._running[kind] < self._most and self._running.total() + kept < places
