"""Tokenizing in processes of their own, each of which does one unit after the other.

A process (`memindex.work.processes`) takes units on standard input, answers on standard output, and ends when its input
closes, also in the middle of a unit: a killed build leaves nobody behind that would write into the next one's folder.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from memindex import errors
from memindex.corpus.tokenizer import Tokenizer
from memindex.index.tokenizing import Read, UnitFacts, tokenize_unit
from memindex.index.units import TokenUnit
from memindex.work.processes import Process


class TokenTask(NamedTuple):
    """What all units of a build have in common: folder of the units, tokenizer, and what becomes of bad documents.

    `most_window` is what the window of a packed file may take, in bytes; None sets no limit.
    """

    units: Path
    tokenizer_name: str
    tokenizer_definition: bytes | None
    skip_bad: bool
    most_window: int | None = None

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, loaded anew."""
        return Tokenizer(self.tokenizer_name, self.tokenizer_definition)


class TokenProcess:
    """One process; to be used by one thread, and closed at the end."""

    def __init__(self, task: TokenTask, threads: int) -> None:
        environment = {"RAYON_NUM_THREADS": str(threads), **os.environ}
        self._process = Process("memindex.index.tokenizing_process", environment=environment)
        self._send(task)

    def kill(self) -> None:
        """End it at once, from any thread."""
        self._process.kill()

    def close(self) -> None:
        """End it, and let go of its pipes."""
        self._process.kill()
        with suppress(BrokenPipeError), self._process:
            pass

    def do(self, unit: TokenUnit, read: Read) -> UnitFacts:
        """Have one unit done; errors as `tokenize_unit`, and MemindexError when the process died."""
        self._send(unit)
        while True:
            kind, answer = self._receive()
            if kind == "read":
                read(answer)
            elif kind == "failed":
                raise answer
            else:
                facts: UnitFacts = answer
                return facts

    def _send(self, thing: TokenTask | TokenUnit) -> None:
        assert self._process.stdin is not None
        # That the process died is told by its answer.
        with suppress(BrokenPipeError):
            pickle.dump(thing, self._process.stdin)
            self._process.stdin.flush()

    def _receive(self) -> tuple[str, Any]:
        assert self._process.stdout is not None
        try:
            answer: tuple[str, Any] = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise errors.MemindexError(f"a tokenizing process {self._process.reason('use fewer --workers')}") from None
        return answer


def main() -> None:
    """Be the process."""
    answers = sys.stdout.buffer
    # What a library prints must not come between the answers.
    sys.stdout = sys.stderr
    given: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_receive_all, args=(sys.stdin.buffer, given), daemon=True).start()
    task: TokenTask = given.get()
    tokenizer = task.tokenizer()
    while True:
        unit: TokenUnit = given.get()

        def read(done: int) -> None:
            _answer(answers, "read", done)

        try:
            _answer(answers, "done", tokenize_unit(task.units, unit, tokenizer, task.skip_bad, read, task.most_window))
        except (errors.MemindexError, OSError) as error:
            _answer(answers, "failed", error)


def _receive_all(stream: BinaryIO, given: queue.Queue[Any]) -> None:
    while True:
        try:
            given.put(pickle.load(stream))
        except (EOFError, pickle.UnpicklingError):
            # The build is over, or was killed.
            os._exit(0)


def _answer(stream: BinaryIO, kind: str, content: object) -> None:
    pickle.dump((kind, content), stream)
    stream.flush()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(130)
