"""`memindex index open`: a folder of infini-gram files becomes an index, without a change to them.

What a build leaves beside those files is made from them: documents.parquet from offsets and metadata, keys.S and
domain.S from one walk each over the table, then checksums, and index.json last. Documents stream through in blocks;
memory is about 12 bytes a document and 1/16 byte a token of the shards at work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import memindex
from memindex import _core
from memindex.corpus.tokenizer import Tokenizer
from memindex.errors import MemindexError
from memindex.index.builder import BuildReport
from memindex.index.checksums import write_checksums
from memindex.index.document_table import DocumentRows
from memindex.index.folder_documents import ShardDocuments
from memindex.index.layout import Layout, read_layout, shard_files, tokenizer_for
from memindex.index.manifest import CHECKSUMS_FILE, DOCUMENTS_FILE, FILE, TOKENIZER_FILE, Manifest
from memindex.index.pipeline import Progress
from memindex.index.sorting import peak_memory
from memindex.work.folders import check_free, new_folder, partial_directory, partial_inside


def adopt_index(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    tokenizer: str | Path | Tokenizer | None = None,
    domain_path: str | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Write manifest, document table, key table and domain column for a folder of infini-gram files (v4).

    Args:
        folder: The folder; its files are read and never changed.
        out: A new folder for what is written, which remembers where `folder` is; by default all goes into `folder`.
        tokenizer: The one the index was built with, as for `load_tokenizer`; without it the index counts ids only.
        domain_path: Dotted path of the domain in the metadata of each document, as `meta.pile_set_name`; looked up
            below "metadata" first, then at the top of the line. Documents without it get the domain `unlabelled`. By
            default the domain is the top folder of "path", and the name of `folder` where that has none.
        progress: Told about every stage.

    Raises:
        MemindexError: No such files, a layout that memindex does not read, a tokenizer that does not fit, no document
            with a label, or files in the way.
        CorruptIndexError: A file is damaged; names it and the place.
    """
    data = Path(folder).resolve()
    layout = read_layout(data)
    if layout is None:
        raise MemindexError(f"{data} holds no infini-gram files (tokenized.0, table.0, offset.0)")
    if domain_path is not None and not all(domain_path.split(".")):
        raise MemindexError(f"--domain-path {domain_path!r}: give names of fields with dots between, as meta.subset")
    loaded = None if tokenizer is None else tokenizer_for(tokenizer, layout.token_width)
    target = None if out is None else new_folder(out)
    with _destination(data, target, layout, loaded) as partial:
        adoption = _Adoption(data, partial, layout, loaded, domain_path, progress or (lambda *_: None))
        adoption.write_documents()
        adoption.write_sidecars()
        report = adoption.finish(target)
        if target is not None:
            partial.rename(target)
    return report


def _destination(
    data: Path, target: Path | None, layout: Layout, tokenizer: Tokenizer | None
) -> AbstractContextManager[Path]:
    if target is not None:
        check_free(target)
        return partial_directory(target, "index open")
    names = [FILE, DOCUMENTS_FILE, CHECKSUMS_FILE]
    names += [f"{kind}.{shard}" for shard in range(len(layout.tokens)) for kind in ("keys", "domain", "domainsum")]
    tokenizer_file = data / TOKENIZER_FILE
    if tokenizer is not None and tokenizer.definition is not None:
        same = tokenizer_file.is_file() and tokenizer_file.read_bytes() == tokenizer.definition
        names += [] if same else [TOKENIZER_FILE]
    return partial_inside(data, names, last=FILE)


class _Adoption:
    """One adoption under way."""

    def __init__(
        self,
        data: Path,
        directory: Path,
        layout: Layout,
        tokenizer: Tokenizer | None,
        domain_path: str | None,
        progress: Progress,
    ) -> None:
        self.data = data
        self.directory = directory
        self.layout = layout
        self.shards = len(layout.tokens)
        self.tokenizer = tokenizer
        self.domain_path = domain_path
        self.progress = progress
        #: The largest id of each shard.
        self.largest: list[int] = []
        self.seconds: dict[str, float] = {}
        self.documents = DocumentRows(directory)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start

    def write_documents(self) -> None:
        """Check the documents of every shard and write documents.parquet, shard by shard."""
        try:
            with self._timed("documents"):
                labelled = sum(self._write_shard(shard) for shard in range(self.shards))
                self.documents.close()
        except BaseException:
            self.documents.abandon()
            raise
        if self.domain_path is not None and not labelled:
            raise MemindexError(
                f"no document has text or a number at {self.domain_path!r}: look into {self.data / 'metadata.0'} for "
                "the path of the domain"
            )

    def _write_shard(self, shard: int) -> int:
        """Write the rows of one shard; returns how many documents have a label."""
        documents = ShardDocuments(self.data, shard, self.layout.token_width, self.domain_path)
        self.largest.append(documents.largest_id)
        if self.tokenizer is not None and documents.largest_id >= self.tokenizer.vocabulary:
            raise MemindexError(
                f"{documents.text} holds the id {documents.largest_id}, and tokenizer {self.tokenizer.name} ids to "
                f"{self.tokenizer.vocabulary - 1}: the index was built with another one"
            )
        for numbers, firsts, lengths, described in documents:
            of_shard = np.full(len(numbers), shard, dtype=np.int32)
            self.documents.append_rows(described, of_shard, numbers, firsts, lengths)
            self.progress("documents", self.documents.rows, sum(self.layout.documents))
        return documents.labelled

    def write_sidecars(self) -> None:
        """Write key table and domain column of every shard."""
        codes = self.documents.domain_codes()
        ends = np.cumsum(self.layout.documents)
        domains, block = len(self.documents.domains), self.documents.domain_block()

        def write(shard: int) -> None:
            mine = codes[ends[shard] - self.layout.documents[shard] : ends[shard]].tobytes()
            _core.write_sidecars(
                self.data, self.directory, shard, self.layout.token_width, self.largest[shard], mine, domains, block
            )

        # The core lets go of the interpreter while it works.
        with self._timed("sidecars"), ThreadPoolExecutor(min(self.shards, os.cpu_count() or 1)) as pool:
            self.progress("sidecars", 0, self.shards)
            for done, _ in enumerate(pool.map(write, range(self.shards)), start=1):
                self.progress("sidecars", done, self.shards)

    def finish(self, target: Path | None) -> BuildReport:
        """Checksum every file and write the manifest."""
        if self.tokenizer is not None and self.tokenizer.definition is not None:
            (self.directory / TOKENIZER_FILE).write_bytes(self.tokenizer.definition)
        with self._timed("checksums"):
            files = write_checksums(
                self.directory,
                [*shard_files(self.data, self.shards), *self.directory.iterdir()],
                lambda done, all_files: self.progress("checksums", done, all_files),
            )
        domains = self.documents.domain_facts()
        manifest = Manifest(
            name=(target or self.data).name,
            tokenizer=self.tokenizer.name if self.tokenizer else "",
            tokenizer_checksum=self.tokenizer.checksum if self.tokenizer else "",
            vocabulary=self.tokenizer.vocabulary if self.tokenizer else max(self.largest) + 1,
            token_width=self.layout.token_width,
            documents=self.documents.rows,
            tokens=sum(domain.tokens for domain in domains),
            shards=self.shards,
            domains=domains,
            domain_block=self.documents.domain_block(),
            files=files,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            memindex_version=memindex.__version__,
            domain_field=self.domain_path,
            data=str(self.data) if target else None,
        )
        manifest.write(self.directory)
        return BuildReport(manifest=manifest, seconds=self.seconds, peak_memory=peak_memory())
