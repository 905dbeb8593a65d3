"""A worker: scores unit after unit with the models it has loaded, and writes each beside the next one's scoring.

`python -m memindex.study.worker` is one as a process of its own (see `memindex.study.engines.local`). It ends when its
parent does, whatever ends the parent.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self

import pyarrow as pa

from memindex.errors import MemindexError
from memindex.study.planning import Run, Units
from memindex.study.probing import Prober, ProbeUnits, write_probed
from memindex.study.units import Batch, score_unit, tokens_of, write_unit
from memindex.tables.store import TableStore

if TYPE_CHECKING:
    from memindex.models.loading import LoadedModel
    from memindex.models.scoring import Scorer

#: Units that may wait to be written. A unit holds some 500 bytes per sequence.
WAITING = 2

#: Called with (sequences of the unit scored, sequences in the unit).
UnitProgress = Callable[[int, int], None]

#: Called with (done, in all) of a job.
Tell = Callable[[int, int], None]


class Doer(Protocol):
    """What a worker process does with its jobs; a context manager, whose end waits for what is still to be written."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def do(self, job: Any, tell: Tell) -> None:
        """Do one job."""


@dataclass(frozen=True)
class Job:
    """A unit to score or probe: its run's units, its number, and rows per forward pass (None: what memory holds)."""

    units: Units
    number: int
    batch_size: int | None = None


class Worker:
    """Scores units and writes them; a context manager, whose end waits for what is still to be written.

    Args:
        tables: Directory of the study's tables.
        sequences: The study's sequences; None reads those of the run's sample from the tables.
    """

    def __init__(self, tables: Path, sequences: pa.Table | None = None) -> None:
        self._store = TableStore(tables)
        self._sequences = sequences
        self._loaded: tuple[Any, LoadedModel] | None = None
        self._scorer: tuple[Any, Scorer, Batch] | None = None
        self._prober: Prober | None = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write units")
        self._writing: list[Future[None]] = []

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A unit that is scored is finished even when the next one fails, or the user stops.
        self._writer.shutdown(wait=True)
        if self._scorer is not None:
            self._scorer[1].close()
        if error is None:
            self.flush()

    def do(self, job: Job, tell: Tell) -> None:
        """Score or probe a unit (`score`)."""
        self.score(job, tell)

    def score(self, job: Job, progress: UnitProgress | None = None) -> None:
        """Score or probe a unit; it is written in the background.

        Raises:
            MemindexError: The model can't be run, or an earlier unit can't be written.
        """
        while len(self._writing) >= WAITING:
            self._writing.pop(0).result()
        loaded = self._model(job.units)
        if isinstance(job.units, ProbeUnits):
            probed = self._probing(job.units).probe(loaded, job.number, job.batch_size, progress)
            self._writing.append(self._writer.submit(write_probed, self._store, probed))
            return
        scorer, tokens = self._ready(loaded, job)
        unit = score_unit(loaded, scorer, job.units, job.number, tokens, progress)
        self._writing.append(self._writer.submit(write_unit, self._store, unit))

    def flush(self) -> None:
        """Wait until all is written that was scored; raises what went wrong."""
        while self._writing:
            self._writing.pop(0).result()

    def _model(self, units: Units) -> LoadedModel:
        from memindex.models.loading import load_model

        run, protocol = units.run, units.run.protocol
        key = (run.model.id, run.source, run.model.revision, units.device, protocol.dtype, protocol.attention)
        if self._loaded is None or self._loaded[0] != key:
            self._forget()
            loaded = load_model(
                run.source,
                run.model.revision,
                units.device,
                protocol.dtype,
                protocol.attention,
                model_id=run.model.id,
                random_weights_seed=run.weights_seed,
            )
            self._loaded = (key, loaded)
        return self._loaded[1]

    def _ready(self, loaded: LoadedModel, job: Job) -> tuple[Scorer, Batch]:
        """The scorer and the tokens of the job's run."""
        from memindex.models.decoding import Lengths
        from memindex.models.engine import compiling_pays
        from memindex.models.scoring import Decoding, Scorer

        run, protocol = job.units.run, job.units.run.protocol
        if self._scorer is None or self._scorer[0] != run:
            if self._scorer is not None:
                self._scorer[1].close()
            scorer = Scorer(
                loaded,
                protocol.prefix,
                protocol.suffix,
                decoding=Decoding(protocol.seed, protocol.top_k, protocol.temperature or 1.0),
                batch_size=job.batch_size,
                # By the run's size: the result must not depend on the units that happen to be left.
                compiled=compiling_pays(loaded, Lengths(protocol.prefix, protocol.suffix), job.units.rows),
                # Not the rows of this unit: a short last one would be scored in other batches where it comes first.
                rows=min(job.units.size, job.units.rows),
            )
            self._scorer = (run, scorer, tokens_of(run, self._rows(run)))
        return self._scorer[1], self._scorer[2]

    def _probing(self, units: ProbeUnits) -> Prober:
        """What measures the units."""
        if self._prober is None or self._prober.units != units:
            self._prober = Prober(self._store, units, self._rows(units.run))
        return self._prober

    def _rows(self, run: Run) -> pa.Table:
        if self._sequences is None:
            self._sequences = self._store.read("sequences", units=[run.sample])
        return self._sequences

    def _forget(self) -> None:
        """Free one model's memory before the next one is loaded."""
        if self._scorer is not None:
            self._scorer[1].close()
        self._scorer = self._loaded = None


def serve(make: Callable[[], Doer], commands: BinaryIO, answers: BinaryIO) -> None:
    """Do the jobs that come as pickles in `commands` until None comes; tell in `answers` how they go.

    Answers are ("progress", done, total), ("done", job) when the next job is wanted, ("written",) after None, and
    ("failed", message) at the end of a worker that can't go on.
    """
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(commands, jobs), daemon=True).start()

    def tell(*answer: Any) -> None:
        pickle.dump(answer, answers)
        answers.flush()

    try:
        with make() as doer:
            while (job := jobs.get()) is not None:
                doer.do(job, lambda done, total: tell("progress", done, total))
                tell("done", job)
        tell("written")
    except MemindexError as error:
        tell("failed", str(error))


def _receive(commands: BinaryIO, jobs: queue.SimpleQueue[Any]) -> None:
    while True:
        try:
            job = pickle.load(commands)
        except (EOFError, OSError):
            # The parent is gone: nobody will read what this process goes on to do.
            os._exit(1)
        jobs.put(job)
        if job is None:
            return


def run_worker(make: Callable[[], Doer]) -> None:
    """Serve the parent process over stdin and stdout; does not return."""
    # Ctrl-C reaches the whole group; the parent closes stdin then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    # What a library prints must not come between the answers.
    os.dup2(2, 1)
    code = 0
    try:
        serve(make, sys.stdin.buffer, answers)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    # The thread that waits for jobs holds stdin's lock, which an orderly exit would wait for.
    os._exit(code)


if __name__ == "__main__":
    run_worker(lambda: Worker(Path(sys.argv[1])))
