"""Checksums of an index's files: BLAKE3 of each whole, in index.json, and of its 64 KiB blocks, in checksums.bin.

The blocks' checksums are the nodes of BLAKE3's tree, 32 bytes each, file after file in the order of index.json. A file
of one block has none: its own checksum says all. Both come from one reading of the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from memindex import _core
from memindex.errors import CorruptIndexError
from memindex.index.manifest import CHECKSUMS_FILE, FILE, FileFacts, Manifest, write_atomically

SIZE = 32


#: Facts of a file, and the checksums of its blocks one after the other.
Checked = tuple[FileFacts, bytes]


def checksums_of(files: Iterable[Path]) -> dict[str, Checked]:
    """Facts and blocks of files, by their names."""
    found = {}
    for file in files:
        whole, parts = _core.block_checksums(file)
        found[file.name] = FileFacts(file.stat().st_size, whole), parts
    return found


def write_record(record: Path, files: dict[str, Checked], more: dict[str, Any]) -> None:
    """Write what is known of files, and `more`, atomically as JSON."""
    listed = {name: [facts.bytes, facts.blake3, blocks.hex()] for name, (facts, blocks) in files.items()}
    write_atomically(record, json.dumps(more | {"files": listed}).encode())


def read_record(record: Path) -> tuple[dict[str, Checked], dict[str, Any]]:
    """What `write_record` wrote."""
    more: dict[str, Any] = json.loads(record.read_bytes())
    listed = more.pop("files")
    return {
        name: (FileFacts(size, whole), bytes.fromhex(blocks)) for name, (size, whole, blocks) in listed.items()
    }, more


def recorded_blocks(directory: Path, manifest: Manifest) -> dict[str, Checked]:
    """Facts and blocks of all files of an index but checksums.bin, as they were written; without reading the files."""
    names = [name for name in manifest.files if name != CHECKSUMS_FILE]
    return {name: (manifest.files[name], _recorded(directory, name, manifest.files)) for name in names}


def write_checksums(
    directory: Path,
    listed: Iterable[Path],
    progress: Callable[[int, int], None] | None = None,
    known: dict[str, Checked] | None = None,
) -> dict[str, FileFacts]:
    """Write checksums.bin for these files, and give the facts of all of them and of itself, for the manifest.

    `progress` is told how many files are done, of how many; the files in `known` are not read.
    """
    checked = {}
    in_order = sorted(listed, key=lambda file: file.name)
    for done, file in enumerate(in_order, start=1):
        name = file.name
        checked[name] = known[name] if known and name in known else checksums_of([file])[name]
        if progress:
            progress(done, len(in_order))
    content = b"".join(blocks for _, blocks in checked.values())
    write_atomically(directory / CHECKSUMS_FILE, content)
    files = {name: facts for name, (facts, _) in checked.items()}
    files[CHECKSUMS_FILE] = FileFacts(len(content), _core.checksum_bytes(content))
    return files


def damaged_bytes(directory: Path, name: str, manifest: Manifest) -> str | None:
    """Where a file is not what the manifest says, in words; None when it is undamaged.

    The checksums of blocks are taken from checksums.bin, which must be undamaged itself.
    """
    files, facts = manifest.files, manifest.files[name]
    whole, parts = _core.block_checksums(manifest.file(directory, name))
    if whole == facts.blake3:
        return None
    recorded = b"" if name == CHECKSUMS_FILE else _recorded(directory, name, files)
    if len(recorded) != len(parts) or not recorded:
        return f"bytes 0 to {facts.bytes - 1}: the content changed"
    wrong = [i for i in range(0, len(parts), SIZE) if parts[i : i + SIZE] != recorded[i : i + SIZE]]
    if not wrong:
        return f"every block is as built, but {FILE} tells another checksum"
    start = wrong[0] // SIZE * _core.BLOCK
    more = f" (and in {len(wrong) - 1:,} more blocks)" if len(wrong) > 1 else ""
    return f"bytes {start} to {min(start + _core.BLOCK, facts.bytes) - 1}: the content changed{more}"


def _recorded(directory: Path, name: str, files: dict[str, FileFacts]) -> bytes:
    """The checksums of one file's blocks, or nothing when the index has none."""
    if CHECKSUMS_FILE not in files:
        return b""
    start = sum(_blocks(facts.bytes) for other, facts in files.items() if other < name and other != CHECKSUMS_FILE)
    with (directory / CHECKSUMS_FILE).open("rb") as stream:
        stream.seek(start * SIZE)
        return stream.read(_blocks(files[name].bytes) * SIZE)


def _blocks(size: int) -> int:
    return 0 if size <= _core.BLOCK else -(-size // _core.BLOCK)


def check_checksums_file(files: dict[str, FileFacts], directory: Path) -> None:
    """Fail when checksums.bin can't be that of these files."""
    if CHECKSUMS_FILE in files:
        expected = SIZE * sum(_blocks(facts.bytes) for name, facts in files.items() if name != CHECKSUMS_FILE)
        if files[CHECKSUMS_FILE].bytes != expected:
            raise CorruptIndexError(
                f"{directory / CHECKSUMS_FILE}: {files[CHECKSUMS_FILE].bytes} bytes, its files need {expected}"
            )
