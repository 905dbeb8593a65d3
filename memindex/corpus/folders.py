"""Files below a folder, all or those that match a pattern. Links to folders are followed, each real folder once.

What has several names, by links, is taken by one: the name with the fewest links in it, and of these the first in
sorted order. So files have the same names every time, and a link that leads back up ends no walk.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

#: Stands in a pattern for any number of folders.
BELOW = "**"

#: What a link that leads nowhere, or around in a circle, raises.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

_MAGIC = re.compile(r"[*?\[]")


class Found(NamedTuple):
    """A file: its name relative to the folder that the walk began in, and whether the last part of it is a link."""

    name: str
    is_link: bool


class _Step(NamedTuple):
    """A folder to look into: its name, empty or with / at the end, and the part of the pattern that is next."""

    folder: str
    part: int


@dataclass
class _Walk:
    """A walk through folders that is under way."""

    root: str
    parts: Sequence[str]
    files: list[Found] = field(default_factory=list)
    folders: bool = False
    seen: set[tuple[int, int, int]] = field(default_factory=set)
    #: Folders that links lead to: looked into when all that needs one link less was.
    linked: list[_Step] = field(default_factory=list)

    def run(self) -> None:
        """Find all files."""
        steps = [_Step("", 0)]
        while steps:
            for step in steps:
                self._descend(step)
            steps, self.linked = sorted(self.linked), []

    def _descend(self, first: _Step) -> None:
        steps = [first]
        while steps:
            step = steps.pop()
            if self._is_new(step):
                # The last one is taken first: so they are in reverse order.
                steps += reversed(self._matches(step))

    def _is_new(self, step: _Step) -> bool:
        facts = os.stat(self._path(step.folder))  # noqa: PTH116 (there are millions of folders)
        place = (facts.st_dev, facts.st_ino, step.part)
        new = place not in self.seen
        self.seen.add(place)
        return new

    def _path(self, name: str) -> str:
        return os.path.join(self.root, name).rstrip("/") or self.root or "."  # noqa: PTH118

    def _matches(self, step: _Step) -> list[_Step]:
        """Take the files of a folder that match; returns the folders in it to look into, in order."""
        part = self.parts[step.part]
        if part == BELOW:
            return self._below(step)
        if not _MAGIC.search(part):
            return self._named(step, part)
        match = re.compile(fnmatch.translate(part)).match
        is_last = step.part == len(self.parts) - 1
        inside: list[_Step] = []
        for entry in self._entries(step.folder, match):
            name = step.folder + entry.name
            if is_last:
                self._take(entry, name)
            elif _leads_to_folder(entry):
                self._enter(inside, _Step(f"{name}/", step.part + 1), entry.is_symlink())
        return inside

    def _below(self, step: _Step) -> list[_Step]:
        is_last = step.part == len(self.parts) - 1
        inside = [] if is_last else [_Step(step.folder, step.part + 1)]
        for entry in self._entries(step.folder):
            name = step.folder + entry.name
            if _leads_to_folder(entry):
                self._enter(inside, _Step(f"{name}/", step.part), entry.is_symlink())
            elif is_last:
                self._take(entry, name)
        return inside

    def _named(self, step: _Step, part: str) -> list[_Step]:
        """What a part without wildcards names."""
        name = step.folder + part
        path = self._path(name)
        is_folder = os.path.isdir(path)  # noqa: PTH112
        inside: list[_Step] = []
        if step.part < len(self.parts) - 1:
            if is_folder:
                self._enter(inside, _Step(f"{name}/", step.part + 1), os.path.islink(path))  # noqa: PTH114
        elif not part or is_folder:
            self.folders = self.folders or is_folder
        elif os.path.isfile(path):  # noqa: PTH113
            self.files.append(Found(name, os.path.islink(path)))  # noqa: PTH114
        return inside

    def _enter(self, inside: list[_Step], step: _Step, is_link: bool) -> None:
        (self.linked if is_link else inside).append(step)

    def _take(self, entry: os.DirEntry[str], name: str) -> None:
        if _leads_to_folder(entry):
            self.folders = True
        elif _is(entry.is_file):
            self.files.append(Found(name, entry.is_symlink()))

    def _entries(self, folder: str, match: Callable[[str], object] | None = None) -> list[os.DirEntry[str]]:
        """What is in a folder and not hidden, sorted; a folder that can't be listed is an error, not an empty one."""
        with os.scandir(self._path(folder)) as entries:
            kept = [e for e in entries if not e.name.startswith(".") and (match is None or match(e.name))]
        return sorted(kept, key=lambda entry: entry.name)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    return _is(entry.is_dir)


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError as error:
        if error.errno not in _NOWHERE:
            raise
        return False


def files_below(root: str, pattern: Sequence[str] = (BELOW,)) -> tuple[list[Found], bool]:
    """The files below a folder that are not hidden and match.

    Args:
        root: The folder; "" is the one the process is in.
        pattern: Parts of a shell pattern, `**` for any number of folders.

    Returns:
        The files, with several names for one file only where links to files lead to it, and whether the pattern also
        matches folders.

    Raises:
        OSError: A folder can't be listed.
    """
    walk = _Walk(root, pattern)
    walk.run()
    return walk.files, walk.folders


def without_second_names(root: str, files: Sequence[tuple[str, bool]]) -> Iterator[str]:
    """The names of the files, of each file one.

    Of two names the one that is not a link is kept, else the first.
    """
    links = [name for name, is_link in files if is_link]
    if not links:
        yield from (name for name, _ in files)
        return
    real: dict[str, str] = {}

    def place(name: str) -> str:
        folder, _, last = name.rpartition("/")
        if folder not in real:
            real[folder] = os.path.realpath(os.path.join(root, folder))  # noqa: PTH118
        return os.path.join(real[folder], last)  # noqa: PTH118

    taken = {place(name) for name, is_link in files if not is_link}
    for name, is_link in files:
        if is_link:
            target = os.path.realpath(place(name))
            if target in taken:
                continue
            taken.add(target)
        yield name
