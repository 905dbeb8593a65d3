"""The made-up study of the benchmarks is one that this version reads: they are run seldom, and its columns change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_view_is_compared_with_a_flat_table() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "view.py", "--sequences", "3000", "--models", "2", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("6,000 rows, 2 models;")
    assert "rate by frequency" in done.stdout
