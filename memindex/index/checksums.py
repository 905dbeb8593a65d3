"""Checksums of an index's files: BLAKE3 of each whole, in index.json, and of its 64 KiB blocks, in checksums.bin.

The blocks' checksums are the nodes of BLAKE3's tree, 32 bytes each, file after file in the order of index.json. A file
of one block has none: its own checksum says all. Both come from one reading of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from memindex import _core
from memindex.errors import CorruptIndexError
from memindex.index.manifest import CHECKSUMS_FILE, FILE, FileFacts, Manifest, write_atomically

SIZE = 32


def write_checksums(
    directory: Path, listed: Iterable[Path], progress: Callable[[int, int], None] | None = None
) -> dict[str, FileFacts]:
    """Write checksums.bin for these files, and give the facts of all of them and of itself, for the manifest.

    `progress` is told how many files are done, of how many.
    """
    files, blocks = {}, []
    in_order = sorted(listed, key=lambda file: file.name)
    for done, file in enumerate(in_order, start=1):
        whole, parts = _core.block_checksums(file)
        files[file.name] = FileFacts(file.stat().st_size, whole)
        blocks.append(parts)
        if progress:
            progress(done, len(in_order))
    content = b"".join(blocks)
    write_atomically(directory / CHECKSUMS_FILE, content)
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
