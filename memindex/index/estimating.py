"""What a build will take, told from samples of the corpus: the first documents of files of every kind and folder."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memindex.corpus.documents import BadDocuments, BytesRead, SourceFile
from memindex.corpus.domains import lacking_fields
from memindex.corpus.packing import SUFFIXES
from memindex.corpus.sources import ReadOptions, find_files, read_documents
from memindex.corpus.streams import first_window
from memindex.corpus.tokenizer import Tokenizer, load_tokenizer
from memindex.corpus.tokens import tokens_of
from memindex.corpus.windows import ORDINARY, WindowError
from memindex.errors import CorpusError
from memindex.index.document_table import domain_block
from memindex.index.plan import Plan, make_plan
from memindex.index.sharding import (
    PROCESS_BYTES,
    beyond_memory,
    concurrent_tokenizers,
    most_tokens,
    processors,
    sorting_memory,
    window_memory,
)
from memindex.index.units import plan_units
from memindex.work.folders import new_folder

#: Files that are sampled of each kind, and in all.
FILES_OF_A_KIND = 3
MOST_FILES = 24

#: Batches (of 4 MiB of text) that are read of a file.
BATCHES = 2

#: Tokens a second that one core deals, sorts, and writes (table, keys, domains, checksums); docs/benchmarks.md.
DEALT, SORTED, WRITTEN = 200e6, 11e6, 40e6

#: Seconds that a build takes beside its stages: programs and tokenizers are loaded.
START_SECONDS = 1.0


@dataclass
class _Sample:
    """Sums over what was read of some files."""

    disk: float = 0.0
    documents: float = 0.0
    tokens: float = 0.0
    text: float = 0.0
    metadata: float = 0.0
    read_seconds: float = 0.0
    tokenize_seconds: float = 0.0

    def add(self, other: _Sample, times: float = 1.0) -> None:
        """Add another one, `times` over."""
        for name in (one.name for one in fields(self)):
            setattr(self, name, getattr(self, name) + times * getattr(other, name))


@dataclass(frozen=True)
class Estimate:
    """What a build will do and take.

    Attributes:
        files: Corpus files, and their bytes on the disk.
        sampled_bytes: Bytes of them that the estimate is from.
        units: Units of work that tokenize; each shard is one more.
        documents: Documents, tokens (separators not counted) and bytes of text, as far as samples tell.
        shards: Shards there will be.
        index_bytes: Size of the index.
        disk_bytes: The most that lies on the disk during the build; of which `free_bytes` are free.
        memory: Peak memory of all processes together.
        window_bytes: Of these, what the widest window of a packed file may take in each process that unpacks it.
        seconds: Time of the whole build.
        malformed: Documents that are malformed, of those that were read, which stop a build unless it skips them; and a
            line for the first ones, with file, line and reason.
        lacking_fields: Fields that the expression for the domain names and none of the documents that were read has.
    """

    files: int
    bytes: int
    sampled_bytes: int
    units: int
    documents: int
    tokens: int
    text_bytes: int
    shards: int
    index_bytes: int
    disk_bytes: int
    free_bytes: int
    memory: int
    window_bytes: int
    seconds: float
    malformed: int
    malformed_first: list[str]
    lacking_fields: list[str]


def estimate_build(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    tokenizer: str | Path | Tokenizer,
    options: ReadOptions | None = None,
    **how: Any,
) -> Estimate:
    """Tell what `build_index` would do with the same arguments, without writing anything.

    Raises:
        CorpusError: A source is missing, malformed where it was read, or holds no document.
        MemindexError: The tokenizer is unknown, or the memory is not enough.
    """
    loaded = tokenizer if isinstance(tokenizer, Tokenizer) else load_tokenizer(tokenizer)
    plan = make_plan(loaded, options or ReadOptions(), **how)
    files = find_files(sources, plan.options)
    kinds: dict[tuple[str, str], list[SourceFile]] = {}
    for file in files:
        kinds.setdefault((file.folder, Path(file.name).suffix), []).append(file)
    window = _widest_window(files, plan)
    whole, sampled, domains, bad = _Sample(), _Sample(), set[str](), BadDocuments(skip=True)
    for number, of_kind in enumerate(kinds.values()):
        if number * FILES_OF_A_KIND < MOST_FILES:
            read = _sample(of_kind, plan, domains, bad)
            sampled.add(read)
        else:
            # Too many kinds to look at all of them: the rest is taken for what was seen.
            read = sampled
        whole.add(read, sum(file.bytes for file in of_kind) / max(read.disk, 1.0))
    if not whole.documents:
        named = str(sources) if isinstance(sources, str | Path) else ", ".join(map(str, sources))
        raise CorpusError(f"no documents in the files that were sampled of {named}")
    return _estimate(files, plan, whole, sampled, max(len(domains), 1), new_folder(out), bad, window)


def _sample(files: Sequence[SourceFile], plan: Plan, domains: set[str], bad: BadDocuments) -> _Sample:
    step = max(1, len(files) // FILES_OF_A_KIND)
    total = _Sample()
    # Text files are small: a batch holds many of them.
    chosen = [files[: 1 << 12]] if files[0].format == "text" else [[file] for file in files[::step][:FILES_OF_A_KIND]]
    for group in chosen:
        read = BytesRead(most_window=window_memory(plan.memory, 1))
        start, done = time.perf_counter(), _Sample()
        for batch in _within_memory(itertools.islice(read_documents(group, plan.options, bad, read), BATCHES), plan):
            done.read_seconds += time.perf_counter() - start
            start = time.perf_counter()
            done.tokens += len(tokens_of(batch, plan.tokenizer).values)
            done.tokenize_seconds += time.perf_counter() - start
            done.documents += len(batch)
            done.text += batch.column(0).nbytes
            done.metadata += batch.column("metadata").nbytes
            domains.update(pc.unique(batch.column("domain")).to_pylist())
            start = time.perf_counter()
        done.disk = float(read.total)
        total.add(done)
    return total


def _within_memory(batches: Iterator[pa.RecordBatch], plan: Plan) -> Iterator[pa.RecordBatch]:
    """The batches; MemindexError where unpacking takes more than the memory."""
    try:
        yield from batches
    except WindowError as error:
        raise beyond_memory(error, plan.memory) from None


def _estimate(
    files: Sequence[SourceFile],
    plan: Plan,
    whole: _Sample,
    sampled: _Sample,
    domains: int,
    out: Path,
    bad: BadDocuments,
    window: int,
) -> Estimate:
    units = len(plan_units(files, plan.options, plan.tokenizer, plan.token_width, plan.unit_bytes))
    tokens = whole.tokens + whole.documents
    shards = plan.shards or max(1, -(-int(tokens) // most_tokens(plan.memory, plan.token_width)))
    workers = plan.workers or processors()
    tokenizers = min(units, concurrent_tokenizers(plan.memory, workers))
    sorter = sorting_memory(int(tokens / shards), int(whole.documents / shards), plan.token_width)
    sorters = max(1, min(workers, shards, (plan.memory - PROCESS_BYTES) // sorter))
    # In one process reading and tokenizing go on at the same time.
    tokenizing = (
        max(whole.read_seconds, whole.tokenize_seconds)
        if tokenizers == 1
        else ((whole.read_seconds + whole.tokenize_seconds * min(2, processors())) / tokenizers)
    )
    seconds = tokenizing + tokens / DEALT + (tokens / SORTED + tokens / WRITTEN) / sorters + START_SECONDS
    dealt, index = _disk(tokens / shards, whole, plan, domains, shards)
    return Estimate(
        files=len(files),
        bytes=sum(file.bytes for file in files),
        sampled_bytes=int(sampled.disk),
        units=units,
        documents=int(whole.documents),
        tokens=int(whole.tokens),
        text_bytes=int(whole.text),
        shards=shards,
        index_bytes=index,
        disk_bytes=max(2 * dealt, index),
        free_bytes=shutil.disk_usage(next(parent for parent in out.parents if parent.is_dir())).free,
        memory=PROCESS_BYTES + max(sorters * sorter, _tokenizing_memory(plan, min(workers, units), window)),
        window_bytes=window,
        seconds=round(seconds, 1),
        malformed=bad.count,
        malformed_first=list(bad.first),
        lacking_fields=lacking_fields(plan.options, bad.fields),
    )


def _widest_window(files: Sequence[SourceFile], plan: Plan) -> int:
    """Bytes of the widest window that the beginnings of local packed files name; 0 when all are ordinary."""
    packed = (f for f in files if isinstance(f.file, Path) and f.format in ("jsonl", "warc", "text"))
    named = (f for f in packed if f.format != "text" or f.file.name.lower().endswith(SUFFIXES))
    widest = 0
    for file in named:
        window = 0
        # One that can't be read is reported where it is sampled, or by the build.
        with suppress(OSError):
            window = first_window(file)
        widest = max(widest, window)
    return widest if widest > ORDINARY else 0


def _tokenizing_memory(plan: Plan, most: int, window: int) -> int:
    """Bytes that the tokenizing processes take beside that of the build."""
    count, wide = (concurrent_tokenizers(plan.memory, most, size) for size in (0, window))
    return max(PROCESS_BYTES * count if count > 1 else 0, (PROCESS_BYTES + window) * wide if wide > 1 else window)


def _disk(per_shard: float, whole: _Sample, plan: Plan, domains: int, shards: int) -> tuple[int, int]:
    """Bytes of the tokens and documents, and of the whole index."""
    pointer = next(size for size in itertools.count(1) if 256**size >= per_shard * plan.token_width)
    label = 1 if domains <= 256 else 2
    per_token = plan.token_width + pointer + label + 8 * domains / domain_block(domains) + 9 / plan.key_stride
    described = 2 * whole.metadata + 100 * whole.documents
    return int(per_shard * shards * plan.token_width + described), int(per_shard * shards * per_token + described)


def lines_of(estimate: Estimate) -> Iterator[tuple[str, str]]:
    """The estimate as rows that people read."""
    from memindex.index.sharding import shown

    part = estimate.sampled_bytes / max(estimate.bytes, 1)
    yield "corpus", f"{estimate.files:,} files, {shown(estimate.bytes)} ({part:.1%} of it sampled)"
    yield "units of work", f"{estimate.units:,} to tokenize, {estimate.shards:,} shards to sort"
    yield "documents", f"{estimate.documents:,}"
    yield "tokens", f"{estimate.tokens:,}"
    yield "index", f"{shown(estimate.index_bytes)}"
    yield "disk during the build", f"{shown(estimate.disk_bytes)}, {shown(estimate.free_bytes)} are free"
    of_window = f" (a packed file may need {shown(estimate.window_bytes)} of it)" if estimate.window_bytes else ""
    yield "memory", f"{shown(estimate.memory)}{of_window}"
    yield "time", f"{estimate.seconds:,.0f} s"
