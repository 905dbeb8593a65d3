"""Run the command line inside the tests' own process: it does not import pyarrow, duckdb and torch again.

It runs `memindex.cli.main`, the function that the program `memindex` runs. Tests of processes (exit by signal, pipes,
start-up) need a real one.
"""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from memindex.cli import main


def here(*arguments: object, cwd: Path | None = None, stdin: str | bytes | None = None):
    """Exit code, stdout and stderr of a command, as text."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    typed = stdin.encode() if isinstance(stdin, str) else stdin or b""
    code: object = 0
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(sys, "argv", ["memindex", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8"))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        stack.enter_context(chdir(cwd or "."))
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(arguments, code, _written(out), _written(err))


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
