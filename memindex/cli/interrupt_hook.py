"""Imported first: Ctrl-C outside of `main`, while it is imported or at exit, prints one line and no traceback."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from types import TracebackType

from memindex.cli.stopping import EXIT_CODE, interrupt_behind, message


def _hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if interrupt_behind(error) is None:
        sys.__excepthook__(kind, error, traceback)
        return
    with suppress(OSError, AttributeError):  # there may be no stderr
        sys.stderr.write(f"{message(error)}\n")
        sys.stderr.flush()
    os._exit(EXIT_CODE)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _hook
