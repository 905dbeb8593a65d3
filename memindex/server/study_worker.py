"""The process that answers requests on one study: `python -m memindex.server.study_worker STUDY LIMITS`.

It reads requests from stdin and writes answers to stdout (`memindex.server.pipes`), and ends when stdin does, whatever
it is doing: the server is gone then. It can't write files, and its memory is bounded by the system, so that no query
harms the server or the machine.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from memindex.errors import MemindexError
from memindex.server.log import log
from memindex.server.pipes import receive, send
from memindex.server.refusals import RefusalError, without_folders
from memindex.server.study_limits import StudyLimits


def main(arguments: list[str]) -> None:
    """Answer until stdin ends."""
    study, limits = Path(arguments[0]), StudyLimits(**json.loads(arguments[1]))
    requests, answers = _streams()
    asking: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_read, args=(requests, asking), name="memindex-requests", daemon=True).start()
    _confine(limits)
    try:
        from memindex.server.sql import StudySql

        asked = StudySql(study, limits)
    except MemindexError as error:
        send(answers, {"status": 503, "error": without_folders(str(error), [study.resolve(), study.resolve().parent])})
        return
    send(answers, {"status": 200})
    with suppress(BrokenPipeError):
        while True:
            send(answers, *_answer(asked, asking.get()))


def _read(requests: IO[bytes], asking: SimpleQueue[dict[str, Any]]) -> None:
    """Take requests until stdin ends, and end the process with it: the query that runs has nobody to answer to."""
    while (message := receive(requests)) is not None:
        asking.put(message[0])
    os._exit(0)


def _streams() -> tuple[IO[bytes], IO[bytes]]:
    """Where requests come from and answers go; stray prints go nowhere."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nowhere, stream)
    return requests, answers


def _confine(limits: StudyLimits) -> None:
    """What the system itself forbids, where it can: writing files, core dumps, more memory."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    # RLIMIT_DATA leaves out the files of indexes, which are mapped and may be larger than any memory.
    bounds = {"RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0, "RLIMIT_DATA": limits.memory + limits.beside}
    for name, bound in bounds.items():
        with suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (bound, bound))


def _answer(asked: Any, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The head and the body of an answer; whatever goes wrong is one, too."""
    from memindex.server.study_tasks import TASKS

    try:
        answer = TASKS[request["task"]](asked, **request["arguments"])
    except RefusalError as error:
        return {"status": error.status, "error": str(error)}, b""
    except MemindexError as error:
        return {"status": 400, "error": asked.shown(error)}, b""
    except MemoryError:
        return {"status": 413, "error": "the query needs more memory than it may use"}, b""
    except Exception as error:
        # A mistake of ours: told to whoever runs the server, not to whoever asks.
        log(f"{request['task']}: {type(error).__name__}: {error}")
        return {"status": 400, "error": "this can't be answered"}, b""
    return {"status": 200, "truncated": answer.truncated}, answer.body


if __name__ == "__main__":
    main(sys.argv[1:])
