"""Runs that are killed at any moment and started again give the tables of a run that was left alone.

MEMINDEX_KILLS=20 kills that often; three times by default.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scored_study import assert_same_tables, make_indexes, make_model, make_study

from memindex.study.config import StudyConfig
from memindex.study.running import RunOptions, run_study
from memindex.tables.store import TableStore

torch = pytest.importorskip("torch")

KILLS = int(os.environ.get("MEMINDEX_KILLS", "3"))
SMALL = RunOptions(device="cpu", unit_size=32, batch_size=32)

#: Runs the study that it reads from its input, once the libraries are loaded: no moment of a run comes before.
SCRIPT = """
import sys
import torch
import transformers.models.llama.modeling_llama
from memindex.models import loading, scoring
from memindex.study.config import load_study
from memindex.study.running import RunOptions, run_study
torch.set_num_threads(1)
print("ready", flush=True)
run_study(load_study(sys.stdin.readline().strip()), options=RunOptions(device="cpu", unit_size=32, batch_size=32))
"""

#: Two runs. Sampled ones would differ first if anything depended on what was left to do.
SCORING = """
[scoring]
prefix = 4
decoding = "sampled"
seed = 5
controls = "shuffled-suffixes"
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def kill_while_running(study: StudyConfig, moment: Callable[[], bool]) -> bool:
    """Whether the run was killed at that moment; it had ended before otherwise."""
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write(f"{study.directory}\n")
        process.stdin.flush()
        while not moment() and process.poll() is None:
            time.sleep(0.001)
        process.kill()
    assert process.returncode in (0, -9)
    return process.returncode == -9


def after(study: StudyConfig, files: int, seconds: float) -> Callable[[], bool]:
    """A moment: so long after so many units are there."""
    end: list[float] = []

    def reached() -> bool:
        if not end and len(list(study.tables.glob("continuations/[!.]*.parquet"))) >= files:
            end.append(time.monotonic() + seconds)
        return bool(end) and time.monotonic() > end[0]

    return reached


def units(study: StudyConfig) -> list[str]:
    return TableStore(study.tables).units("continuations")


def test_a_killed_run_goes_on_and_gives_the_same_tables(tmp_path: Path):
    indexes = make_indexes(tmp_path / "corpus")
    model = make_model(tmp_path / "tiny", indexes[0])
    whole = make_study(tmp_path / "whole", indexes, model, more=SCORING)
    run_study(whole, options=SMALL)
    warm = make_study(tmp_path / "warm", indexes, model, more=SCORING)
    before = time.monotonic()
    run_study(warm, options=SMALL)
    seconds = time.monotonic() - before
    assert_same_tables(warm, whole)
    chance = random.Random(int(os.environ.get("MEMINDEX_SEED", "0")))
    found = []
    for kill in range(KILLS):
        study = make_study(tmp_path / f"killed-{kill}", indexes, model, more=SCORING)
        # At any moment, before the first unit too; the first kill comes in the middle for certain.
        files = chance.randrange(0, len(units(whole))) if kill else 2
        while not kill_while_running(study, after(study, files, kill and chance.uniform(0, seconds / (1 + files)))):
            shutil.rmtree(study.tables)
        found.append(len(units(study)))
        run_study(study, options=SMALL)
        assert_same_tables(study, whole)
    print(f"{KILLS} kills left {found} of {len(units(whole))} units")
    assert 0 < found[0] < len(units(whole))
