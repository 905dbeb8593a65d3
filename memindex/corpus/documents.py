"""Batches of documents: what every reader yields and what the tokenizer takes.

A batch is an Arrow record batch, so that no Python object is made per document.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from memindex.corpus.remote import Location
from memindex.errors import CorpusError

_FACTS = [
    pa.field("domain", pa.large_string(), nullable=False),
    pa.field("path", pa.string(), nullable=False),
    pa.field("line", pa.int64(), nullable=False),
    pa.field("metadata", pa.large_string(), nullable=False),
]

#: text: the document; domain: its label; path: file relative to the source; line: line or row, counted from 1;
#: metadata: a JSON object of the fields that are left over.
SCHEMA = pa.schema([pa.field("text", pa.large_binary(), nullable=False), *_FACTS])

#: The same of documents that were tokenized before they came here: their ids stand in place of their text.
TOKENS_SCHEMA = pa.schema([pa.field("tokens", pa.large_list(pa.uint32()), nullable=False), *_FACTS])

#: Text per batch, in bytes: large enough to keep a parallel tokenizer busy, small beside the rest of a build.
BATCH_BYTES = 4 << 20

#: A document that is longer than this, in bytes, is taken for a damaged file.
LONGEST_DOCUMENT = 1 << 30

#: Bad documents whose places are kept; more are only counted.
MOST_REPORTS = 1_000_000

#: Formats of corpus files; everything else is text.
Format: TypeAlias = Literal["jsonl", "parquet", "arrow", "warc", "megatron", "text"]


@dataclass(frozen=True)
class ReadOptions:
    """How documents are found in files, and what their domains are.

    Attributes:
        text_field: Dotted path of the text, in JSON lines, Parquet and Arrow; lists of whole numbers are token ids.
        domain_field: Dotted path of the domain; None takes the name of the folder.
        include: Shell patterns of file names to take from folders; none means all.
        domain_sql: An SQL expression (DuckDB) over the fields of a document, whose value is the domain. Fields are
            text; `domain` (what it would be otherwise), `path`, `line`, `text` and `metadata` (JSON) are there too. A
            build refuses names that are a field of no document; `metadata ->> '$.name'` is for those that may be none.
        domain_map: New names for domains, after all of the above; the name `*` stands for all that are not named.
        rows_per_step: Megatron files only: every sequence is a training row, `row // rows_per_step` its step.
    """

    text_field: str = "text"
    domain_field: str | None = None
    include: tuple[str, ...] = ()
    domain_sql: str | None = None
    domain_map: Mapping[str, str] = field(default_factory=dict)
    rows_per_step: int | None = None

    def __post_init__(self) -> None:
        patterns: object = self.include
        if isinstance(patterns, str):  # a text is also a sequence, of letters
            object.__setattr__(self, "include", (patterns,))


@dataclass(frozen=True)
class SourceFile:
    """A corpus file: where it is, its name relative to the source, the domain its folder stands for, its format.

    `parts` are files that belong to it: the .bin files of a Megatron .idx.
    """

    file: Location
    name: str
    folder: str
    format: Format
    parts: tuple[Location, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of the file and its parts as they lie on the disk."""
        return sum(file.stat().st_size for file in (self.file, *self.parts))


@dataclass
class BadDocuments:
    """What to do with lines that are no documents: raise at the first, or with `skip` list them and go on.

    Attributes:
        skip: Whether to go on.
        count: How many there were; the unreadable rest of a file counts as one.
        first: A line for each, with file, line and reason; of the first MOST_REPORTS.
        fields: Fields that the expression for the domain names and that some document had, as dotted paths.
    """

    skip: bool = False
    count: int = 0
    first: list[str] = field(default_factory=list)
    fields: set[str] = field(default_factory=set)

    def report(self, place: str, reason: str) -> None:
        """Note one bad document; raises CorpusError unless bad ones are to be skipped."""
        if not self.skip:
            raise CorpusError(f"{place}: {reason}; use --skip-bad to leave such documents out")
        self.note(f"{place}: {reason}")

    def note(self, line: str) -> None:
        """Add a line to the list of what was left out."""
        self.count += 1
        if len(self.first) < MOST_REPORTS:
            # Names of files may hold bytes that are no UTF-8.
            self.first.append(os.fsencode(" ".join(line.splitlines())).decode("utf-8", errors="replace"))


@dataclass
class BytesRead:
    """How much of the files was read, in bytes as they are stored: packed where they are packed.

    `most_window` is given by the caller: the bytes that a window of compression may take; None sets no limit.
    """

    finished: int = 0
    inside: int = 0
    most_window: int | None = None

    @property
    def total(self) -> int:
        """Bytes of the files that are done, and those read of the present one; never falls."""
        return self.finished + self.inside

    def finish(self, size: int) -> None:
        """The present file, of that many bytes, is done."""
        self.finished += size
        self.inside = 0


def large_binary(values: np.ndarray, offsets: np.ndarray, kind: pa.DataType) -> pa.Array:
    """An Arrow array over (bytes, offsets) as the core returns strings; no copy."""
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    return pa.Array.from_buffers(kind, len(offsets) - 1, buffers)


def repeat(value: str, rows: int, kind: pa.DataType) -> pa.Array:
    """The same string in every row."""
    return pa.repeat(pa.scalar(value, type=kind), rows)
