"""Processes of our own: `python -P child.py MODULE`, which runs a module of memindex as `python -m` would.

Not multiprocessing's: a script that starts one needs no `if __name__ == "__main__"`. A process finds memindex where
this one found it, and other packages where this one finds them, but never in the working directory or next to the
script that runs: a file there may be called numpy.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from memindex.memory import memory_problem_of

_PACKAGE = Path(__file__).resolve().parents[1]

#: Where a process finds its modules, as JSON; `child.py` reads it.
PATH_VARIABLE = "MEMINDEX_PATH"

_TRACEBACK = b"Traceback (most recent call last)"

#: Bytes of what a process wrote to stderr that are kept, to say why it ended.
_KEPT = 16 << 10

#: Errors whose last line says all; of others the traceback is shown, too.
_PLAIN = ("ModuleNotFoundError", "ImportError", "MemoryError")


class Process(subprocess.Popen[bytes]):
    """A module of memindex that runs in a process of its own, with pipes to its stdin and from its stdout.

    What it writes to stderr is passed on, but for a traceback: `reason` needs that.

    Args:
        module: Name of the module.
        arguments: Its command line.
        environment: All of its environment variables; by default those of this process.
        start_new_session: Whether signals that a terminal sends, as for Ctrl-C, leave it out.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        start_new_session: bool = False,
    ) -> None:
        command = [sys.executable, "-P", os.fspath(_PACKAGE / "work" / "child.py"), module, *arguments]
        variables = _environment(os.environ if environment is None else environment)
        pipe = subprocess.PIPE
        super().__init__(
            command, stdin=pipe, stdout=pipe, stderr=pipe, env=variables, start_new_session=start_new_session
        )
        assert self.stderr is not None
        # The thread closes it: a process of its own may keep the other end open.
        self._messages = _Messages(self.stderr)
        self.stderr = None
        self._messages.start()

    def ended_for_memory(self) -> bool:
        """Whether it ended because memory ran out, as far as that is known; waits until it has ended."""
        return self._code() == -signal.SIGKILL or memory_problem_of(self._messages.ended()) is not None

    def reason(self, advice: str = "") -> str:
        """Why it ended, for the end of a sentence; waits until it has.

        Args:
            advice: What to do where memory ran out.
        """
        code, written = self._code(), self._messages.ended()
        if self.ended_for_memory():
            problem = memory_problem_of(written)
            return (f"ran {problem}" if problem else ending(code)) + (f": {advice}" if advice else "")
        lines = [line.strip() for line in written.splitlines() if line.strip()]
        if lines and not lines[-1].startswith(_PLAIN):
            self._messages.show_rest()
        return f"{ending(code)}: {lines[-1][:300]}" if lines else ending(code)

    def _code(self) -> int:
        """The exit code of a process that closed its pipes, or is about to end."""
        try:
            return self.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.terminate()
            return self.wait()


def ending(code: int) -> str:
    """What an exit code says; a cause only where it is known."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    # Nothing but the system, when memory runs out, or a person sends this one.
    why = "; the system does that when memory runs out" if code == -signal.SIGKILL else ""
    return f"was killed ({name}){why}"


def import_path() -> list[str]:
    """Where another process finds the modules that this one finds: the standard library, then all others.

    Left out are relative places and those that Python adds for the program that runs (the working directory, or the
    folder of the script), unless PYTHONPATH names them.
    """
    added = _added_for_program() - _installed_in() - {Path(place).resolve() for place in _absolute(os.environ)}
    places = [place for place in _absolute_only(sys.path) if Path(place).resolve() not in added]
    standard = [place for place in places if _is_standard(Path(place).resolve())]
    # The last one: packages may have been installed next to memindex, in a folder of their own.
    return list(dict.fromkeys([*standard, *places, os.fspath(_PACKAGE.parent)]))


def _absolute_only(places: Sequence[str]) -> list[str]:
    return [place for place in places if Path(place).is_absolute()]


def _absolute(environment: Mapping[str, str]) -> list[str]:
    """The entries of PYTHONPATH; an empty one, as in "$PYTHONPATH:/more", would be the working directory."""
    return _absolute_only(environment.get("PYTHONPATH", "").split(os.pathsep))


def _installed_in() -> set[Path]:
    """The folders of this Python's own modules and packages."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return {Path(sysconfig.get_path(name)).resolve() for name in names}


def _is_standard(place: Path) -> bool:
    library = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    return place in library or (place.name == "lib-dynload" and place.parent in library) or place.suffix == ".zip"


def _added_for_program() -> set[Path]:
    program = getattr(sys.modules.get("__main__"), "__file__", None) or (sys.argv[0] if sys.argv else "")
    return {Path.cwd(), *([Path(program).resolve().parent] if program else [])}


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in given.items() if name != "PYTHONPATH"}
    places = _absolute(given)
    python_path = {"PYTHONPATH": os.pathsep.join(places)} if places else {}
    return kept | python_path | {PATH_VARIABLE: json.dumps(import_path())}


class _Messages(threading.Thread):
    """Passes on what a process writes to stderr; keeps the last of it, and holds a traceback back."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(name="messages of a process", daemon=True)
        self._stream = stream
        self._last = deque[bytes]()
        self._held = bytearray()
        self._is_held = False

    def run(self) -> None:
        with self._stream:
            while chunk := os.read(self._stream.fileno(), 1 << 16):
                self._take(chunk)

    def _take(self, chunk: bytes) -> None:
        self._last.append(chunk)
        while sum(map(len, self._last)) - len(self._last[0]) > _KEPT:
            self._last.popleft()
        if self._is_held:
            self._held += chunk
            return
        before, marker, after = chunk.partition(_TRACEBACK)
        if marker:
            self._is_held = True
            self._held += marker + after
        show(before)

    def ended(self) -> str:
        """The last of what was written, once the process is gone."""
        # Another process may hold the pipe open.
        self.join(timeout=2.0)
        return b"".join(self._last)[-_KEPT:].decode(errors="replace")

    def show_rest(self) -> None:
        """Show the traceback, too."""
        show(bytes(self._held))


def show(text: bytes) -> None:
    """Write to this process's stderr."""
    # There may be no stderr, or a full disk behind it.
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.write(text.decode(errors="replace"))
        sys.stderr.flush()
