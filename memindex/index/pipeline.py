"""The units of a build in their order: tokenize groups of files, deal the documents into shards, sort every shard.

Each leaves behind a name in the folder `units` that says what it was made from. A build that finds the name there takes
the unit over; everything else that it finds is removed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import memindex
from memindex.corpus.documents import MOST_REPORTS, BadDocuments, SourceFile
from memindex.corpus.domains import lacking_fields
from memindex.errors import CorpusError
from memindex.index.checksums import Checked, read_record
from memindex.index.dealing import Dealt, deal, labels_of
from memindex.index.document_table import DocumentRows, domain_block
from memindex.index.engines import Engine, Local
from memindex.index.manifest import Manifest
from memindex.index.plan import Plan, shards_for
from memindex.index.sharding import (
    processors,
    sorting_memory,
)
from memindex.index.sorting import Sorted, SortJob
from memindex.index.tokenizing import UnitFacts, finished
from memindex.index.tokenizing_process import TokenTask
from memindex.index.units import TokenUnit, identity_of, plan_units
from memindex.work.folders import INDEX, UNITS

#: Called with a stage's name, work done and work in all (bytes of files, or shards).
Progress = Callable[[str, int, int], None]


@dataclass
class Done:
    """What the units of a build left: shards, the checksums of their files, and what was left out."""

    dealt: Dealt
    files: dict[str, Checked]
    skipped: BadDocuments
    seconds: dict[str, float] = field(default_factory=dict)
    sorting_peak_memory: int = 0
    taken_over: int = 0


class Pipeline:
    """One build under way in a work folder; `base` is the index that the new shards come to, if any."""

    def __init__(self, work: Path, plan: Plan, progress: Progress, base: Manifest | None = None) -> None:
        self.units = work / UNITS
        self.index = work / INDEX
        self.plan = plan
        self.progress = progress
        self.base = base
        self.first_shard = base.shards if base else 0
        self.seconds: dict[str, float] = {}
        self.taken_over = 0
        self.sorting_peak_memory = 0

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time inside to a stage's."""
        start = time.perf_counter()
        yield
        self._add(stage, time.perf_counter() - start)

    def _add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def run(self, files: Sequence[SourceFile], copy_rows: Callable[[DocumentRows], None] | None = None) -> Done:
        """Do what is left to do.

        Args:
            files: The corpus files.
            copy_rows: Writes the document rows of the shards that are there before those of the new ones.
        """
        plan = self.plan
        units = plan_units(files, plan.options, plan.tokenizer, plan.token_width, plan.unit_bytes)
        asked = plan.shards if plan.shards else ["memory", plan.memory]
        before = self.base.checksum if self.base else ""
        dealt_as = identity_of([memindex.__version__, [unit.identity for unit in units], asked, before])
        sorted_as = identity_of([dealt_as, plan.key_stride])
        self._tidy({unit.name for unit in units}, dealt_as, sorted_as)
        record = self.units / f"dealt-{dealt_as}.json"
        dealt = Dealt.read(record)
        if dealt is None:
            facts = self._tokenize(units)
            dealt = self._deal(units, facts, record, copy_rows or (lambda _: None))
        else:
            self.taken_over += 1
        # Also what a build left that was killed here.
        self._forget(units)
        self._sort(dealt, record, sorted_as)
        return self._done(dealt, sorted_as)

    def _forget(self, units: Sequence[TokenUnit]) -> None:
        for unit in units:
            shutil.rmtree(self.units / unit.name, ignore_errors=True)

    def _tidy(self, units: set[str], dealt_as: str, sorted_as: str) -> None:
        for found in self.units.iterdir():
            of_build = dealt_as if found.name.startswith("dealt-") else sorted_as
            if found.name not in units and found.stem.rpartition("-")[2] != of_build:
                shutil.rmtree(found) if found.is_dir() else found.unlink()
        # Files that were being written when a build was killed.
        for found in self.index.glob(".*"):
            found.unlink()

    def _tokenize(self, units: Sequence[TokenUnit]) -> list[UnitFacts]:
        plan = self.plan
        total = sum(unit.bytes for unit in units)
        facts = {unit.number: found for unit in units if (found := finished(self.units, unit))}
        self.taken_over += len(facts)
        left = [unit for unit in units if unit.number not in facts]
        read = {unit.number: unit.bytes for unit in units if unit.number in facts}

        self.progress("tokenize", sum(read.values()), total)

        def told(unit: TokenUnit, done: int) -> None:
            # A file may grow while it is read.
            read[unit.number] = min(done, unit.bytes)
            self.progress("tokenize", min(sum(read.values()), total), total)

        name, definition = plan.tokenizer.name, plan.tokenizer.definition
        task = TokenTask(self.units, name, definition, plan.skip_bad)
        with self.timed("read and tokenize"):
            made = self._engine().tokenize(task, left, told)
        for unit, done in zip(left, made, strict=True):
            facts[unit.number] = done
            for stage, seconds in done.seconds.items():
                self._add(stage, seconds)
        self.progress("tokenize", total, total)
        return [facts[unit.number] for unit in units]

    def _engine(self) -> Engine:
        plan = self.plan
        workers = plan.workers or processors()
        if plan.engine == "ray":
            from memindex.index.cluster import Cluster

            return Cluster(plan.workers)
        return Local(plan.tokenizer, plan.memory, workers)

    def _deal(
        self,
        units: Sequence[TokenUnit],
        facts: Sequence[UnitFacts],
        record: Path,
        copy_rows: Callable[[DocumentRows], None],
    ) -> Dealt:
        folders = [self.units / unit.name for unit in units]
        skipped = BadDocuments(skip=True)
        for unit in facts:
            skipped.count += unit.skipped
            skipped.first.extend(unit.skipped_lines[: MOST_REPORTS - len(skipped.first)])
        documents = sum(unit.documents for unit in facts)
        if documents < (self.plan.shards or 1):
            # Too little to be worth keeping.
            self._forget(units)
            if documents:
                # infini-gram's engine ends its process at an empty shard.
                raise CorpusError(f"{documents} documents can't fill {self.plan.shards} shards: use fewer --shards")
            reason = f" ({skipped.first[0]})" if skipped.first else ""
            raise CorpusError(f"no documents in {_named(units)}{reason}")
        if lacking := self._lacking(facts):
            self._forget(units)
            raise CorpusError(
                f"--domain-sql names {lacking[0]}, which no document has: correct it, or, for a field that may be "
                f"missing, write metadata ->> '$.{lacking[0]}'"
            )
        shards = shards_for(self.plan, folders, documents)
        for leftover in self.index.iterdir():
            leftover.unlink()
        with self.timed("deal into shards"):
            rows = DocumentRows(self.index, self.base.domains if self.base else ())
            try:
                copy_rows(rows)
                tokens = deal(folders, self.index, range(self.first_shard, self.first_shard + shards), rows)
                rows.close()
            except BaseException:
                rows.abandon()
                raise
            text_bytes = sum(unit.text_bytes for unit in facts)
            dealt = Dealt(tokens, documents, list(rows.domain_facts()), skipped.count, skipped.first, text_bytes)
            dealt.write(record, rows.domain_codes())
        return dealt

    def _lacking(self, facts: Sequence[UnitFacts]) -> list[str]:
        """Fields that the expression for the domain names and no document has; those that are added may lack them."""
        # An earlier version did not look for fields.
        if self.base or any(unit.fields is None for unit in facts):
            return []
        return lacking_fields(self.plan.options, {name for unit in facts for name in unit.fields or ()})

    def _sort(self, dealt: Dealt, record: Path, sorted_as: str) -> None:
        shards = len(dealt.tokens)
        domains, width = len(dealt.domains), self.plan.token_width
        jobs = []
        for shard, tokens in enumerate(dealt.tokens):
            mark = self._mark(shard, sorted_as)
            if mark.is_file():
                self.taken_over += 1
                continue
            labels = labels_of(record, shard, shards)
            memory = sorting_memory(tokens, len(labels) // 2, width)
            jobs.append(
                SortJob(
                    self.index,
                    self.first_shard + shard,
                    width,
                    labels,
                    domains,
                    domain_block(domains),
                    self.plan.key_stride,
                    mark,
                    memory,
                )
            )
        total = sum(dealt.tokens)
        numbers = {job.shard - self.first_shard for job in jobs}
        done = sum(tokens for shard, tokens in enumerate(dealt.tokens) if shard not in numbers)
        self.progress("sort", done, total)

        def told(shard: Sorted) -> None:
            nonlocal done
            done += shard.tokens
            self.progress("sort", done, total)
            self._add("suffix sorting", shard.sort_seconds)
            self._add("table and domain column", shard.write_seconds)
            self._add("checksums", shard.checksum_seconds)
            self.sorting_peak_memory = max(self.sorting_peak_memory, shard.peak_memory)

        if jobs:
            with self.timed("sort and write table"):
                self._engine().sort(jobs, told)

    def _mark(self, shard: int, sorted_as: str) -> Path:
        return self.units / f"sorted-{self.first_shard + shard}-{sorted_as}.json"

    def _done(self, dealt: Dealt, sorted_as: str) -> Done:
        files: dict[str, Checked] = {}
        for shard in range(len(dealt.tokens)):
            files |= read_record(self._mark(shard, sorted_as))[0]
        skipped = BadDocuments(skip=True, count=dealt.skipped, first=list(dealt.skipped_lines))
        return Done(dealt, files, skipped, self.seconds, self.sorting_peak_memory, self.taken_over)


def _named(units: Sequence[TokenUnit]) -> str:
    names = [str(file.file) for unit in units for file in unit.files]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more files" if len(names) > 3 else "")
