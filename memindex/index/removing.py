"""Take-downs: documents leave an index, and every answer and count with them.

The shards that hold them are sorted anew without them, so that the files are those of an index that never had them; the
others stay. Numbers of later documents in those shards, and their positions, become smaller.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from memindex import _core
from memindex.errors import MemindexError
from memindex.index.checksums import Checked, read_record
from memindex.index.choosing import Chosen, choose_documents
from memindex.index.document_table import DocumentRows, domain_block
from memindex.index.manifest import DOCUMENTS_FILE, Manifest
from memindex.index.names import index_directory
from memindex.index.pipeline import Progress
from memindex.index.revising import common_names, revise, shard_names
from memindex.index.sharding import concurrent_sorters, default_budget, processors, sorting_memory
from memindex.index.sorting import Sorted, SortJob
from memindex.index.units import identity_of
from memindex.work.folders import INDEX, UNITS


@dataclass
class RemoveReport:
    """What a take-down did: the new manifest, documents and tokens that left, shards sorted anew, and the seconds."""

    manifest: Manifest
    documents: int
    tokens: int
    sorted_shards: int
    seconds: float


def remove_documents(
    index: str | Path,
    *,
    documents: Sequence[tuple[int, int]] = (),
    paths: str | Sequence[str] = (),
    where: str | None = None,
    memory: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> RemoveReport:
    """Take documents out of an index: out of every count, position, continuation, sample and table.

    Every shard that holds one of them is sorted anew, as a build does (6 bytes of memory a token; some 9M tokens a
    second). The new version takes the old one's place at once, when it is whole. Whoever has the index open keeps the
    old one until it is opened again.

    Args:
        index: Directory of an index that `build_index` made.
        documents: As for `choose_documents`.
        paths: The same.
        where: The same.
        memory: Bytes that all processes together may take; by default four fifths of the machine's.
        workers: Shards sorted at the same time; by default one per processor.
        progress: Told about every stage.

    Raises:
        MemindexError: Nothing is named, something names no document, no document would be left, or the index can't be
            changed.
    """
    directory, start = index_directory(index).resolve(), time.perf_counter()
    before = Manifest.read(directory)
    paths = [paths] if isinstance(paths, str) else paths
    # Numbers change with every removal, so a request is one about this version of the index.
    request = identity_of(["remove", sorted(documents), sorted(paths), where])
    made: list[int] = []

    def make(work: Path, manifest: Manifest) -> tuple[Manifest, dict[str, Checked], list[tuple[str, str]]]:
        chosen = choose_documents(directory, documents=documents, paths=paths, where=where)
        removal = _Removal(directory, work, manifest, chosen, identity_of([request, manifest.checksum]))
        removal.deal()
        made.append(removal.sort(memory or default_budget(), workers or processors(), progress))
        return removal.manifest(), removal.checked(), removal.kept()

    after = revise(directory, "remove", request, make)
    last = after.revisions[-1]
    if not made:
        return RemoveReport(after, last.documents, last.tokens, 0, time.perf_counter() - start)
    gone = before.documents - after.documents, before.tokens - after.tokens
    return RemoveReport(after, *gone, made[0], time.perf_counter() - start)


class _Removal:
    """One take-down under way."""

    def __init__(self, directory: Path, work: Path, before: Manifest, chosen: Chosen, identity: str) -> None:
        self.directory = directory
        self.units, self.index = work / UNITS, work / INDEX
        self.before = before
        self.chosen = chosen
        self.identity = identity
        self.gone = {shard: self._mask(shard, numbers) for shard, numbers in chosen.items()}
        left = [shard for shard in range(before.shards) if shard not in chosen or not self.gone[shard].all()]
        if not left:
            raise MemindexError(f"{directory}: no document would be left; remove the index itself instead")
        #: The number that each shard that is left gets: infini-gram's engine wants no empty one and no gap.
        self.now = {shard: number for number, shard in enumerate(left)}
        self.rows: DocumentRows | None = None
        self.labels: dict[int, bytes] = {}
        self._tidy()

    def _mask(self, shard: int, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        mask = np.zeros((self.directory / f"offset.{shard}").stat().st_size // 8, dtype=bool)
        mask[numbers] = True
        return mask

    def _tidy(self) -> None:
        marks = {self._mark(shard) for shard in self.chosen}
        found = list(self.units.iterdir())
        resumed = marks & set(found)
        for leftover in [*(f for f in found if f not in marks), *(() if resumed else self.index.iterdir())]:
            leftover.unlink()

    def _mark(self, shard: int) -> Path:
        return self.units / f"sorted-{shard}-{self.identity}.json"

    def _rebuilt(self) -> list[int]:
        return [shard for shard in self.chosen if shard in self.now]

    def deal(self) -> None:
        """Write tokens, metadata and document rows without the documents that leave."""
        for shard in self._rebuilt():
            targets = np.where(self.gone[shard], -1, 0).astype(np.int32)
            for data, offsets in (("tokenized", "offset"), ("metadata", "metaoff")):
                number = self.now[shard]
                dealer = _core.RecordDealer([(self.index / f"{data}.{number}", self.index / f"{offsets}.{number}")])
                dealer.deal(self.directory / f"{data}.{shard}", self.directory / f"{offsets}.{shard}", targets)
                dealer.close()
        self.rows = DocumentRows(self.index, [replace(d, documents=0, tokens=0) for d in self.before.domains])
        try:
            labelled = self._write_rows(self.rows)
            self.rows.close()
        except BaseException:
            self.rows.abandon()
            raise
        codes = self.rows.domain_codes()
        for shard in self._rebuilt():
            self.labels[shard] = codes[labelled == self.now[shard]].tobytes()

    def _write_rows(self, rows: DocumentRows) -> npt.NDArray[np.int32]:
        """Write the rows that are left; returns the shard of each."""
        shift = {shard: self._shifts(shard) for shard in self._rebuilt()}
        now = np.array([self.now.get(shard, -1) for shard in range(self.before.shards)], dtype=np.int32)
        shards = [np.empty(0, dtype=np.int32)]
        with pq.ParquetFile(self.directory / DOCUMENTS_FILE) as file:
            for batch in file.iter_batches():
                shard, number, first, lengths = (
                    batch.column(name).to_numpy().copy() for name in ("shard", "document", "first_token", "tokens")
                )
                keep = np.ones(len(batch), dtype=bool)
                for one in self.chosen:
                    here = np.flatnonzero(shard == one)
                    keep[here] = ~self.gone[one][number[here]]
                    if one in shift:
                        documents, tokens = shift[one]
                        first[here] -= tokens[number[here]]
                        number[here] -= documents[number[here]]
                if keep.any():
                    left = batch.filter(keep)
                    shards.append(now[shard[keep]])
                    rows.append_rows(left, shards[-1], number[keep], first[keep], lengths[keep])
        return np.concatenate(shards)

    def _shifts(self, shard: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Documents, and tokens with separators, that leave before each document of a shard."""
        width, gone = self.before.token_width, self.gone[shard]
        starts = np.fromfile(self.directory / f"offset.{shard}", dtype="<u8").astype(np.int64) // width
        end = (self.directory / f"tokenized.{shard}").stat().st_size // width
        sizes = np.where(gone, np.diff(starts, append=end), 0)
        return np.cumsum(gone) - gone, np.cumsum(sizes) - sizes

    def sort(self, memory: int, workers: int, progress: Progress | None) -> int:
        """Sort the shards that lost documents; returns how many."""
        from memindex.index.engines import sort_here

        domains, width = len(self.before.domains), self.before.token_width
        jobs = []
        for shard in self._rebuilt():
            if self._mark(shard).is_file():
                continue
            number, labels = self.now[shard], self.labels[shard]
            tokens = self._tokenized(number)
            need = sorting_memory(tokens, len(labels) // 2, width)
            jobs.append(
                SortJob(
                    self.index, number, width, labels, domains, domain_block(domains), self._stride(shard),
                    self._mark(shard), need,
                )
            )  # fmt: skip
        if jobs:
            told = progress or (lambda *_: None)
            total = sum(self._tokenized(job.shard) for job in jobs)
            done = 0

            def count(shard: Sorted) -> None:
                nonlocal done
                done += shard.tokens
                told("sort", done, total)

            told("sort", 0, total)
            sort_here(jobs, concurrent_sorters(jobs, memory, workers), count)
        return len(self._rebuilt())

    def _tokenized(self, number: int) -> int:
        """Tokens of a shard that is to be sorted."""
        return (self.index / f"tokenized.{number}").stat().st_size // self.before.token_width

    def _stride(self, shard: int) -> int:
        """Suffixes per key of a shard, as its key table says."""
        with (self.directory / f"keys.{shard}").open("rb") as stream:
            return int.from_bytes(stream.read(12)[8:], "little")

    def checked(self) -> dict[str, Checked]:
        """Facts of the files of the shards that were sorted anew."""
        files: dict[str, Checked] = {}
        for shard in self._rebuilt():
            files |= read_record(self._mark(shard))[0]
        return files

    def kept(self) -> list[tuple[str, str]]:
        """The files that stay, by the names they get and the ones they had."""
        kept = [(name, name) for name in common_names(self.before)]
        for shard, number in self.now.items():
            if shard not in self.chosen:
                names = shard_names(self.before, shard)
                kept += [(f"{name.rpartition('.')[0]}.{number}", name) for name in names]
        return kept

    def manifest(self) -> Manifest:
        """The manifest of what is left; domains without documents stay, for their codes stand in other shards."""
        assert self.rows is not None
        domains = self.rows.domain_facts()
        anew = (len(domains), domain_block(len(domains)))
        columns = tuple(anew if shard in self.chosen else self.before.domains_of_shard(shard) for shard in self.now)
        return replace(
            self.before,
            documents=self.rows.rows,
            tokens=sum(domain.tokens for domain in domains),
            shards=len(self.now),
            domains=domains,
            domain_block=anew[1],
            shard_domains=columns,
        )
