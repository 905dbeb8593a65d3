"""What the server does not do, with the HTTP status that says so; no folder of this machine in any line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from memindex.errors import MemindexError, shortened

#: An absolute path of two parts or more, as errors write it; its last part says enough.
_PATH = re.compile(r"""(?<![\w.:/<])(?:[A-Za-z]:)?(?:/[^\s/'"`,;:()]+)+/([^\s/'"`,;:()]*)""")


class RefusalError(MemindexError):
    """A request that gets no answer: one line, and the HTTP status."""

    def __init__(self, status: int, line: str) -> None:
        """`status`: 400, 404, 408, 413, 422 or 503."""
        super().__init__(shortened(line))
        self.status = status


def without_folders(line: str, known: Iterable[Path] = ()) -> str:
    """The line with only the last part of every path in it.

    Args:
        line: What goes to a stranger.
        known: Folders to take out whatever characters are in their names.
    """
    for folder in sorted((str(path) for path in known), key=len, reverse=True):
        line = line.replace(f"{folder}/", "").replace(folder, Path(folder).name)
    return _PATH.sub(r"\1", line)
