"""What stands at a source of a command line: a folder, a pattern, an address or a list of them, as names of files."""

from __future__ import annotations

import fnmatch
import functools
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from memindex.corpus.documents import ReadOptions
from memindex.corpus.remote import Location, fixed_part, is_address, list_remote, read_list
from memindex.errors import CorpusError


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
        inside: list[tuple[str, Location]] = [(p.relative_to(path_given).as_posix(), p) for p in _walk(path_given)]
        own = _without_links(path_given, _chosen(inside, options.include))
        return Listing(str(source), absolute.parts, own, alone=False)
    if path_given.is_file():
        return Listing(str(source), absolute.parts, [(path_given.name, path_given)], alone=True)
    if glob.has_magic(str(source)):
        return _matching(str(source), options)
    raise CorpusError(f"{source}: no such file or folder")


def _parts_of(address: str) -> tuple[str, ...]:
    host, _, path = address.partition("://")[2].partition("/")
    return PurePosixPath("/", host, path).parts


def _matching(pattern: str, options: ReadOptions) -> Listing:
    root = Path(fixed_part(pattern) or ("/" if pattern.startswith("/") else "."))
    found = [Path(name) for name in glob.iglob(pattern, recursive=True)]  # noqa: PTH207 (it takes absolute patterns)
    files: list[tuple[str, Location]] = [(p.relative_to(root).as_posix(), p) for p in found if p.is_file()]
    if not files:
        hint = f": it matches folders only: for the files in them write {pattern.rstrip('/')}/**" if found else ""
        raise CorpusError(f"{pattern}: no files match{hint}")
    own = _without_links(root, _chosen(files, options.include))
    return Listing(pattern, Path(os.path.abspath(root)).parts, own, alone=False)  # noqa: PTH100


def _without_links(root: Path, files: Sequence[tuple[str, Location]]) -> list[tuple[str, Location]]:
    """The files without those that links lead to a second time: what has two names is in the corpus once."""
    folder = functools.cache(os.path.realpath)
    top = folder(root).rstrip("/") + "/"
    listed = {top + name for name, _ in files}

    def is_again(name: str, path: Path) -> bool:
        entry = os.path.join(folder(path.parent), path.name)  # noqa: PTH118 (there are millions of files)
        places = {entry, os.path.realpath(entry)} if path.is_symlink() else {entry}
        return bool((places - {top + name}) & listed)

    return [(name, file) for name, file in files if not (isinstance(file, Path) and is_again(name, file))]


def _chosen(files: Iterable[tuple[str, Location]], include: Sequence[str]) -> list[tuple[str, Location]]:
    """The files that are not hidden and, by their last names, match a pattern; sorted folder by folder."""
    kept = []
    for name, location in files:
        *folders, last = name.split("/")
        hidden = any(part.startswith(".") for part in (*folders, last))
        if not hidden and (not include or any(fnmatch.fnmatch(last, pattern) for pattern in include)):
            kept.append((name, location))
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


def _walk(root: Path) -> Iterator[Path]:
    """The files below root but in hidden folders; a folder that can't be listed is an error, not an empty one."""

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (path for name in names if (path := Path(folder, name)).is_file())
