"""Running a Triton kernel without a GPU: Triton interprets it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed: its kernel is not tested"
)


def assert_equal(folder: Path, code: str) -> None:
    """The code, which compares a kernel with something else and then prints `equal`, got that far."""
    script = folder / "kernel.py"
    script.write_text(code)
    environment = {"TRITON_INTERPRET": "1", "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "equal\n", done.stderr
