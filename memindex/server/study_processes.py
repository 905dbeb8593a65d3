"""The worker processes of one study: started when needed, one request each at a time, ended when they take too long."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from memindex.server.pipes import receive, send
from memindex.server.places import Places
from memindex.server.refusals import RefusalError
from memindex.server.study_limits import StudyLimits
from memindex.study.config import FILE
from memindex.work import processes

#: Variables of the environment that a worker gets; secrets stand in others.
_ENVIRONMENT = (
    *("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SYSTEMROOT"),
    *("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"),  # where matplotlib keeps the list of fonts
)

#: Seconds that a query has after its time is over to say so itself, and that a worker has to start.
_GRACE = 2.0
_START = 60.0


class Process:
    """One process."""

    def __init__(self, study: Path, limits: StudyLimits) -> None:
        """Start it.

        Raises:
            RefusalError: 503: the study can't be opened.
        """
        arguments = [str(study), json.dumps(dataclasses.asdict(limits))]
        # Ctrl-C in a terminal is for the server, which lets requests under way end.
        self._process = processes.Process(
            "memindex.server.study_worker", arguments, _environment(), start_new_session=True
        )
        self._limits = limits
        head, _ = self._received(_START)
        if head["status"] != 200:
            self.close()
            raise RefusalError(head["status"], head["error"])

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, task: str, arguments: dict[str, Any]) -> tuple[bytes, bool]:
        """The body of the answer, and whether rows of it were cut off.

        Raises:
            RefusalError: What the worker refused, or 408 or 413 where it had to be ended.
        """
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, {"task": task, "arguments": arguments})
        except BrokenPipeError:
            self.close()
            raise RefusalError(503, "the query's process ended: ask again") from None
        head, body = self._received(self._limits.seconds + _GRACE)
        if head["status"] == 200:
            return body, bool(head.get("truncated"))
        if head["status"] in (408, 413):
            self.close()  # what it holds, or still does, is better let go of
        raise RefusalError(head["status"], head["error"])

    def kill(self) -> None:
        """End it while another thread may be waiting for its answer."""
        with suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """End it."""
        self.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _received(self, seconds: float) -> tuple[dict[str, Any], bytes]:
        """The next message; a process that takes longer is killed."""
        assert self._process.stdout is not None
        over = threading.Event()

        def end() -> None:
            over.set()
            self._process.kill()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            message = receive(self._process.stdout)
        finally:
            timer.cancel()
        if message is not None:
            return message
        if over.is_set():
            self.close()
            raise RefusalError(408, f"stopped after {self._limits.seconds:g} seconds: ask for less")
        # It ended by itself, or the system ended it. What it wrote may name files: that is for the server's log.
        reason, for_memory = self._process.reason(), self._process.ended_for_memory()
        self.close()
        if for_memory:
            raise RefusalError(413, "the query needs more memory than it may use")
        processes.show(f"memindex: a process for queries {reason}\n".encode())
        raise RefusalError(503, "the query's process ended: ask again")


class Processes:
    """The processes of one study; threads share it."""

    def __init__(self, study: Path, limits: StudyLimits) -> None:
        """None is started before the first request."""
        self._study, self._limits = study, limits
        self._idle: list[Process] = []
        self._busy: set[Process] = set()
        self._state = _state(study)
        self._places = Places(limits.workers, limits.waiting)
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, task: str, **arguments: Any) -> tuple[bytes, bool]:
        """The answer of a worker to a task of `memindex.server.study_tasks`.

        Raises:
            RefusalError: It was refused, took too much (408, 413), or none was free in time (503).
        """
        with self._places.taken(task), self._worker() as worker:
            return worker.ask(task, arguments)

    def state(self) -> object:
        """Something else whenever the study's tables changed."""
        return _state(self._study)

    def close(self) -> None:
        """End all processes, also those that are at work."""
        self._places.close()
        with self._lock:
            self._closed = True
            ended, self._idle = self._idle, []
            for worker in self._busy:
                worker.kill()
        for worker in ended:
            worker.close()

    @contextmanager
    def _worker(self) -> Iterator[Process]:
        worker, state = self._taken()
        with self._lock:
            self._busy.add(worker)
            if self._closed:
                worker.kill()
        try:
            yield worker
        finally:
            self._put_back(worker, state)

    def _taken(self) -> tuple[Process, object]:
        """A process that sees the tables as they are now."""
        state = _state(self._study)
        with self._lock:
            outdated = []
            if state != self._state:
                outdated, self._idle, self._state = self._idle, [], state
            worker = self._idle.pop() if self._idle else None
        for old in outdated:
            old.close()
        if worker is not None and worker.is_alive:
            return worker, state
        if worker is not None:
            worker.close()
        return Process(self._study, self._limits), state

    def _put_back(self, worker: Process, state: object) -> None:
        with self._lock:
            self._busy.discard(worker)
            if worker.is_alive and state == self._state and not self._closed:
                self._idle.append(worker)
                return
        worker.close()


def _environment() -> dict[str, str]:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # Arrow's own allocator reserves a gigabyte that it may never use, and glibc arenas for many threads: both count.
    frugal = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
    return environment | frugal


def _state(study: Path) -> tuple[tuple[str, int], ...]:
    """When each folder of the tables, and study.toml, changed."""
    found = []
    tables = study / "tables"
    names = sorted(tables.iterdir()) if tables.is_dir() else []
    for path in (study / FILE, *names):
        with suppress(FileNotFoundError):
            found.append((path.name, path.stat().st_mtime_ns))
    return tuple(found)
