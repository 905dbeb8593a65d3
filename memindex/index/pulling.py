"""`memindex index pull`: the files of an infini-gram index (v4) from S3, without an account.

What is pulled lies in a hidden folder beside the target until all of it is there. Each file grows there, from its
start on, under a name that ends in .part, and gets its own name once it has the size that the listing tells: a pull
that was stopped at any moment goes on where it was. A record of the listing lies beside them: what changed on the
server since then (its ETag, or its size) is pulled anew, and every request is for the very ETag that was listed. At
the end the folder becomes the target, of which `adopt_index` makes an index.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from memindex.errors import MemindexError
from memindex.index.manifest import FILE, INFINI_GRAM_FILES, write_atomically
from memindex.index.published import Address
from memindex.index.remote import Listed, Remote, open_remote
from memindex.progress import Progress
from memindex.work.folders import check_free, new_folder
from memindex.work.locks import NOTE, FolderLock

#: The listing that the files of a pull belong to.
RECORD = ".pull.json"

#: Bytes of one request, and requests under way at a time.
CHUNK, REQUESTS = 8 << 20, 8

#: What `adopt_index` writes at most for each byte of tokens (keys, domains and their sums) and of metadata (the
#: documents' table).
SIDECARS, TABLE = 1.7, 0.7

_NAME = re.compile(rf"(?:{'|'.join(INFINI_GRAM_FILES)})\.(?:0|[1-9]\d*)")

#: Any size is right for a file that no listing tells of.
_ANY = Listed("", 1 << 62, None)


class Pulled(NamedTuple):
    """What a pull did.

    Attributes:
        folder: Where the files are.
        files: How many there are.
        bytes: Their size.
        transferred: Bytes that this call transferred: less when it went on with what an earlier one had left.
        seconds: How long it took.
    """

    folder: Path
    files: int
    bytes: int
    transferred: int
    seconds: float


def pull_files(
    address: Address, out: str | Path, *, endpoint: str | None = None, progress: Progress | None = None
) -> Pulled:
    """Transfer the files of an index into a new folder, or go on with what an earlier call left.

    Args:
        address: Where the files are.
        out: The folder. What is there already may only be the same files, of which no index was made yet.
        endpoint: A server that speaks S3, as https://host:9000; by default Amazon's.
        progress: Told about every request, in MB.

    Raises:
        MemindexError: No index there, no access, no connection, a changed file, too small a disk, or something in the
            way. What was transferred is kept, and the next call goes on with it.
        MissingExtraError: The package obstore is not installed.
    """
    target = new_folder(out)
    is_there = _is_pulled(target)
    if not is_there:
        check_free(target)
    remote = open_remote(address, endpoint)
    listing = _listing(remote)
    start = time.perf_counter()
    if is_there:
        _check_sizes(target, listing)
        transferred = 0
    else:
        transferred = _pull(remote, listing, target, progress or (lambda *_: None))
    size = sum(file.size for file in listing.values())
    return Pulled(target, len(listing), size, transferred, time.perf_counter() - start)


def _is_pulled(target: Path) -> bool:
    """Whether a folder holds files that were pulled, and that are no index yet."""
    return (target / RECORD).is_file() and not (target / FILE).exists()


def finish(folder: Path) -> None:
    """Forget that the files of an index were pulled."""
    (folder / RECORD).unlink(missing_ok=True)


def _listing(remote: Remote) -> dict[str, Listed]:
    """The infini-gram files at an address, by name."""
    listed = {name: file for name, file in remote.list().items() if _NAME.fullmatch(name)}
    if not listed:
        raise MemindexError(f"{remote.url}: no infini-gram files (tokenized.0, table.0, offset.0) there")
    return dict(sorted(listed.items()))


def _check_sizes(folder: Path, listing: dict[str, Listed]) -> None:
    for name, file in listing.items():
        there = folder / name
        size = there.stat().st_size if there.is_file() else None
        if size != file.size:
            what = "missing" if size is None else f"{size} bytes"
            raise MemindexError(f"{there}: {what}, but {file.size} bytes are listed: remove {folder} and pull it anew")


def _pull(remote: Remote, listing: dict[str, Listed], target: Path, progress: Progress) -> int:
    """Transfer what is missing, and give the folder its name; returns the bytes transferred."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.pulling")
    lock = FolderLock(partial, target, "index pull")
    try:
        # Another pull may have finished between the first look and the lock.
        check_free(target)
        _forget_changed(remote, listing, partial)
        total = sum(file.size for file in listing.values())
        before = done = sum(_size(partial, name) for name in listing)
        _check_room(partial, listing, total - done)
        with _workers() as pool:
            for name, file in listing.items():
                for size in _transfer(pool, remote, file, partial / name):
                    done += size
                    progress("download (MB)", done // 1_000_000, total // 1_000_000)
        _check_sizes(partial, listing)
        lock.withdraw_note()
        partial.rename(target)
    finally:
        lock.release()
    return total - before


def _forget_changed(remote: Remote, listing: dict[str, Listed], partial: Path) -> None:
    """Remove what does not belong to the files as they are listed now, and record those."""
    record = partial / RECORD
    try:
        before = json.loads(record.read_bytes())
    except (FileNotFoundError, ValueError):
        before = {}
    now = {name: [remote.url, file.size, file.etag] for name, file in listing.items()}
    same = {name for name in now if before.get(name) == now[name]}
    keep = {RECORD, NOTE, *same, *(f"{name}.part" for name in same)}
    for left in partial.iterdir():
        if left.name not in keep or left.stat().st_size > listing.get(left.name.removesuffix(".part"), _ANY).size:
            if left.name.removesuffix(".part") in now:
                warnings.warn(f"{left.name} is not what {remote.url} lists now: pulling it anew", stacklevel=2)
            left.unlink()
    write_atomically(record, json.dumps(now, indent=1).encode())


def _size(partial: Path, name: str) -> int:
    """Bytes of a file that are there already."""
    return next((f.stat().st_size for f in (partial / name, partial / f"{name}.part") if f.is_file()), 0)


def _check_room(partial: Path, listing: dict[str, Listed], missing: int) -> None:
    of_kind = {
        kind: sum(file.size for name, file in listing.items() if name.startswith(f"{kind}."))
        for kind in ("tokenized", "metadata")
    }
    needed = missing + int(SIDECARS * of_kind["tokenized"] + TABLE * of_kind["metadata"])
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise MemindexError(
            f"{partial.parent}: {free / 1e9:.1f} GB free, but the files and what is made of them take "
            f"{needed / 1e9:.1f} GB more: free some, or choose another --out"
        )


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests; those under way are not waited for when something went wrong."""
    pool = ThreadPoolExecutor(REQUESTS, thread_name_prefix="pull")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _transfer(pool: ThreadPoolExecutor, remote: Remote, file: Listed, target: Path) -> Iterator[int]:
    """Append what is missing of a file, several requests ahead, and give it its name; yields the bytes of each."""
    if target.is_file():
        return
    part = target.with_name(f"{target.name}.part")
    with part.open("ab") as stream:
        starts = iter(range(stream.tell(), file.size, CHUNK))
        under_way: deque[Future[Any]] = deque()
        while True:
            for start in starts:
                under_way.append(pool.submit(remote.read, file, start, min(start + CHUNK, file.size)))
                if len(under_way) == REQUESTS:
                    break
            if not under_way:
                break
            done = stream.write(under_way.popleft().result())
            # What is still in a buffer would be lost to a kill.
            stream.flush()
            yield done
        os.fsync(stream.fileno())
    if part.stat().st_size != file.size:
        part.unlink()
        raise MemindexError(
            f"{part}: not as long as the {file.size} bytes listed: the same command again pulls it anew"
        )
    part.rename(target)
