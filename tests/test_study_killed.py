"""Runs that are killed at any moment and started again give the tables of a run that was left alone.

MEMINDEX_KILLS=20 kills that often; three times by default.
"""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from scored_study import assert_same_tables, make_indexes, make_model, make_study

from memindex.study.config import StudyConfig
from memindex.study.running import RunOptions, run_study
from memindex.tables.store import TableStore

torch = pytest.importorskip("torch")

KILLS = int(os.environ.get("MEMINDEX_KILLS", "3"))
SMALL = RunOptions(device="cpu", unit_size=32, batch_size=32)

#: Runs each study that it reads from its input, in a process of its own whose number it tells, and how that ended. The
#: libraries are loaded before: no moment of a run comes earlier.
SCRIPT = """
import os
import sys
import torch
import transformers.models.llama.modeling_llama
from memindex.models import loading, scoring
from memindex.study.config import load_study
from memindex.study.running import RunOptions, run_study
torch.set_num_threads(1)
for line in sys.stdin:
    process = os.fork()
    if not process:
        run_study(load_study(line.strip()), options=RunOptions(device="cpu", unit_size=32, batch_size=32))
        os._exit(0)
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""

#: Two runs. Sampled ones would differ first if anything depended on what was left to do.
SCORING = """
[scoring]
prefix = 4
decoding = "sampled"
seed = 5
controls = "shuffled-suffixes"
"""

pytestmark = pytest.mark.kill


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def runs() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        yield process


def kill_while_running(runs: subprocess.Popen[str], study: StudyConfig, moment: Callable[[], bool]) -> bool:
    """Whether the run was killed at that moment; it had ended before otherwise."""
    assert runs.stdin is not None
    assert runs.stdout is not None
    runs.stdin.write(f"{study.directory}\n")
    run = int(runs.stdout.readline())
    while not moment() and not select.select([runs.stdout], [], [], 0.001)[0]:
        pass
    with suppress(ProcessLookupError):
        os.kill(run, signal.SIGKILL)
    ended = int(runs.stdout.readline())
    assert ended in {0, -9}
    return ended == -9


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


def test_a_killed_run_goes_on_and_gives_the_same_tables(runs: subprocess.Popen[str], tmp_path: Path):
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
        while not kill_while_running(
            runs, study, after(study, files, kill and chance.uniform(0, seconds / (1 + files)))
        ):
            shutil.rmtree(study.tables)
        found.append(len(units(study)))
        run_study(study, options=SMALL)
        assert_same_tables(study, whole)
    print(f"{KILLS} kills left {found} of {len(units(whole))} units")
    assert 0 < found[0] < len(units(whole))
