"""Where counts are made: in a thread, or in the event loop once they have been quick for a while."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

from memindex.server import batching
from memindex.server.batching import Batcher


class Counting:
    """Counts as an index does, and remembers where."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def count_one(self, ids: list[int]) -> int:
        self.threads.append(threading.get_ident())
        if ids == [0]:
            raise ValueError("no count of that")
        return ids[0]

    def elsewhere(self) -> list[bool]:
        """Of each count since the last call, whether it was made in another thread."""
        told, self.threads = [thread != threading.get_ident() for thread in self.threads], []
        return told


@contextmanager
def batcher(index: Counting):
    made = Batcher(index)  # type: ignore[arg-type]
    yield made
    made.close()


def test_counts_move_to_where_they_are_quick(monkeypatch):
    monkeypatch.setattr(batching, "TRUSTED", 3)
    index = Counting()

    async def ask(counts: Batcher, times: int) -> list[bool]:
        for number in range(1, times + 1):
            assert await counts.count([[number]]) == [number]
        return index.elsewhere()

    async def run():
        with batcher(index) as counts:
            monkeypatch.setattr(batching, "QUICK", float("inf"))
            assert await ask(counts, 5) == [True, True, True, False, False]
            with pytest.raises(ValueError, match="no count of that"):
                await counts.count([[0]])
            assert index.elsewhere() == [False]
            # One that takes long is found out where it is made; the next ones are not waited for.
            monkeypatch.setattr(batching, "QUICK", 0.0)
            assert await ask(counts, 4) == [False, True, True, True]
            with pytest.raises(ValueError, match="no count of that"):
                await counts.count([[0]])
            assert index.elsewhere() == [True]

    asyncio.run(run())
