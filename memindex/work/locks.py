"""A lock on a folder that is being written: one writer at a time, and a note that says who that is.

The system releases the lock of a process that ends, however it ends; its note is then out of date, and not believed.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from memindex.errors import MemindexError

#: The note, in the locked folder.
NOTE = ".writer.json"


class FolderLock:
    """A lock on a folder, held until `release`.

    Args:
        folder: The hidden folder to lock; it is made where there is none.
        target: What is being written, as the user knows it.
        work: The command that writes it, e.g. "index build".

    Raises:
        MemindexError: Another writer has the lock.
        OSError: The folder can't be made or opened.
    """

    def __init__(self, folder: Path, target: Path, work: str) -> None:
        handle = _locked(folder)
        if handle is None:
            raise MemindexError(f"{target} is being written by {_writer(folder)}: try again when that has finished")
        self._folder, self._handle = folder, handle
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        note = {"work": work, "process": os.getpid(), "host": socket.gethostname(), "since": now}
        with suppress(OSError):  # it only helps others
            (folder / NOTE).write_text(json.dumps(note), encoding="utf-8")

    def withdraw_note(self) -> None:
        """Remove the note, before the folder gets another name."""
        with suppress(OSError):
            (self._folder / NOTE).unlink(missing_ok=True)

    def release(self) -> None:
        """Let others write; the folder may be gone or renamed by now."""
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._handle), self._folder.stat()):
                self.withdraw_note()
        os.close(self._handle)


def _locked(folder: Path) -> int | None:
    """A handle that locks the folder; None when another writer has the lock."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A writer that ended may have removed or renamed what was opened; a third one may hold the name by now.
            if os.path.samestat(os.fstat(handle), folder.stat()):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass
        os.close(handle)


def _writer(folder: Path) -> str:
    """Who writes, by the note; "another process" where it tells nothing, or of a process that is gone."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        work, process, host, since = str(note["work"]), int(note["process"]), str(note["host"]), str(note["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    if host == socket.gethostname() and not _is_running(process):
        return "another process"
    return f"`memindex {work}` (process {process} on {host}, since {since})"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # Somebody else's.
        return True
    return True
