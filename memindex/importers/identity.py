"""Ids of imported sequences, and which of them a study holds already.

An id is made of the name of the sequences' source (31 bits of its SHA-256, never 0) and the sequence's number there (32
bits): it depends on neither model nor file, so models that were scored on the same sequences share their rows, and it
never meets the study's own ids, which count from 0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from memindex.errors import MemindexError
from memindex.importers.chunks import MOST_ROWS, Chunk
from memindex.ragged import Ragged, concatenated, from_arrow
from memindex.tables.files import batches
from memindex.tables.store import TableStore

#: A unit of imported sequences: the source's name, the import that brought them, and its chunk.
UNIT_NAME = re.compile(r"import (?P<name>.*) [0-9a-f]{12} \d{6}", re.DOTALL)

_PAGE = 20

#: Rows hashed at a time.
_SLICE = 1 << 14

#: A sequence whose tokens are not known.
_NO_TOKENS = 1


def base_of(name: str) -> int:
    """The id of sequence 0 of a source."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) & 0x7FFFFFFF
    return (number or 1) * MOST_ROWS


def check_name(store: TableStore, name: str) -> None:
    """Refuse a name whose ids would be those of another one in the study."""
    for unit in store.units("sequences"):
        other = UNIT_NAME.fullmatch(unit)
        if other and other["name"] != name and base_of(other["name"]) == base_of(name):
            raise MemindexError(f"the names {name!r} and {other['name']!r} give equal ids: choose another --name")


class Codes:
    """A byte for each number that was seen: 0 for none, 1 without tokens, else a hash of its tokens.

    Pages of a mebibyte, made where numbers fall: as large as the numbers reach, however many rows there are.
    """

    def __init__(self) -> None:
        self._pages: dict[int, npt.NDArray[np.uint8]] = {}

    def get(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The codes of these numbers, uint8 (rows,)."""
        codes = np.zeros(len(rows), dtype=np.uint8)
        for page, here in _by_page(rows):
            if page in self._pages:
                codes[here] = self._pages[page][rows[here] & ((1 << _PAGE) - 1)]
        return codes

    def put(self, rows: npt.NDArray[np.int64], codes: npt.NDArray[np.uint8]) -> None:
        """Set the codes of these numbers."""
        for page, here in _by_page(rows):
            kept = self._pages.setdefault(page, np.zeros(1 << _PAGE, dtype=np.uint8))
            kept[rows[here] & ((1 << _PAGE) - 1)] = codes[here]


def _by_page(rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    pages = rows >> _PAGE
    order = np.argsort(pages, kind="stable")
    distinct, starts = np.unique(pages[order], return_index=True)
    yield from zip(distinct.tolist(), np.split(order, starts[1:]), strict=True)


def stored(store: TableStore, name: str) -> Codes:
    """The codes of the sequences of a source that a study holds, by their number in the source."""
    found = Codes()
    for unit in store.units("sequences"):
        named = UNIT_NAME.fullmatch(unit)
        if named and named["name"] == name:
            for rows, codes in _of_file(store.file("sequences", unit)):
                found.put(rows - base_of(name), codes)
    return found


def _of_file(file: Path) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]:
    for batch in batches(file, ["sequence_id", "prefix", "suffix"]):
        prefix, suffix = batch.column("prefix"), batch.column("suffix")
        known = None if prefix.null_count else (from_arrow(prefix), from_arrow(suffix))
        ids = batch.column("sequence_id").to_numpy()
        yield ids, np.full(len(ids), _NO_TOKENS, dtype=np.uint8) if known is None else _hashed(*known)


def codes_of(chunk: Chunk) -> npt.NDArray[np.uint8]:
    """The codes of a chunk's sequences, uint8 (rows,)."""
    if chunk.prefix is None or chunk.suffix is None:
        return np.full(len(chunk.rows), _NO_TOKENS, dtype=np.uint8)
    return _hashed(chunk.prefix, chunk.suffix)


def _hashed(prefix: Ragged, suffix: Ragged) -> npt.NDArray[np.uint8]:
    parts = [
        _hashed_slice(*(ids.slice(start, start + _SLICE) for ids in (prefix, suffix)))
        for start in range(0, prefix.rows, _SLICE)
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint8)


def _hashed_slice(prefix: Ragged, suffix: Ragged) -> npt.NDArray[np.uint8]:
    """2 to 255 for each row of tokens; no row may be empty."""
    both = concatenated(prefix, suffix)
    place = np.arange(len(both.values), dtype=np.uint64) - np.repeat(both.offsets[:-1], both.lengths()).astype(
        np.uint64
    )
    # SplitMix64's steps; the sum over a row tells its tokens and their places.
    mixed = (both.values.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + place * np.uint64(
        0xD1B54A32D192ED03
    )
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    row = np.add.reduceat(mixed, both.offsets[:-1]) + prefix.lengths().astype(np.uint64)
    codes: npt.NDArray[np.uint8] = (2 + (row >> np.uint64(32)) % np.uint64(254)).astype(np.uint8)
    return codes


def check_same(
    name: str, rows: npt.NDArray[np.int64], before: npt.NDArray[np.uint8], codes: npt.NDArray[np.uint8]
) -> None:
    """Refuse sequences whose number stands for other tokens in the study."""
    known = before > _NO_TOKENS
    differ = known & (codes > _NO_TOKENS) & (before != codes)
    if differ.any():
        raise MemindexError(
            f"sequence {rows[np.flatnonzero(differ)[0]]} of {name!r} has other tokens here than in an import before: "
            "these are sequences of another source or other lengths; give them another --name"
        )
    if ((before == _NO_TOKENS) & (codes > _NO_TOKENS)).any():
        raise MemindexError(
            f"sequences of {name!r} were imported without their tokens before: give these another --name, "
            "or start with the files that hold tokens"
        )
