"""Another version of a finished index: documents added as new shards, or taken out of the shards they are in.

The new version is put together in a folder beside the index, out of new files and hard links to those that stay, and
takes the index's place in one step. Whoever has the old one open keeps reading its files; what it opens only later it
refuses to read from the new one.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from memindex import _core
from memindex.errors import CorruptIndexError, MemindexError
from memindex.index.checksums import Checked, recorded_blocks, write_checksums
from memindex.index.manifest import (
    CHECKSUMS_FILE,
    DOCUMENTS_FILE,
    FILE,
    SKIPPED_FILE,
    SOURCES_FILE,
    TOKENIZER_FILE,
    Manifest,
    Revision,
)
from memindex.work.folders import BEFORE, INDEX, partial_of, work_folder

#: Makes the new version in a work folder, of the old one's manifest; gives the manifest without files and revision, the
#: checksums of the new files, and the files that stay: (name now, name before).
Revise = Callable[[Path, Manifest], tuple[Manifest, dict[str, Checked], list[tuple[str, str]]]]


def revise(directory: Path, kind: str, request: str, make: Revise) -> Manifest:
    """Put another version of the index in its place.

    Args:
        directory: The index.
        kind: `add` or `remove`.
        request: Hash of what was asked for; what was done, and then killed before it could say so, is not done again.
        make: Makes the new version, or refuses to.

    Returns:
        The manifest of the new version.

    Raises:
        MemindexError: The index can't be revised, or another process does so.
        CorruptIndexError: A file of the index has not the size it should have.
    """
    directory = directory.resolve()
    _check_revisable(directory)
    with work_folder(directory, f"index {kind}", free=False) as work:
        before = Manifest.read(directory)
        if _was_cut_short(work, before, request):
            return before
        after, checked, kept = make(work, before)
        folder = work / INDEX
        _keep(directory, folder, before, kept)
        recorded = recorded_blocks(directory, before)
        known = {name: recorded[old] for name, old in kept} | checked
        listed = [file for file in folder.iterdir() if file.name not in {FILE, CHECKSUMS_FILE}]
        files = write_checksums(folder, listed, known=known)
        change = (abs(after.documents - before.documents), abs(after.tokens - before.tokens))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        revision = Revision(kind, request, before.checksum, *change, now)
        replace(after, files=files, revisions=(*before.revisions, revision)).write(folder)
        _take_place(folder, directory)
        return Manifest.read(directory)


def _check_revisable(directory: Path) -> None:
    manifest = Manifest.read(directory)
    needed = {DOCUMENTS_FILE, CHECKSUMS_FILE, "metadata.0", "metaoff.0", "keys.0", "domain.0"}
    if manifest.data or not manifest.checksum or not needed <= set(manifest.files):
        raise MemindexError(f"{directory}: only an index that memindex built, with all its files, can be changed")


def _was_cut_short(work: Path, manifest: Manifest, request: str) -> bool:
    """Whether the last revision took its place, and was then killed before it could say so."""
    last = manifest.revisions[-1] if manifest.revisions else None
    if last is None or last.request != request:
        return False
    with suppress(MemindexError, OSError):
        return Manifest.read(work / INDEX).checksum == last.revised
    return False


def shard_names(manifest: Manifest, shard: int) -> list[str]:
    """The files of a shard."""
    return [name for name in manifest.files if name.rpartition(".")[2] == str(shard)]


def common_names(manifest: Manifest) -> list[str]:
    """The files that stay as they are whatever happens to shards and documents."""
    return [name for name in manifest.files if name in {TOKENIZER_FILE, SKIPPED_FILE, SOURCES_FILE}]


def _keep(directory: Path, folder: Path, manifest: Manifest, kept: Iterable[tuple[str, str]]) -> None:
    """Have the files that stay in the new version too: linked, or copied where there are no links."""
    for name, before in kept:
        source, target = directory / before, folder / name
        if source.stat().st_size != manifest.files[before].bytes:
            raise CorruptIndexError(
                f"{source}: {source.stat().st_size} bytes, {FILE} says {manifest.files[before].bytes}"
            )
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS}:
                raise
            shutil.copyfile(source, target)


def _take_place(folder: Path, directory: Path) -> None:
    """Exchange the two folders; where the system can't, the index is gone for the moment between two renames."""
    shutil.copymode(directory, folder)
    try:
        _core.exchange(folder, directory)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
            raise
        aside = partial_of(directory) / BEFORE
        directory.rename(aside)
        folder.rename(directory)
        aside.rename(folder)
