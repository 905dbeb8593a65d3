"""Runs that are killed at any moment and started again give the tables of a run that was left alone.

MEMINDEX_KILLS=20 kills that often; three times by default.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from scored_study import assert_same_tables, make_indexes, make_model, make_study

from memindex.study.config import StudyConfig
from memindex.tables.store import TableStore

pytest.importorskip("torch")

KILLS = int(os.environ.get("MEMINDEX_KILLS", "3"))

#: Runs a study in a fork for every line of input: loading the libraries takes far longer than the run.
SCRIPT = """
import os
import sys
import torch
import transformers
from memindex.models import loading, scoring
from memindex.study.config import load_study
from memindex.study.running import RunOptions, run_study
torch.set_num_threads(1)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run_study(load_study(line.strip()), options=RunOptions(device="cpu", unit_size=32, batch_size=32))
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()
    print(os.waitpid(child, 0)[1], flush=True)
"""

#: Two runs. Sampled ones would differ first if anything depended on what was left to do.
SCORING = """
[scoring]
prefix = 4
decoding = "sampled"
seed = 5
controls = "shuffled-suffixes"
"""


class Runner:
    """Runs studies in processes that can be killed."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", SCRIPT]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def run(self, study: StudyConfig, kill_at: Callable[[], bool] | None = None) -> bool:
        """Whether the run came to its end by itself; it must then have succeeded."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{study.directory}\n")
        child = int(self._server.stdout.readline())
        if kill_at is not None:
            while not kill_at():
                time.sleep(0.001)
            # Until its parent is told to look after it, the id is no other process's.
            os.kill(child, signal.SIGKILL)
        self._server.stdin.write("\n")
        status = int(self._server.stdout.readline())
        assert status in (0, signal.SIGKILL)
        return status == 0

    def close(self) -> None:
        with self._server:
            self._server.stdin.close()


@pytest.fixture
def runner():
    made = Runner()
    yield made
    made.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_run_goes_on_and_gives_the_same_tables(tmp_path, runner):
    indexes = make_indexes(tmp_path / "corpus")
    model = make_model(tmp_path / "tiny", indexes[0])
    whole = make_study(tmp_path / "whole", indexes, model, more=SCORING)
    before = time.monotonic()
    assert runner.run(whole)
    seconds = time.monotonic() - before
    chance = random.Random(int(os.environ.get("MEMINDEX_SEED", "0")))
    left_over = []
    for kill in range(KILLS):
        study = make_study(tmp_path / f"killed-{kill}", indexes, model, more=SCORING)
        # The first one comes with the first unit, the others at any moment.
        while runner.run(study, (lambda study=study: bool(units(study))) if kill == 0 else after(chance, seconds)):
            shutil.rmtree(study.tables)
        left_over.append(len(units(study)))
        assert runner.run(study)
        assert_same_tables(study, whole)
    assert 0 < left_over[0] < len(units(whole))
    print(f"{KILLS} kills left {sorted(left_over)} of {len(units(whole))} units")


def after(chance: random.Random, seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + chance.uniform(0, seconds)
    return lambda: time.monotonic() > end


def units(study: StudyConfig) -> list[str]:
    return TableStore(study.tables).units("continuations")
