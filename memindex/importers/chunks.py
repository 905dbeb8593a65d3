"""What a reader of a format hands over: sequences of a source, and what a model did with them, in chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.errors import MemindexError
from memindex.ragged import Ragged, from_matrix

#: Rows per unit: what a killed import loses at most.
UNIT = 1 << 16

#: One more than the largest number of a sequence in its source: ids keep 32 bits for it.
MOST_ROWS = 1 << 32


@dataclass(frozen=True)
class Chunk:
    """Rows of a source; every reader cuts its rows into chunks of UNIT, the last one may be shorter.

    Attributes:
        rows: Number of each sequence in its source, or its sequence_id where the source is the study; int64 (rows,).
        prefix: Ids given to the model; None when the file does not hold them.
        suffix: Ids that followed in the corpus; None likewise.
        continuation: Ids the model generated; None when the file holds scores only.
        score: Share of suffix positions that were right, float64 (rows,); None when it is computed.
        results: Further columns of the table continuations, as they are called there.
        facts: Further columns of the table sequences (domain, document).
    """

    rows: npt.NDArray[np.int64]
    prefix: Ragged | None = None
    suffix: Ragged | None = None
    continuation: Ragged | None = None
    score: npt.NDArray[np.float64] | None = None
    results: dict[str, pa.Array] = field(default_factory=dict)
    facts: dict[str, pa.Array] = field(default_factory=dict)


class Source(Protocol):
    """One run of one model, as a format describes it."""

    @property
    def made_by(self) -> str:
        """Name of the format."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is read from."""

    @property
    def of_study(self) -> bool:
        """Whether its sequences are the study's own, by sequence_id."""

    @property
    def settings(self) -> dict[str, Any]:
        """What else decides what is read; JSON values."""

    @property
    def lengths(self) -> tuple[int | None, int | None]:
        """Tokens of prefix and suffix, where the format fixes them."""

    def chunks(self) -> Iterator[Chunk]:
        """Read everything, from the start; raises MemindexError on what the format does not allow."""


def split(ids: npt.NDArray[Any], prefix: int) -> tuple[Ragged, Ragged]:
    """Prefixes and suffixes of ids of shape (rows, length)."""
    parts = (ids[:, :prefix], ids[:, prefix:])
    first, second = (from_matrix(np.ascontiguousarray(part, dtype=np.int64)) for part in parts)
    return first, second


def of_unit_length(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of UNIT rows, the last one shorter: units must not depend on how a file is read."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        while rows >= UNIT:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, UNIT).combine_chunks()
            waiting = [whole.slice(UNIT)]
            rows -= UNIT
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()


def is_unicode(text: str) -> bool:
    """Whether a text can be written; JSON can escape half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def existing(files: Iterable[Path]) -> tuple[Path, ...]:
    """The files, if all are there."""
    found = tuple(files)
    for file in found:
        if not file.is_file():
            raise MemindexError(
                f"{file}: {'is a folder' if file.is_dir() else 'no such file'}: give the file to import"
            )
    return found
