"""What is checked when an index is opened: little enough for a single lookup, enough for files that were mixed up."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from memindex import _core
from memindex.errors import CorruptIndexError, MemindexError
from memindex.index.manifest import FILE, INFINI_GRAM_FILES, Manifest
from memindex.index.names import identity_of

Read = TypeVar("Read")

#: While another version takes an index's place, it is opened anew: at least so often, and for so many seconds.
OPENINGS, PATIENCE = 20, 5.0

#: Seconds between two openings of an index that is gone for a moment.
PAUSE = 0.01


def read_at_rest(directory: Path, read: Callable[[Path], Read]) -> tuple[tuple[int, ...] | None, Read]:
    """The folder's identity and what `read` makes of its files, all of them of one version of the index.

    A revision takes the place of the whole folder at once; what was read on both sides of that is read anew.
    """
    end, opened = time.monotonic() + PATIENCE, 0
    while opened < OPENINGS or time.monotonic() < end:
        opened += 1
        folder = identity_of(directory)
        try:
            found = read(directory)
        except (MemindexError, OSError):
            if folder == identity_of(directory) and not (folder is None and _is_being_replaced(directory)):
                raise
            time.sleep(0 if folder else PAUSE)
            continue
        if folder == identity_of(directory):
            return folder, found
    raise MemindexError(f"{directory} is being replaced over and over: open it again when that is done")


def _is_being_replaced(directory: Path) -> bool:
    """Whether the index is gone for the moment between two renames, where folders can't be exchanged at once."""
    from memindex.work.folders import BEFORE, partial_of

    return (partial_of(directory) / BEFORE).is_dir()


def check_files(directory: Path, manifest: Manifest) -> None:
    """Every file of the manifest must be there, a regular one, and have its size."""
    data = manifest.folder_of_data(directory)
    for name, facts in manifest.files.items():
        file = f"{data if name.partition('.')[0] in INFINI_GRAM_FILES else directory}/{name}"
        try:
            found = os.stat(file)  # noqa: PTH116 (pathlib's takes twice as long)
        except FileNotFoundError:
            where = f'; "data" in {directory / FILE} says where' if Path(file).parent != directory else ""
            raise CorruptIndexError(f"{file}: missing{where}") from None
        if not stat.S_ISREG(found.st_mode):
            raise CorruptIndexError(f"{file}: not a regular file")
        if found.st_size != facts.bytes:
            raise CorruptIndexError(f"{file}: {found.st_size} bytes, {FILE} says {facts.bytes}")


def check_shards(directory: Path, manifest: Manifest, shards: list[_core.Shard]) -> None:
    """The shards' numbers must be those of the manifest, and the files of each must belong together."""
    for shard in shards:
        shard.probe()
    if sum(len(shard) for shard in shards) != manifest.tokens + manifest.documents:
        raise CorruptIndexError(f"{directory / FILE}: the shards hold another number of tokens than it says")
    if not manifest.domains:
        return
    totals = map(sum, zip(*(shard.domain_totals() for shard in shards), strict=True))
    for domain, total in zip(manifest.domains, totals, strict=True):
        # A separator belongs to the domain of its document.
        if total != domain.tokens + domain.documents:
            raise CorruptIndexError(
                f"{directory / 'domainsum'}.*: {total} tokens and separators of domain {domain.name!r}, "
                f"{FILE} says {domain.tokens + domain.documents}"
            )
