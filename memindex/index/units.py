"""Units of a build: groups of corpus files that are tokenized together, each by itself and in any order.

A unit is known by what makes it: its files with size and time of change, how they are read, the tokenizer, and the
version of memindex. What an earlier build finished under the same identity is taken over; anything else is done again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import memindex
from memindex.corpus.documents import SourceFile
from memindex.corpus.sources import ReadOptions
from memindex.corpus.tokenizer import Tokenizer
from memindex.errors import MemindexError

#: Bytes of files in a unit, as they lie on the disk; a larger file is a unit by itself.
UNIT_BYTES = 64 << 20


@dataclass(frozen=True)
class TokenUnit:
    """A group of files.

    Attributes:
        number: Its place among the units of the build.
        files: What is tokenized, in order.
        options: How documents are found in them.
        token_width: Bytes per token.
        identity: Hash of all that decides on the unit's bytes.
    """

    number: int
    files: tuple[SourceFile, ...]
    options: ReadOptions
    token_width: int
    identity: str

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"tokens-{self.number:05}-{self.identity}"

    @property
    def bytes(self) -> int:
        """Size of the files on the disk."""
        return sum(file.bytes for file in self.files)


def plan_units(
    files: Sequence[SourceFile], options: ReadOptions, tokenizer: Tokenizer, token_width: int, unit_bytes: int
) -> list[TokenUnit]:
    """Group the files, in their order, into units of about `unit_bytes`; raises MemindexError when that is no size."""
    if unit_bytes < 1:
        raise MemindexError(f"a unit takes at least 1 byte of files, not {unit_bytes}")
    common = [memindex.__version__, tokenizer.checksum, token_width, asdict(options)]
    return [
        TokenUnit(number, tuple(group), options, token_width, identity_of([*common, list(map(_stamp, group))]))
        for number, group in enumerate(_groups(files, unit_bytes))
    ]


def _groups(files: Sequence[SourceFile], unit_bytes: int) -> Iterator[list[SourceFile]]:
    group: list[SourceFile] = []
    size = 0
    for file in files:
        if group and size + file.bytes > unit_bytes:
            yield group
            group, size = [], 0
        group.append(file)
        size += file.bytes
    if group:
        yield group


def identity_of(content: Any) -> str:
    """A short hash of anything that JSON, or else its text, describes."""
    described = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _stamp(source: SourceFile) -> list[str | int]:
    """What tells a corpus file from any other, and from itself when it was changed."""
    stamp: list[str | int] = [repr(source)]
    for file in (source.file, *source.parts):
        facts = file.stat()
        stamp += [str(file.absolute() if isinstance(file, Path) else file), facts.st_size, facts.st_mtime_ns]
    return stamp
