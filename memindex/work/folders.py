"""Folders that are there whole or not at all: everything is written into a hidden one, which is locked meanwhile.

A build keeps the units of work that it finished there when it is stopped, and the next one goes on with them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memindex.errors import MemindexError
from memindex.work.locks import NOTE, FolderLock

#: The hidden folder that `partial_inside` writes into.
INSIDE = ".memindex.partial"

#: Folders in the hidden one of a build: finished units of work, and the index that is put together.
UNITS, INDEX = "units", "index"

#: The old version of an index, for the moment in which the new one takes its place where folders can't be exchanged.
BEFORE = "before"


def new_folder(out: str | Path) -> Path:
    """The absolute path of a folder that is to be made; MemindexError where none can be."""
    if "://" in str(out):
        raise MemindexError(f"{out}: indexes are made on the disk: give a folder as --out, and copy it afterwards")
    target = Path(out).absolute()
    if not target.name:
        raise MemindexError(f"{target} exists already: choose another --out")
    try:
        str(target).encode()
    except UnicodeEncodeError:
        raise MemindexError(f"{os.fsencode(target)!r}: the name is not UTF-8: choose another --out") from None
    return target


def check_free(target: Path) -> None:
    """Raise MemindexError when something stands where a new folder is to be."""
    if target.exists() or target.is_symlink():
        raise MemindexError(f"{target} exists already: choose another --out, or remove it first")


def partial_of(target: Path) -> Path:
    """The hidden folder that a build writes into, beside the target."""
    return target.with_name(f".{target.name}.partial")


def _locked_partial(target: Path, work: str) -> tuple[Path, FolderLock]:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(target)
    return partial, FolderLock(partial, target, work)


@contextmanager
def work_folder(target: Path, work: str, free: bool) -> Iterator[Path]:
    """The hidden folder of a build, with what an earlier one finished in `units`, and an empty or half-made `index`.

    It is gone at the end, unless the build failed and a unit is finished: then it is kept for the next.

    Args:
        target: Where the index is to be.
        work: The command that writes it, e.g. "index add": for those who want to write it, too.
        free: Whether nothing may stand there.

    Raises:
        MemindexError: Another process writes the index, or something stands at the target.
    """
    partial, lock = _locked_partial(target, work)
    try:
        if free and (target.exists() or target.is_symlink()):
            if not (partial / INDEX).exists() or not any(finished_units(partial)):
                # A build that was killed after its last step left nothing that is needed.
                shutil.rmtree(partial, ignore_errors=True)
            check_free(target)
        for leftover in partial.iterdir():
            if leftover.name not in {UNITS, INDEX, NOTE}:
                _remove(leftover)
        for name in (UNITS, INDEX):
            (partial / name).mkdir(exist_ok=True)
        try:
            yield partial
        except BaseException as error:
            if any(finished_units(partial)):
                _say_kept(error)
            else:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(partial, ignore_errors=True)
    finally:
        lock.release()


def _say_kept(error: BaseException) -> None:
    kept = "finished units are kept: run the same command again to resume"
    if isinstance(error, MemindexError):
        error.args = (f"{error}; {kept}",)
    elif isinstance(error, OSError):
        error.strerror = f"{error.strerror or error}; {kept}"
    else:
        error.add_note(kept)


def finished_units(partial: Path) -> Iterator[Path]:
    """What is finished of a build that is under way or was stopped."""
    folder = partial / UNITS
    return (unit for unit in (folder.iterdir() if folder.is_dir() else ()) if not unit.name.startswith("."))


@contextmanager
def partial_directory(target: Path, work: str) -> Iterator[Path]:
    """A folder beside the target that is gone at the end, unless it was renamed to the target.

    Args:
        target: Where the folder is to be.
        work: The command that writes it, e.g. "plant".

    Raises:
        MemindexError: Another process writes it, or something stands there.
    """
    partial, lock = _locked_partial(target, work)
    try:
        try:
            # Another process may have finished between the first look and the lock.
            check_free(target)
            _empty(partial)
            (partial / INDEX).mkdir()
            yield partial / INDEX
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        lock.release()


@contextmanager
def partial_inside(folder: Path, names: Iterable[str], last: str) -> Iterator[Path]:
    """A hidden folder in `folder` whose files move up into it at the end, `last` after all others.

    What stands there already under one of the `names` is somebody's file, and refused; unless a run that was stopped
    left its hidden folder behind: then it is that run's, and replaced.
    """
    partial = folder / INSIDE
    resumed = partial.is_dir()
    if not resumed:
        for name in names:
            if (folder / name).exists():
                raise MemindexError(f"{folder / name} is there already: put the new files elsewhere with --out")
    try:
        lock = FolderLock(partial, folder, "index open")
    except OSError as error:
        raise MemindexError(f"{folder}: {error.strerror or error}: put the new files elsewhere with --out") from None
    try:
        _empty(partial)
        (partial / INDEX).mkdir()
        yield partial / INDEX
        resumed = True
        for file in sorted((partial / INDEX).iterdir(), key=lambda file: file.name == last):
            file.replace(folder / file.name)
        shutil.rmtree(partial)
    except BaseException:
        with suppress(OSError):
            _empty(partial)
            lock.withdraw_note()
            if not resumed:
                partial.rmdir()
        raise
    finally:
        lock.release()


def _empty(folder: Path) -> None:
    """Remove all but the note of the lock."""
    for leftover in folder.iterdir():
        if leftover.name != NOTE:
            _remove(leftover)


def _remove(leftover: Path) -> None:
    if leftover.is_dir() and not leftover.is_symlink():
        shutil.rmtree(leftover)
    else:
        leftover.unlink()
