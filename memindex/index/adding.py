"""Documents that come to a finished index later: as new shards, beside those that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from memindex.corpus.sources import ReadOptions, find_files
from memindex.corpus.tokenizer import BYTES, Tokenizer
from memindex.errors import CorruptIndexError, MemindexError
from memindex.index.builder import BuildReport, write_skipped
from memindex.index.changes import ChangedFile, changed_files
from memindex.index.checksums import Checked
from memindex.index.document_table import DocumentRows, domain_block
from memindex.index.manifest import DOCUMENTS_FILE, SKIPPED_FILE, SOURCES_FILE, TOKENIZER_FILE, Manifest
from memindex.index.names import index_directory
from memindex.index.pipeline import Done, Pipeline, Progress
from memindex.index.plan import make_plan
from memindex.index.revising import common_names, revise, shard_names
from memindex.index.sorting import peak_memory
from memindex.index.source_record import describe, read_sources, refuse_held, write_sources
from memindex.index.units import identity_of, plan_units
from memindex.work.folders import INDEX


def add_documents(
    index: str | Path,
    sources: str | Path | Sequence[str | Path],
    *,
    options: ReadOptions | None = None,
    again: bool = False,
    progress: Progress | None = None,
    **how: Any,
) -> BuildReport:
    """Add the documents in `sources` to an index, as new shards; the shards that are there stay as they are.

    Tokenizer and token width are the index's. Domains keep their codes, new ones come behind them. The new version
    takes the old one's place at once, when it is whole; a call that was stopped goes on where it was when it is made
    again. Files that went into the index before, by the build or an earlier call, are refused.

    Args:
        index: Directory of an index that `build_index` made.
        sources: Files or folders, or one of these; see `memindex.corpus.sources`.
        options: Where text and domain stand in the files; by default in the fields that the index was built with.
        again: Add also files that went into the index before: their documents are there once more then, or, where they
            were removed, again.
        progress: Told about every stage.
        how: `shards` (of the new documents), `memory`, `workers`, `unit_bytes`, `engine`, `key_stride`, `skip_bad` as
            for `build_index`.

    Raises:
        CorpusError: A source is missing, malformed, or holds no document.
        MemindexError: The index can't be changed, a file went into it before, or the memory is not enough.
    """
    directory = index_directory(index).resolve()
    manifest = Manifest.read(directory)
    options = options or options_of(manifest)
    plan = make_plan(_tokenizer_of(directory, manifest), options, token_width=manifest.token_width, **how)
    files = find_files(sources, options)
    given = describe(files)
    units = plan_units(files, options, plan.tokenizer, plan.token_width, plan.unit_bytes)
    request = identity_of(["add", sorted(unit.identity for unit in units)])
    run: list[tuple[Pipeline, Done]] = []
    changed: list[ChangedFile] = []

    def make(work: Path, before: Manifest) -> tuple[Manifest, dict[str, Checked], list[tuple[str, str]]]:
        record = read_sources(directory, before)
        if not again:
            refuse_held(directory, given, record)
            _refuse_request(directory, before, request)
        pipeline = Pipeline(work, plan, progress or (lambda *_: None), before)
        done = pipeline.run(files, lambda rows: _copy_rows(directory, rows))
        run.append((pipeline, done))
        lines = (directory / SKIPPED_FILE).read_text(encoding="utf-8") if SKIPPED_FILE in before.files else ""
        write_skipped(work / INDEX, done.skipped, lines)
        write_sources(work / INDEX, given, record, len(before.revisions) + 1)
        changed.extend(changed_files(files, given, work / INDEX))
        kept = [name for shard in range(before.shards) for name in shard_names(before, shard)]
        return (
            _extended(before, done),
            done.files,
            [(name, name) for name in [*kept, *common_names(before)] if name not in {SKIPPED_FILE, SOURCES_FILE}],
        )

    after = revise(directory, "add", request, make)
    if not run:
        return BuildReport(after, taken_over=1)
    done = run[0][1]
    memory = (peak_memory(), done.sorting_peak_memory)
    return BuildReport(after, done.seconds, *memory, done.skipped, done.taken_over, changed)


def _refuse_request(directory: Path, before: Manifest, request: str) -> None:
    """Raise MemindexError when exactly these files were added before: all that is known of files without a record."""
    if any(done.request == request for done in before.revisions):
        raise MemindexError(f"{directory}: these files were added before; --again adds them once more")


def options_of(manifest: Manifest) -> ReadOptions:
    """How the documents of an index were found in their files, without patterns of file names."""
    return ReadOptions(
        manifest.text_field,
        manifest.domain_field,
        domain_sql=manifest.domain_sql,
        domain_map=manifest.domain_map,
        rows_per_step=manifest.rows_per_step,
    )


def _tokenizer_of(directory: Path, manifest: Manifest) -> Tokenizer:
    if manifest.tokenizer == BYTES:
        return Tokenizer(BYTES, None)
    tokenizer = Tokenizer(manifest.tokenizer, (directory / TOKENIZER_FILE).read_bytes())
    if tokenizer.checksum != manifest.tokenizer_checksum:
        raise CorruptIndexError(f"{directory / TOKENIZER_FILE}: its SHA-256 is not the one in the manifest")
    return tokenizer


def _copy_rows(directory: Path, rows: DocumentRows) -> None:
    with pq.ParquetFile(directory / DOCUMENTS_FILE) as file:
        for group in range(file.num_row_groups):
            rows.copy(file.read_row_group(group))


def _extended(before: Manifest, done: Done) -> Manifest:
    domains, new = tuple(done.dealt.domains), len(done.dealt.tokens)
    now = (len(domains), domain_block(len(domains)))
    return replace(
        before,
        documents=before.documents + done.dealt.documents,
        tokens=sum(domain.tokens for domain in domains),
        shards=before.shards + new,
        domains=domains,
        domain_block=now[1],
        shard_domains=(*map(before.domains_of_shard, range(before.shards)), *[now] * new),
        skipped_documents=before.skipped_documents + done.skipped.count,
    )
