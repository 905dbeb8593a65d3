"""Token files of Megatron-LM and GPT-NeoX (.idx and .bin): documents that were tokenized before they came here.

The .idx (`MMapIndexedDataset`) holds, little-endian: the magic MMIDIDX, version 1 (u64), the type of a token (u8), the
numbers of sequences and of document bounds (u64 each), the tokens of each sequence (i32), where it begins in the .bin
(i64, bytes), and the sequence each document begins with (i64). The .bin holds the ids one after the other. It may lie
there in parts, as Pythia's training data is published: X-00000-of-00020.bin … beside X.idx.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from memindex.corpus.documents import (
    BATCH_BYTES,
    LONGEST_DOCUMENT,
    TOKENS_SCHEMA,
    BadDocuments,
    BytesRead,
    ReadOptions,
    SourceFile,
    repeat,
)
from memindex.corpus.remote import Location
from memindex.corpus.streams import opened
from memindex.errors import CorpusError

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")

#: Types of ids by their code; 6 and 7 are floating point.
DTYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}

#: Entries of the .idx read at a time.
ENTRIES = 1 << 20

PART = re.compile(r"(.+)-(\d+)-of-\d+\.bin")


def with_parts(files: Sequence[tuple[str, Location]]) -> tuple[list[tuple[str, Location]], dict[str, list[Location]]]:
    """A listing without the .bin files that belong to an .idx, and those files by the name of their .idx, in order."""
    indexes = {name for name, _ in files if name.endswith(".idx")}
    parts: dict[str, list[tuple[int, Location]]] = {}
    kept = []
    for name, location in files:
        cut = PART.fullmatch(name)
        whole, part = (f"{cut[1]}.idx", int(cut[2])) if cut else (f"{name.removesuffix('.bin')}.idx", 0)
        if name.endswith(".bin") and whole in indexes:
            parts.setdefault(whole, []).append((part, location))
        else:
            kept.append((name, location))
    return kept, {
        name: [location for _, location in sorted(found, key=lambda f: f[0])] for name, found in parts.items()
    }


def read_megatron(
    source: SourceFile, options: ReadOptions, bad: BadDocuments, read: BytesRead
) -> Iterator[pa.RecordBatch]:
    """Yield the documents (or, with `rows_per_step`, the training rows) of one .idx as tokens.

    `line` is the number of the document from 1; the metadata say row (from 0) and step of a training row. Raises
    CorpusError with the file where .idx and .bin do not fit together.
    """
    if options.domain_field:
        raise CorpusError(f"{source.file}: token files have no fields: leave --domain-field out, or use --domain-sql")
    with ExitStack() as stack:
        index = _Index.read(source, stack)
        tokens = _Tokens(source, [stack.enter_context(opened(part)) for part in source.parts], index.dtype)
        done = 0
        lengths = index.sequence_lengths() if options.rows_per_step else index.document_lengths()
        for group in _groups(lengths, BATCH_BYTES // 4):
            if len(group) == 1 and group[0] * index.dtype.itemsize > LONGEST_DOCUMENT:
                bad.report(f"{source.file}: document {done + 1}", f"longer than {LONGEST_DOCUMENT >> 20} MiB")
                tokens.skip(int(group[0]))
            else:
                ids = _unsigned(tokens.take(int(group.sum())), source, done)
                yield _batch(ids, group, source, done, options.rows_per_step)
            done += len(group)
            read.inside = tokens.taken


@dataclass
class _Index:
    """The .idx of a file, of which nothing is held but its header."""

    source: SourceFile
    stream: BinaryIO
    dtype: np.dtype[Any]
    sequences: int
    bounds: int

    @classmethod
    def read(cls, source: SourceFile, stack: ExitStack) -> _Index:
        """Read and check the header and the sizes of the files."""
        stream = stack.enter_context(opened(source.file))
        header = stream.read(HEADER.size)
        if len(header) < HEADER.size or not header.startswith(MAGIC):
            raise CorpusError(f"{source.file}: not a Megatron .idx file: it does not begin with MMIDIDX")
        _, version, code, sequences, bounds = HEADER.unpack(header)
        if version != 1 or code not in DTYPES:
            raise CorpusError(
                f"{source.file}: version {version}, token type {code}: known are version 1, whole numbers"
            )
        needed = HEADER.size + 12 * sequences + 8 * bounds
        # Newer Megatron adds a byte per sequence (its modality).
        size = source.file.stat().st_size
        if size and size not in (needed, needed + sequences):
            raise CorpusError(f"{source.file}: {size} bytes, its header says {needed}: damaged")
        return cls(source, stream, np.dtype(DTYPES[code]), sequences, bounds)

    def sequence_lengths(self) -> Iterator[npt.NDArray[np.int64]]:
        """Tokens of every sequence, some thousands at a time; each must begin where the one before it ends."""
        total, pointers = 0, HEADER.size + 4 * self.sequences
        for first in range(0, self.sequences, ENTRIES):
            count = min(ENTRIES, self.sequences - first)
            lengths = self._entries(HEADER.size + 4 * first, "<i4", count)
            begins = self._entries(pointers + 8 * first, "<i8", count)
            ends = total + np.cumsum(lengths)
            wrong = np.flatnonzero((lengths < 0) | (begins != (ends - lengths) * self.dtype.itemsize))
            if len(wrong):
                raise CorpusError(
                    f"{self.source.file}: sequence {first + int(wrong[0])} is not where it should be: damaged"
                )
            total = int(ends[-1])
            yield lengths
        held = sum(part.stat().st_size for part in self.source.parts)
        if held and held != total * self.dtype.itemsize:
            raise CorpusError(
                f"{self.source.file}: names {total} tokens of {self.dtype.itemsize} bytes, "
                f"its .bin holds {held} bytes: cut off, or a part is missing"
            )

    def document_lengths(self) -> Iterator[npt.NDArray[np.int64]]:
        """Tokens of every document, some thousands at a time."""
        place = HEADER.size + 12 * self.sequences
        lengths, waiting, seen = self.sequence_lengths(), np.empty(0, np.int64), 0
        before = -1
        for first in range(0, self.bounds, ENTRIES):
            bounds = self._entries(place + 8 * first, "<i8", min(ENTRIES, self.bounds - first))
            if before < 0:
                before, bounds = int(bounds[0]), bounds[1:]
                if before:
                    raise CorpusError(f"{self.source.file}: the first document begins at sequence {before}: damaged")
            steps = np.diff(bounds, prepend=before)
            if len(bounds) and (steps.min() < 0 or bounds[-1] > self.sequences):
                raise CorpusError(f"{self.source.file}: a document ends before it begins, or beyond the file: damaged")
            before = int(bounds[-1]) if len(bounds) else before
            while seen + len(waiting) < before:
                waiting = np.concatenate([waiting, next(lengths)])
            sums = np.concatenate([[0], np.cumsum(waiting)])
            ends = sums[bounds - seen]
            yield np.diff(ends, prepend=0)
            waiting, seen = waiting[before - seen :], before
        # The last sequences are checked, too; those after the last bound are in no document.
        rest = sum(map(len, lengths)) + len(waiting)
        if rest:
            raise CorpusError(
                f"{self.source.file}: {rest} sequences belong to no document: damaged, or training rows, which need "
                "--rows-per-step"
            )

    def _entries(self, place: int, kind: str, count: int) -> npt.NDArray[np.int64]:
        self.stream.seek(place)
        data = self.stream.read(np.dtype(kind).itemsize * count)
        if len(data) < np.dtype(kind).itemsize * count:
            raise CorpusError(f"{self.source.file}: ends too early")
        return np.frombuffer(data, kind).astype(np.int64)


class _Tokens:
    """The ids of all .bin parts, one after the other."""

    def __init__(self, source: SourceFile, parts: list[BinaryIO], dtype: np.dtype[Any]) -> None:
        self._source = source
        self._parts = iter(parts)
        self._part = next(self._parts, None)
        self._dtype = dtype
        self.taken = 0

    def take(self, count: int) -> npt.NDArray[np.generic]:
        """The next ids; CorpusError where the files end."""
        data = bytearray()
        missing = count * self._dtype.itemsize
        while missing and self._part is not None:
            more = self._part.read(missing)
            data += more
            missing -= len(more)
            if not more:
                self._part = next(self._parts, None)
        self.taken += len(data)
        if missing:
            raise CorpusError(f"{self._source.file}: its .bin ends too early: cut off, or a part is missing")
        return np.frombuffer(data, self._dtype)

    def skip(self, count: int) -> None:
        """Leave ids out."""
        while count:
            count -= len(self.take(min(count, BATCH_BYTES)))


def _groups(lengths: Iterator[npt.NDArray[np.int64]], most: int) -> Iterator[npt.NDArray[np.int64]]:
    """Lengths in groups of about `most` tokens; a longer document stands alone."""
    for entries in lengths:
        # A document belongs to the group that its last token falls into.
        group = np.cumsum(entries) // most
        alone = entries > most
        cuts = np.flatnonzero(np.diff(group) | alone[1:] | alone[:-1]) + 1
        yield from (part for part in np.split(entries, cuts) if len(part))


def _unsigned(ids: npt.NDArray[np.generic], source: SourceFile, first: int) -> npt.NDArray[np.uint32]:
    if ids.dtype.kind == "i" and len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= 1 << 32):
        raise CorpusError(f"{source.file}: near document {first + 1}: a token id is negative or beyond 2^32: damaged")
    unsigned: npt.NDArray[np.uint32] = ids.astype(np.uint32)
    return unsigned


def _batch(
    ids: npt.NDArray[np.uint32], lengths: npt.NDArray[np.int64], source: SourceFile, first: int, per_step: int | None
) -> pa.RecordBatch:
    rows = np.arange(first, first + len(lengths), dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    metadata = repeat("{}", len(rows), pa.large_string())
    if per_step:
        row, step = (pa.array(numbers).cast(pa.large_string()) for numbers in (rows, rows // per_step))
        glue = [pa.scalar(text, pa.large_string()) for text in ('{"row": ', ', "step": ', "}", "")]
        metadata = pc.binary_join_element_wise(glue[0], row, glue[1], step, glue[2], glue[3])
    columns = [
        pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(ids)),
        repeat(source.folder, len(rows), pa.large_string()),
        repeat(source.name, len(rows), pa.string()),
        pa.array(rows + 1),
        metadata,
    ]
    return pa.record_batch(columns, schema=TOKENS_SCHEMA)
