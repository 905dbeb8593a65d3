"""Batches of documents: what every reader yields and what the tokenizer takes.

A batch is an Arrow record batch, so that no Python object is made per document.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from memindex.errors import CorpusError

if TYPE_CHECKING:
    from pathlib import Path

#: text: the document; domain: its label; path: file relative to the source; line: line or row, counted from 1;
#: metadata: a JSON object of the fields that are left over.
SCHEMA = pa.schema(
    [
        pa.field("text", pa.large_binary(), nullable=False),
        pa.field("domain", pa.large_string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("metadata", pa.large_string(), nullable=False),
    ]
)

#: Text per batch, in bytes: large enough to keep a parallel tokenizer busy, small beside the rest of a build.
BATCH_BYTES = 4 << 20


@dataclass(frozen=True)
class SourceFile:
    """A corpus file: where it is, its name relative to the source, the domain its folder stands for, its format."""

    file: Path
    name: str
    folder: str
    format: Literal["jsonl", "parquet", "text"]


@dataclass
class BadDocuments:
    """What to do with lines that are no documents: raise at the first, or with `skip` count them and go on."""

    skip: bool = False
    count: int = 0
    first: list[str] = field(default_factory=list)

    def report(self, place: str, reason: str) -> None:
        """Note one bad document; raises CorpusError unless bad ones are to be skipped."""
        if not self.skip:
            raise CorpusError(f"{place}: {reason}; use --skip-bad to leave such documents out")
        self.count += 1
        if len(self.first) < 20:
            self.first.append(f"{place}: {reason}")


@dataclass
class BytesRead:
    """How much of the files was read, in bytes as they lie on the disk: packed where they are packed."""

    finished: int = 0
    inside: int = 0

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
