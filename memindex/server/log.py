"""The server's log, on stderr. A log that is closed, full or not read never fails a request or holds it up."""

from __future__ import annotations

import logging
import os
import select
import sys
from contextlib import suppress

from memindex.errors import shortened

#: Characters of a line that are logged: errors may quote values of any size.
MOST_CHARACTERS = 8000

#: Bytes written at a time: as many as a pipe takes without waiting when it takes any (POSIX's PIPE_BUF on Linux).
PART = 4096


def log(line: str) -> None:
    """Write one line; what can't be written is dropped."""
    text = f"memindex: {shortened(' '.join(line.splitlines()), MOST_CHARACTERS)}\n"
    with suppress(OSError, ValueError, AttributeError):  # full, closed, or closed before the start
        try:
            descriptor = sys.stderr.fileno()
        except OSError:  # not a file, as in tests
            sys.stderr.write(text)
            return
        _write(descriptor, text.encode("utf-8", "backslashreplace"))


def _write(descriptor: int, data: bytes) -> None:
    for start in range(0, len(data), PART):
        if not _takes_more(descriptor):
            return
        os.write(descriptor, data[start : start + PART])


def _takes_more(descriptor: int) -> bool:
    """Whether a write would not wait, as it does for a pipe whose reader has stopped reading."""
    if not hasattr(select, "poll"):  # Windows
        return True
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    return bool(poller.poll(0))


class LogHandler(logging.Handler):
    """Sends what libraries log here, each record in one line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            log(" | ".join(self.format(record).splitlines()))
        except Exception:
            log(f"a record of {record.name} can't be shown")


def open_closed_streams() -> None:
    """Give standard streams that were closed before the start a place to go.

    Else the next file or socket that is opened gets their number, and everything that is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is taken.
            os.open(os.devnull, os.O_RDWR)
