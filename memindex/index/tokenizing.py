"""One unit of a build: documents of some files -> tokens, document rows and metadata in a folder of its own.

The folder looks like an index of one shard without suffix array, and `unit.json` says what is in it. It is renamed to
its name when it is whole. Files are read in a thread of its own, ahead of the tokenizer.
"""

from __future__ import annotations

import json
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from memindex import _core
from memindex.corpus.documents import BadDocuments, BytesRead
from memindex.corpus.sources import read_documents
from memindex.corpus.tokenizer import Tokenizer
from memindex.corpus.tokens import tokens_of
from memindex.index.document_table import DocumentTable
from memindex.index.manifest import write_atomically
from memindex.index.sorting import peak_memory
from memindex.index.units import TokenUnit

FACTS = "unit.json"

#: Batches that are read before they are tokenized.
AHEAD = 2

Item = TypeVar("Item")

#: Told of the bytes of files read so far.
Read = Callable[[int], None]


@dataclass
class UnitFacts:
    """What a unit holds, what was left out of it (the number, and a line for each), and what it took.

    `fields` are those that the expression for the domain names and that some document had; None: not looked for.
    """

    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0
    skipped: int = 0
    skipped_lines: list[str] = field(default_factory=list)
    fields: list[str] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory: int = 0

    def add_seconds(self, stage: str, since: float) -> None:
        """Add the time since `since` to a stage's."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - since


def finished(units: Path, unit: TokenUnit) -> UnitFacts | None:
    """The facts of a unit that was done before, or None."""
    file = units / unit.name / FACTS
    return UnitFacts(**json.loads(file.read_bytes())) if file.is_file() else None


def tokenize_unit(
    units: Path,
    unit: TokenUnit,
    tokenizer: Tokenizer,
    skip_bad: bool,
    read: Read | None = None,
    most_window: int | None = None,
) -> UnitFacts:
    """Tokenize the files of a unit into its folder below `units`.

    Raises:
        WindowError: A file is packed with a window of more than `most_window` bytes.
        CorpusError: A file is malformed, with file and line.
        OSError: A file can't be read or written.
    """
    folder = units / f".{unit.name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        reading = BytesRead(most_window=most_window)
        facts = _write(folder, unit, tokenizer, BadDocuments(skip=skip_bad), reading, read or (lambda _: None))
        write_atomically(folder / FACTS, json.dumps(asdict(facts)).encode())
        folder.rename(units / unit.name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return facts


def _write(
    folder: Path, unit: TokenUnit, tokenizer: Tokenizer, bad: BadDocuments, read: BytesRead, told: Read
) -> UnitFacts:
    facts = UnitFacts()
    writer = _core.DocumentWriter(folder, 1, unit.token_width)
    table = DocumentTable(folder)
    try:
        batches = _timed(read_documents(unit.files, unit.options, bad, read), read, facts)
        for batch, done in ahead(batches, AHEAD):
            told(done)
            if len(batch):
                facts.text_bytes += batch.column(0).nbytes
                _append(batch, tokenizer, writer, table, facts)
        start = time.perf_counter()
        writer.close()
        table.close()
        facts.add_seconds("write tokens", start)
    except BaseException:
        table.abandon()
        raise
    facts.documents = table.rows
    facts.skipped, facts.skipped_lines = bad.count, list(bad.first)
    facts.fields = sorted(bad.fields)
    facts.peak_memory = peak_memory()
    return facts


def _append(
    batch: pa.RecordBatch, tokenizer: Tokenizer, writer: _core.DocumentWriter, table: DocumentTable, facts: UnitFacts
) -> None:
    start = time.perf_counter()
    tokens = tokens_of(batch, tokenizer)
    facts.add_seconds("tokenize", start)
    start = time.perf_counter()
    firsts = writer.append(tokens.values, tokens.offsets)
    table.append(batch, firsts, tokens.lengths())
    facts.tokens += len(tokens.values)
    facts.add_seconds("write tokens", start)


def _timed(
    batches: Iterator[pa.RecordBatch], read: BytesRead, facts: UnitFacts
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The batches, each with the bytes of files that were read by then."""
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        facts.add_seconds("read", start)
        if batch is None:
            return
        yield batch, read.total


def ahead(items: Iterator[Item], most: int) -> Iterator[Item]:
    """The same items, made by a thread that is at most `most` of them ahead."""
    made: queue.Queue[Item | BaseException | None] = queue.Queue(most)
    stopped = threading.Event()

    def put(item: Item | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            if all(map(put, items)):
                put(None)
        except BaseException as error:  # raised again where the batches are taken
            put(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
