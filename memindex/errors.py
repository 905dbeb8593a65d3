"""The exceptions of memindex: each carries one clear line that says what to do.

The command line prints that line and exits with code 2; a library user catches `MemindexError`.
"""

from __future__ import annotations


class MemindexError(Exception):
    """Something the user can mend: bad input, a missing file, a table not yet filled."""


class QueryError(MemindexError, ValueError):
    """A query that has no answer: empty, ids out of range, wrong shape or dtype."""


class CorpusError(MemindexError):
    """A corpus file that can't be read; the message names file and line."""


class CorruptIndexError(MemindexError):
    """An index file that is not what it should be; the message names file and offset."""


class DamagedTableError(MemindexError):
    """A file of a study's tables that is damaged or gone; the message names the file."""


class ReplacedIndexError(CorruptIndexError):
    """Another version of an index took its place since it was opened; what was asked for must be read from that."""

    def __init__(self, directory: object) -> None:
        super().__init__(f"{directory}: another version took its place: open it again")


class MissingExtraError(MemindexError, ImportError):
    """An optional package is not installed; the message says how to get it."""


#: Characters of an error's line that are shown: DuckDB quotes values of any size in its errors.
MOST_CHARACTERS = 1000


def shortened(line: str, most: int = MOST_CHARACTERS) -> str:
    """The line, or its first `most` characters and its length when it is longer."""
    return line if len(line) <= most else f"{line[:most]}… ({len(line):,} characters)"


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line of bounded length."""
    return shortened(str(error).splitlines()[0]) if str(error) else type(error).__name__
