"""Building an index: documents -> tokens -> suffix array and domain column -> manifest.

Everything is written into a hidden folder beside the target and renamed at the very end, so that an index is there
whole or not at all. Text streams through in batches of bounded size; suffix sorting runs in processes of its own that
hold nothing but one shard.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import memindex
from memindex import _core
from memindex.corpus.documents import BadDocuments, BytesRead, SourceFile
from memindex.corpus.sources import ReadOptions, find_files, read_documents
from memindex.corpus.tokenizer import Tokenizer, load_tokenizer
from memindex.corpus.tokens import tokens_of
from memindex.errors import CorpusError, MemindexError
from memindex.index.checksums import write_checksums
from memindex.index.document_table import DocumentTable
from memindex.index.manifest import SKIPPED_FILE, TOKENIZER_FILE, Manifest
from memindex.index.partial import check_free, partial_directory
from memindex.index.sorting import SortJob, peak_memory, sort_shard

#: Suffixes per key of the key table, and at most.
KEY_STRIDE = 8
MOST_KEY_STRIDE = 1 << 16

#: Called with a stage's name, work done and work in all (bytes of files, or shards).
Progress = Callable[[str, int, int], None]


@dataclass
class BuildReport:
    """What a build did: seconds by stage, peak memory in bytes, and the documents that were left out."""

    manifest: Manifest
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    sorting_peak_memory: int = 0
    skipped: BadDocuments = field(default_factory=BadDocuments)


def build_index(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    tokenizer: str | Path | Tokenizer,
    options: ReadOptions | None = None,
    shards: int = 1,
    token_width: int | None = None,
    key_stride: int = KEY_STRIDE,
    skip_bad: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build an index of the documents in `sources` (files or folders) at `out`, which must not exist.

    Args:
        sources: Files or folders; see `memindex.corpus.sources`.
        out: Directory of the new index.
        tokenizer: A tokenizer.json, a name, `bytes`, or a loaded tokenizer.
        options: Where text and domain stand in the files.
        shards: Independent parts; document i goes to shard i modulo shards.
        token_width: Bytes per token (1, 2, 4); by default the least that holds the tokenizer's ids.
        key_stride: Suffixes per key: 8 takes 1.1 bytes per token; 4 takes twice that, and lookups in files that do not
            fit into memory read one page less.
        skip_bad: Leave malformed documents out, and count them, instead of stopping at the first.
        workers: Processes that sort shards at the same time; by default one per shard, at most one per processor.
        progress: Told about every stage.

    Raises:
        CorpusError: A source is missing, malformed, or holds no document.
        MemindexError: The target exists, or the tokenizer is unknown.
    """
    target = Path(out).absolute()
    check_free(target)
    if shards < 1:
        raise MemindexError(f"an index needs at least 1 shard, not {shards}")
    if workers is not None and workers < 1:
        raise MemindexError(f"shards are sorted by at least 1 worker, not {workers}")
    if not 1 <= key_stride <= MOST_KEY_STRIDE:
        raise MemindexError(f"--key-stride {key_stride}: one key stands for 1 to {MOST_KEY_STRIDE} suffixes")
    loaded = tokenizer if isinstance(tokenizer, Tokenizer) else load_tokenizer(tokenizer)
    width = _token_width(loaded, token_width)
    bad = BadDocuments(skip=skip_bad)
    options = options or ReadOptions()
    files = find_files(sources, options)
    with partial_directory(target) as partial:
        build = _Build(partial, loaded, options, shards, width, bad, progress or (lambda *_: None))
        build.write_tokens(files)
        if not build.documents.rows:
            reason = f" ({bad.first[0]})" if bad.first else ""
            raise CorpusError(f"no documents in {', '.join(map(str, sources))}{reason}")
        if build.documents.rows < shards:
            # infini-gram's engine ends its process at an empty shard.
            raise CorpusError(f"{build.documents.rows} documents can't fill {shards} shards: use fewer --shards")
        build.sort(workers, key_stride)
        return build.finish(target)


def _token_width(tokenizer: Tokenizer, asked: int | None) -> int:
    needed = tokenizer.token_width()
    if asked is None:
        return needed
    if asked not in (1, 2, 4):
        raise MemindexError(f"--token-width {asked}: a token is 1, 2 or 4 bytes wide")
    if asked < needed:
        raise MemindexError(
            f"--token-width {asked} can't hold the ids of {tokenizer.name} "
            f"(0 to {tokenizer.vocabulary - 1}): use {needed}"
        )
    return asked


class _Build:
    """One build under way."""

    def __init__(
        self,
        directory: Path,
        tokenizer: Tokenizer,
        options: ReadOptions,
        shards: int,
        width: int,
        bad: BadDocuments,
        progress: Progress,
    ) -> None:
        self.directory = directory
        self.tokenizer = tokenizer
        self.options = options
        self.shards = shards
        self.width = width
        self.bad = bad
        self.progress = progress
        self.documents = DocumentTable(directory, shards)
        self.seconds: dict[str, float] = {}
        self.sorting_peak_memory = 0

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._add(stage, time.perf_counter() - start)

    def _add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def write_tokens(self, files: Sequence[SourceFile]) -> None:
        """Stream all documents through the tokenizer into tokenized.S, offset.S, metadata.S and the document table."""
        try:
            self._write_tokens(files)
        except BaseException:
            self.documents.abandon()
            raise

    def _write_tokens(self, files: Sequence[SourceFile]) -> None:
        writer = _core.DocumentWriter(self.directory, self.shards, self.width)
        total = sum(file.bytes for file in files)
        read = BytesRead()
        batches = read_documents(files, self.options, self.bad, read)
        while True:
            with self._timed("read"):
                batch = next(batches, None)
            if batch is None:
                break
            if not len(batch):
                continue
            with self._timed("tokenize"):
                tokens = tokens_of(batch, self.tokenizer)
            with self._timed("write tokens"):
                firsts = writer.append(tokens.values, tokens.offsets)
                self.documents.append(batch, firsts, tokens.lengths())
            # A file may grow while it is read.
            self.progress("tokenize", min(read.total, total), total)
        self.progress("tokenize", total, total)
        with self._timed("write tokens"):
            writer.close()
            self.documents.close()

    def sort(self, workers: int | None, stride: int) -> None:
        """Sort every shard in a process of its own."""
        labels = self.documents.domain_codes()
        count, block = len(self.documents.domains), self.documents.domain_block()
        jobs = [
            SortJob(self.directory, s, self.width, labels[s :: self.shards].tobytes(), count, block, stride)
            for s in range(self.shards)
        ]
        most = workers or min(self.shards, os.cpu_count() or 1)
        # The threads only wait for their processes.
        with self._timed("sort and write table"), ThreadPoolExecutor(most) as pool:
            self.progress("sort", 0, self.shards)
            for done, shard in enumerate(pool.map(sort_shard, jobs), start=1):
                self.progress("sort", done, self.shards)
                self._add("suffix sorting", shard.sort_seconds)
                self._add("table and domain column", shard.write_seconds)
                self.sorting_peak_memory = max(self.sorting_peak_memory, shard.peak_memory)

    def finish(self, target: Path) -> BuildReport:
        """Checksum every file, write the manifest, rename the folder to the target."""
        if self.tokenizer.definition is not None:
            (self.directory / TOKENIZER_FILE).write_bytes(self.tokenizer.definition)
        if self.bad.count:
            lines = "".join(f"{line}\n" for line in self.bad.first)
            (self.directory / SKIPPED_FILE).write_text(lines, encoding="utf-8")
        with self._timed("checksums"):
            files = write_checksums(self.directory, self.directory.iterdir())
        domains = self.documents.domain_facts()
        manifest = Manifest(
            name=target.name,
            tokenizer=self.tokenizer.name,
            tokenizer_checksum=self.tokenizer.checksum,
            vocabulary=self.tokenizer.vocabulary,
            token_width=self.width,
            documents=self.documents.rows,
            tokens=sum(domain.tokens for domain in domains),
            shards=self.shards,
            domains=domains,
            domain_block=self.documents.domain_block(),
            files=files,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            memindex_version=memindex.__version__,
            text_field=self.options.text_field,
            domain_field=self.options.domain_field,
            domain_sql=self.options.domain_sql,
            domain_map=dict(self.options.domain_map),
            rows_per_step=self.options.rows_per_step,
            skipped_documents=self.bad.count,
        )
        manifest.write(self.directory)
        self.directory.rename(target)
        return BuildReport(
            manifest=manifest,
            seconds=self.seconds,
            peak_memory=peak_memory(),
            sorting_peak_memory=self.sorting_peak_memory,
            skipped=self.bad,
        )
