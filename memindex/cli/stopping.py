"""What Ctrl-C says: whether finished work is kept, and how to resume. Imports nothing that takes time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Exit code of a command that Ctrl-C stopped, as shells have it.
EXIT_CODE = 130

#: Whether Ctrl-C came within `swallowed_again`.
_came = threading.Event()


@contextmanager
def swallowed_again() -> Iterator[Callable[[], None]]:
    """Raise a Ctrl-C again that was swallowed inside, as imports of some libraries do: at the end, and by the check.

    The check raises KeyboardInterrupt in the main thread alone. Where Ctrl-C has another handler, nothing changes.
    """

    def check() -> None:
        if _came.is_set() and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        _came.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
        check()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _came.clear()


@contextmanager
def resumable(kept: str = "finished units") -> Iterator[None]:
    """Say, when the command is stopped inside, what is kept and that the same command resumes."""
    try:
        yield
    except KeyboardInterrupt as error:
        keep(error, kept)
        raise


def keep(error: KeyboardInterrupt, kept: str = "finished units") -> None:
    """Note on an interrupt what is kept."""
    error.add_note(f"{kept} are kept: run the same command again to resume")


def interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that led to an error: an import that it breaks off may fail with another one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def message(error: BaseException | None) -> str:
    """The line that says that a command was stopped."""
    interrupt = interrupt_behind(error)
    return "; ".join(["memindex: stopped", *getattr(interrupt, "__notes__", ())[:1]])
