"""Building an index: documents -> tokens -> suffix array and domain column -> manifest.

Everything is written into a hidden folder beside the target, in units of work that a stopped build leaves to the next
one (`pipeline`). The index is renamed to its place at the very end, so that it is there whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import memindex
from memindex.corpus.documents import BadDocuments
from memindex.corpus.sources import ReadOptions, find_files
from memindex.corpus.tokenizer import Tokenizer, load_tokenizer
from memindex.index.changes import ChangedFile, changed_files
from memindex.index.checksums import write_checksums
from memindex.index.document_table import domain_block
from memindex.index.manifest import SKIPPED_FILE, TOKENIZER_FILE, Manifest
from memindex.index.pipeline import Done, Pipeline, Progress
from memindex.index.plan import KEY_STRIDE, EngineName, Plan, make_plan
from memindex.index.sorting import peak_memory
from memindex.index.source_record import GivenFile, describe, write_sources
from memindex.index.units import UNIT_BYTES
from memindex.work.folders import INDEX, check_free, new_folder, partial_of, work_folder


@dataclass
class BuildReport:
    """What a build did.

    Attributes:
        manifest: The manifest of the index.
        seconds: Time by stage. Stages overlap, and several processes' times add up, so the sum is not the whole.
        peak_memory: Peak memory of this process in bytes.
        sorting_peak_memory: That of the largest sorting process.
        skipped: The documents that were left out.
        taken_over: Units of work that an earlier build had finished.
        changed: Corpus files that changed while they were indexed.
    """

    manifest: Manifest
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    sorting_peak_memory: int = 0
    skipped: BadDocuments = field(default_factory=BadDocuments)
    taken_over: int = 0
    changed: list[ChangedFile] = field(default_factory=list)


def build_index(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    tokenizer: str | Path | Tokenizer,
    options: ReadOptions | None = None,
    shards: int | None = None,
    token_width: int | None = None,
    key_stride: int = KEY_STRIDE,
    skip_bad: bool = False,
    workers: int | None = None,
    memory: int | None = None,
    unit_bytes: int = UNIT_BYTES,
    engine: EngineName = "local",
    progress: Progress | None = None,
) -> BuildReport:
    """Build an index of the documents in `sources` (files or folders) at `out`, which must not exist.

    A build that was stopped, killed or failed leaves what it finished in a hidden folder beside `out`; the same call
    goes on there, and gives the same bytes as one that was not stopped.

    Args:
        sources: Files or folders, or one of these; see `memindex.corpus.sources`.
        out: Directory of the new index.
        tokenizer: A tokenizer.json, a name, `bytes`, or a loaded tokenizer.
        options: Where text and domain stand in the files.
        shards: Independent parts; document i goes to shard i modulo shards. By default as few as fit into `memory`.
        token_width: Bytes per token (1, 2, 4); by default the least that holds the tokenizer's ids.
        key_stride: Suffixes per key: 8 takes 1.1 bytes per token; 4 takes twice that, and lookups in files that do not
            fit into memory read one page less.
        skip_bad: Leave malformed documents out, and count them, instead of stopping at the first.
        workers: Processes that tokenize, and then sort, at the same time; by default one per processor. The files do
            not depend on it.
        memory: Bytes that all processes together may take; by default four fifths of the machine's.
        unit_bytes: Bytes of corpus files in a unit of work; what is lost at most, per worker, when a build is killed.
        engine: `local`, or `ray`: the Ray cluster that RAY_ADDRESS names, all of whose nodes see sources and `out`.
        progress: Told about every stage.

    Raises:
        CorpusError: A source is missing, malformed, or holds no document.
        MemindexError: The target exists, the tokenizer is unknown, or the memory is not enough.
    """
    target = new_folder(out)
    plan = make_plan(
        load_tokenizer(tokenizer) if not isinstance(tokenizer, Tokenizer) else tokenizer,
        options or ReadOptions(),
        token_width=token_width,
        shards=shards,
        memory=memory,
        key_stride=key_stride,
        skip_bad=skip_bad,
        workers=workers,
        unit_bytes=unit_bytes,
        engine=engine,
    )
    if not _is_resumed(target):
        check_free(target)
    files = find_files(sources, plan.options)
    given = describe(files)
    with work_folder(target, "index build", free=True) as work:
        pipeline = Pipeline(work, plan, progress or (lambda *_: None))
        done = pipeline.run(files)
        report = _finish(work / INDEX, target, plan, given, done)
        report.changed = changed_files(files, given, work / INDEX)
        (work / INDEX).rename(target)
    return report


def _is_resumed(target: Path) -> bool:
    """Whether a work folder stands beside the target; then it is looked at under lock."""
    return partial_of(target).is_dir()


def _finish(directory: Path, target: Path, plan: Plan, given: Sequence[GivenFile], done: Done) -> BuildReport:
    """Checksum the files that no shard owns, and write the manifest."""
    if plan.tokenizer.definition is not None:
        (directory / TOKENIZER_FILE).write_bytes(plan.tokenizer.definition)
    write_skipped(directory, done.skipped)
    write_sources(directory, given)
    start = time.perf_counter()
    files = write_checksums(directory, _listed(directory), known=done.files)
    done.seconds["checksums"] = done.seconds.get("checksums", 0.0) + time.perf_counter() - start
    domains = tuple(done.dealt.domains)
    manifest = Manifest(
        name=target.name,
        tokenizer=plan.tokenizer.name,
        tokenizer_checksum=plan.tokenizer.checksum,
        vocabulary=plan.tokenizer.vocabulary,
        token_width=plan.token_width,
        documents=done.dealt.documents,
        tokens=sum(domain.tokens for domain in domains),
        shards=len(done.dealt.tokens),
        domains=domains,
        domain_block=domain_block(len(domains)),
        files=files,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        memindex_version=memindex.__version__,
        text_field=plan.options.text_field,
        domain_field=plan.options.domain_field,
        domain_sql=plan.options.domain_sql,
        domain_map=dict(plan.options.domain_map),
        rows_per_step=plan.options.rows_per_step,
        skipped_documents=done.skipped.count,
    )
    manifest.write(directory)
    return BuildReport(manifest, done.seconds, peak_memory(), done.sorting_peak_memory, done.skipped, done.taken_over)


def write_skipped(directory: Path, skipped: BadDocuments, before: str = "") -> None:
    """Write the lines about documents that were left out, behind those of earlier builds; no file without any."""
    (directory / SKIPPED_FILE).unlink(missing_ok=True)
    if skipped.count or before:
        lines = "".join(f"{line}\n" for line in skipped.first)
        (directory / SKIPPED_FILE).write_text(before + lines, encoding="utf-8")


def _listed(directory: Path) -> list[Path]:
    """The files of an index that is being put together; not what an earlier build may have left last."""
    from memindex.index.manifest import CHECKSUMS_FILE, FILE

    return [file for file in directory.iterdir() if file.name not in {CHECKSUMS_FILE, FILE}]
