"""What stands at a source of a command line: a folder, a pattern, an address or a list of them, as names of files."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from memindex.corpus.documents import ReadOptions
from memindex.corpus.folders import Found, files_below, without_second_names
from memindex.corpus.remote import Location, fixed_part, is_address, list_remote, read_list
from memindex.errors import CorpusError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Listing:
    """What stands at a source: files with their names relative to a root, sorted; `alone` when it is one file."""

    source: str
    parts: tuple[str, ...]
    files: list[tuple[str, Location]]
    alone: bool


def list_source(source: str | Path, options: ReadOptions) -> Listing:
    """The files of one source; CorpusError (of an address: MemindexError) when there are none."""
    if isinstance(source, str) and source.startswith("@") and not Path(source).exists():
        root, addresses = read_list(source[1:])
        listed: list[tuple[str, Location]] = list(addresses)
        return Listing(source, _parts_of(root), _chosen(listed, options.include), alone=False)
    if isinstance(source, str) and source.startswith("file:///"):
        source = source.removeprefix("file://")
    if is_address(source):
        shown, remote, alone = list_remote(str(source))
        names: list[tuple[str, Location]] = list(remote)
        return Listing(shown, _parts_of(shown), _chosen(names, () if alone else options.include), alone)
    if not str(source):
        # Path("") is the folder one is in: an empty variable of a shell would index that.
        raise CorpusError("a source is empty: write . for the folder you are in")
    path_given = Path(source)
    # Not resolve: a linked source keeps the name that it was given by.
    absolute = Path(os.path.abspath(path_given))  # noqa: PTH100
    if path_given.is_dir():
        inside, _ = files_below(str(path_given))
        return Listing(str(source), absolute.parts, _local(str(path_given), inside, options), alone=False)
    if path_given.is_file():
        return Listing(str(source), absolute.parts, [(path_given.name, path_given)], alone=True)
    if glob.has_magic(str(source)):
        return _matching(str(source), options)
    raise CorpusError(f"{source}: no such file or folder")


def _parts_of(address: str) -> tuple[str, ...]:
    host, _, path = address.partition("://")[2].partition("/")
    return PurePosixPath("/", host, path).parts


def _matching(pattern: str, options: ReadOptions) -> Listing:
    root = fixed_part(pattern) or ("/" if pattern.startswith("/") else "")
    parts = [part for part in pattern[len(root) :].strip("/").split("/") if part] + [""] * pattern.endswith("/")
    found, folders = files_below(root, parts) if not root or Path(root).is_dir() else ([], False)
    if not found:
        hint = f": it matches folders only: for the files in them write {pattern.rstrip('/')}/**" if folders else ""
        raise CorpusError(f"{pattern}: no files match{hint}")
    return Listing(pattern, Path(os.path.abspath(root)).parts, _local(root, found, options), alone=False)  # noqa: PTH100


def _local(root: str, found: Sequence[Found], options: ReadOptions) -> list[tuple[str, Location]]:
    """The files that are chosen, each once whatever links lead to it."""
    return [(name, Path(root, name)) for name in without_second_names(root, _chosen(found, options.include))]


def _chosen(files: Iterable[tuple[str, Value]], include: Sequence[str]) -> list[tuple[str, Value]]:
    """The files that are not hidden and, by their last names, match a pattern; sorted folder by folder."""
    kept = []
    for name, value in files:
        *folders, last = name.split("/")
        hidden = any(part.startswith(".") for part in (*folders, last))
        if not hidden and (not include or any(fnmatch.fnmatch(last, pattern) for pattern in include)):
            kept.append((name, value))
    return sorted(kept, key=lambda file: file[0].split("/"))


def labels_of(listings: Sequence[Listing]) -> list[str]:
    """A name for each source that no other has: its own, with as many folders before it as that takes.

    All get the same number of parts, so that no label with a file's path behind it can equal another.
    """
    parts = [listing.parts for listing in listings]
    depth = 1
    while len({p[-depth:] for p in parts}) < len(set(parts)):
        depth += 1
    return ["/".join(p[1:][-depth:]) for p in parts]
