"""The documents of a folder of infini-gram files, in blocks: where they stand, and what their metadata say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from memindex import _core
from memindex.corpus.documents import large_binary, repeat
from memindex.errors import CorruptIndexError, MemindexError

#: The domain of documents whose metadata have no label.
UNLABELLED = "unlabelled"

#: Documents, bytes of metadata, and tokens that are in memory at a time.
BLOCK_DOCUMENTS = 1 << 16
BLOCK_BYTES = 16 << 20
BLOCK_TOKENS = 1 << 22


class Documents(NamedTuple):
    """Some documents of a shard that follow each other.

    Attributes:
        numbers: Their numbers in the shard, int64.
        firsts: Token positions of their first tokens, int64.
        lengths: Their tokens, int64.
        described: Columns `domain`, `path`, `line`, `metadata`, as in documents.parquet.
    """

    numbers: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    described: pa.RecordBatch


class ShardDocuments:
    """One shard's documents; iterating checks each of them.

    Attributes:
        largest_id: The largest id of the shard's tokens.
        labelled: Documents so far that had a label at `domain_path`.
    """

    def __init__(self, folder: Path, shard: int, token_width: int, domain_path: str | None) -> None:
        self.folder = folder
        self.offsets, self.text = folder / f"offset.{shard}", folder / f"tokenized.{shard}"
        self.metadata, self.metaoff = folder / f"metadata.{shard}", folder / f"metaoff.{shard}"
        self.domain_path = domain_path
        self.labelled = 0
        self._separator = (1 << 8 * token_width) - 1
        self._tokens = _mapped(self.text, f"<u{token_width}")
        self._starts = _mapped(self.offsets, "<u8")
        self._width = token_width
        self._lines = _mapped(self.metaoff, "<u8") if self._has_metadata() else None
        self.largest_id = self._check_tokens()

    def __iter__(self) -> Iterator[Documents]:
        """Blocks of documents; raises CorruptIndexError at the first that is not where offset.S has it."""
        for first, end in self._blocks():
            bounds = np.empty(end - first + 1, dtype=np.int64)
            known = self._starts[first : end + 1].astype(np.int64)
            bounds[:] = len(self._tokens) * self._width
            bounds[: len(known)] = known
            self._check_starts(first, bounds)
            bounds //= self._width
            numbers = np.arange(first, end, dtype=np.int64)
            yield Documents(numbers, bounds[:-1] + 1, np.diff(bounds) - 1, self._describe(first, end))

    def _has_metadata(self) -> bool:
        there = self.metadata.is_file(), self.metaoff.is_file()
        if all(there):
            return True
        if any(there):
            missing = self.metadata if there[1] else self.metaoff
            raise CorruptIndexError(f"{missing}: missing")
        if self.domain_path is not None:
            raise MemindexError(
                f"{self.metadata}: missing: without metadata there are no domains at {self.domain_path!r}"
            )
        return False

    def _check_tokens(self) -> int:
        """The largest id; raises CorruptIndexError unless there are as many separators as documents."""
        largest = separators = 0
        for start in range(0, len(self._tokens), BLOCK_TOKENS):
            block = self._tokens[start : start + BLOCK_TOKENS]
            between = block == self._separator
            separators += int(np.count_nonzero(between))
            largest = max(largest, int(np.where(between, 0, block).max()))
        if separators != len(self._starts):
            raise CorruptIndexError(
                f"{self.text}: {separators} separators, but {self.offsets.name} lists {len(self._starts)} documents"
            )
        return largest

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """First document and end of each block: bounded in documents and in bytes of metadata."""
        first, documents = 0, len(self._starts)
        while first < documents:
            end = min(first + BLOCK_DOCUMENTS, documents)
            if self._lines is not None:
                limit = int(self._lines[first]) + BLOCK_BYTES
                fitting = int(np.searchsorted(self._lines[first:end], limit, side="right"))
                end = first + max(1, fitting)
            yield first, end
            first = end

    def _check_starts(self, first: int, bounds: npt.NDArray[np.int64]) -> None:
        wrong = (np.diff(bounds) <= 0) | (bounds[:-1] % self._width != 0) | (bounds[:-1] < 0)
        wrong[0] |= first == 0 and bounds[0] != 0
        # The last bound of all is the end of the text, and no start beyond it leads anywhere.
        places = np.clip(bounds[:-1] // self._width, 0, len(self._tokens) - 1)
        wrong |= self._tokens[places] != self._separator
        if wrong.any():
            document = first + int(wrong.argmax())
            raise CorruptIndexError(
                f"{self.offsets}: byte {8 * document}: {int(self._starts[document])} is not where a document starts"
            )

    def _describe(self, first: int, end: int) -> pa.RecordBatch:
        if self._lines is None:
            rows = end - first
            columns = [
                repeat(self.folder.name, rows, pa.large_string()),
                repeat("", rows, pa.string()),
                pa.array(np.zeros(rows, dtype=np.int64)),
                repeat("{}", rows, pa.large_string()),
            ]
        else:
            columns = self._parse(first, end)
        return pa.record_batch(columns, names=["domain", "path", "line", "metadata"])

    def _parse(self, first: int, end: int) -> list[pa.Array]:
        block = self._block_of_lines(first, end)
        try:
            parsed = _core.parse_metadata(block, self.domain_path or "path")
        except CorruptIndexError:
            # Python writes NaN into JSON; or a line is none.
            parsed = _core.parse_metadata(_mended(block, self.metadata, first), self.domain_path or "path")
        paths, labels, labelled, metadata, lines = parsed
        path = large_binary(*paths, pa.large_string())
        if self.domain_path is None:
            domain = _top_folders(path, self.folder.name)
        else:
            has_label = pa.array(labelled.astype(bool))
            self.labelled += int(labelled.sum())
            domain = pc.if_else(has_label, large_binary(*labels, pa.large_string()), UNLABELLED)
        return [domain, path, pa.array(lines), large_binary(*metadata, pa.large_string())]

    def _block_of_lines(self, first: int, end: int) -> bytes:
        assert self._lines is not None
        start = int(self._lines[first])
        size = int(self._lines[end]) - start if end < len(self._lines) else -1
        if (first > 0 or start == 0) and size >= -1 and start + size <= self.metadata.stat().st_size:
            with self.metadata.open("rb") as stream:
                stream.seek(start)
                block = stream.read(size)
            starts = self._lines[first:end].astype(np.int64) - start
            breaks = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + 1
            if block.endswith(b"\n") and np.array_equal(breaks[:-1], starts[1:]) and size in (-1, len(block)):
                return block
        raise CorruptIndexError(
            f"{self.metaoff}: byte {8 * first}: the offsets of documents {first} to {end - 1} are not those of the "
            f"lines of {self.metadata.name}"
        )


def _mapped(file: Path, kind: str) -> npt.NDArray[Any]:
    # An empty file can't be mapped.
    return np.memmap(file, dtype=kind, mode="r") if file.stat().st_size else np.empty(0, dtype=kind)


def _top_folders(paths: pa.Array, otherwise: str) -> pa.Array:
    """The first folder of each path; `otherwise` for a file in no folder."""
    encoded = paths.dictionary_encode()
    folders = [path.split("/")[0] if "/" in path else "" for path in encoded.dictionary.to_pylist()]
    return pa.array([folder or otherwise for folder in folders], pa.large_string()).take(encoded.indices)


def _mended(block: bytes, file: Path, first: int) -> bytes:
    """The lines without NaN and infinity, which JSON does not know; raises CorruptIndexError where one is no JSON."""
    lines = []
    for number, line in enumerate(block.removesuffix(b"\n").split(b"\n"), start=first):
        try:
            loaded = json.loads(line, parse_constant=lambda _: None)
        except (ValueError, RecursionError) as error:
            raise CorruptIndexError(f"{file}: line {number + 1}: not JSON: {error}") from None
        if not isinstance(loaded, dict):
            raise CorruptIndexError(f"{file}: line {number + 1}: not a JSON object")
        lines.append(json.dumps(loaded))
    return "\n".join([*lines, ""]).encode()
