"""Indexes by name: what `--out` left out names, and what stands for a directory wherever an index is asked for.

Standard library only: finding an index is part of every `memindex count`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from memindex.errors import MemindexError

#: Where built indexes lie by default, below the current directory.
FOLDER = "indexes"

#: Names another folder.
VARIABLE = "MEMINDEX_INDEXES"

#: A name that can't be a path to something else.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def built_folder() -> Path:
    """Where indexes lie that go by name: $MEMINDEX_INDEXES, or `indexes` in the current directory."""
    return Path(os.environ.get(VARIABLE) or FOLDER)


def index_directory(path: str | Path) -> Path:
    """The directory of an index that is given by its path or by its name.

    A path that exists is meant itself. What is left as it is, because there is nothing of that name, will fail with
    a message of its own.
    """
    given = Path(path)
    if given.exists() or not NAME.fullmatch(str(path)):
        return given
    named = built_folder() / given
    return named if named.is_dir() else given


def check_known(path: Path) -> None:
    """Raise a MemindexError that says how to build it where there is nothing at a path that has a recipe's name."""
    if path.exists() or not NAME.fullmatch(path.name):
        return
    from memindex.index.recipes import recipe_names

    if path.name in recipe_names():
        raise MemindexError(f"{path.name} is a recipe that is not built yet: memindex index build {path.name}")


def identity_of(directory: Path) -> tuple[int, ...] | None:
    """Which version of an index stands under the name: another one when its place was taken; None when there is none.

    The folder's inode alone would not do: that of the version before the last is free for the next one.
    """
    for place in (f"{directory}/index.json", directory):
        try:
            found = os.stat(place)  # noqa: PTH116 (pathlib's takes twice as long)
        except OSError:
            continue
        return found.st_dev, found.st_ino, found.st_mtime_ns if place is not directory else 0
    return None
