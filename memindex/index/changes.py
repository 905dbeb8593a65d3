"""Corpus files that changed while an index was built of them: it holds what was read, and that is said."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from memindex.corpus.documents import SourceFile
from memindex.corpus.remote import ASKED_AT_ONCE, RemoteFile
from memindex.index.manifest import DOCUMENTS_FILE
from memindex.index.source_record import Facts, GivenFile, facts_of


@dataclass(frozen=True)
class ChangedFile:
    """A corpus file that was not the same at the end of a build as at its start.

    Attributes:
        file: Where it is.
        bytes_before: Its size at the start, with its parts.
        bytes_after: Its size at the end; None: it is gone.
        changed_before: Time of its last change as it was at the start (ISO 8601, UTC); empty where a server gives none.
        changed_after: The same at the end.
        documents: Documents of it that the index holds: those that were read.
    """

    file: str
    bytes_before: int
    bytes_after: int | None
    changed_before: str
    changed_after: str
    documents: int = 0

    def __str__(self) -> str:
        before = f"{self.bytes_before:,} bytes{_at(self.changed_before)} at the start"
        if self.bytes_after is None:
            change, after = "was removed", ""
        else:
            grown = self.bytes_after - self.bytes_before
            change = "grew" if grown > 0 else "shrank" if grown < 0 else "was written again"
            after = f", {self.bytes_after:,} bytes{_at(self.changed_after)} at the end"
        return (
            f"{self.file}: {change} while it was indexed ({before}{after}); the index has {self.documents:,} documents "
            "of it, as it was read: to index it as it is now, index it again"
        )


def _at(time: str) -> str:
    return f" ({time})" if time else ""


def changed_files(files: Sequence[SourceFile], given: Sequence[GivenFile], index: Path) -> list[ChangedFile]:
    """The files that are not what they were at the start.

    Args:
        files: All files that were read.
        given: What they were at the start.
        index: Folder of the index, which has its documents.parquet.
    """
    changed: dict[str, ChangedFile] = {}
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        remote = [file for file in files if isinstance(file.file, RemoteFile)]
        now = dict(zip((id(file) for file in remote), pool.map(_remote_facts, remote), strict=True))
    for file, before in zip(files, given, strict=True):
        after = now[id(file)] if id(file) in now else _local_facts(file)
        if after != before.facts:
            changed[file.name] = _changed(before, after)
    counts = _documents(index, list(changed)) if changed else {}
    return [replace(file, documents=counts.get(name, 0)) for name, file in changed.items()]


def _local_facts(file: SourceFile) -> Facts | None:
    try:
        return facts_of(file)
    except OSError:
        return None


def _remote_facts(file: SourceFile) -> Facts | None:
    """Those a server gives now; where it gives none, those from before: a build does not fail at its end for it."""
    now = [part.now() if isinstance(part, RemoteFile) else None for part in (file.file, *file.parts)]
    before = facts_of(file)
    return tuple(old if new is None else (new.st_size, new.st_mtime_ns) for old, new in zip(before, now, strict=True))


def _changed(before: GivenFile, after: Facts | None) -> ChangedFile:
    size = None if after is None else sum(size for size, _ in after)
    return ChangedFile(before.shown, before.bytes, size, _time(before.facts), _time(after or ()))


def _time(facts: Facts) -> str:
    """The last change of all parts; of a tag of the content, no time can be told."""
    latest = max((changed for _, changed in facts), default=0)
    if not 0 < latest < 1 << 62:
        return ""
    return datetime.fromtimestamp(latest / 1e9, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _documents(index: Path, names: Sequence[str]) -> dict[str, int]:
    """Documents of some files in an index."""
    counts: dict[str, int] = {}
    with pq.ParquetFile(index / DOCUMENTS_FILE) as file:
        for batch in file.iter_batches(columns=["path"]):
            for found in pc.value_counts(batch.column(0)).to_pylist():
                counts[found["values"]] = counts.get(found["values"], 0) + found["counts"]
    return {name: counts[name] for name in names if name in counts}
