"""What Ctrl-C says: whether finished work is kept, and how to resume. Imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

#: Exit code of a command that Ctrl-C stopped, as shells have it.
EXIT_CODE = 130


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
