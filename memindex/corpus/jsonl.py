"""JSON lines (.jsonl, .json, .ndjson), plain or packed: one document a line.

Blocks of whole lines are parsed by the compiled core; a file is never in memory as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex import _core
from memindex.corpus.documents import (
    BATCH_BYTES,
    LONGEST_DOCUMENT,
    SCHEMA,
    TOKENS_SCHEMA,
    BadDocuments,
    BytesRead,
    ReadOptions,
    SourceFile,
    large_binary,
    repeat,
)
from memindex.corpus.streams import chunks
from memindex.errors import CorpusError

#: A line that is longer than this is no document.
LONGEST_LINE = LONGEST_DOCUMENT

#: Windows programs write it at the start of a file; it belongs to no document.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: Escapes of JSON as they follow each other; the group is half of a surrogate pair.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def read_jsonl(
    source: SourceFile, options: ReadOptions, bad: BadDocuments, read: BytesRead
) -> Iterator[pa.RecordBatch]:
    """Yield the documents of one file; raises CorpusError with file and line."""
    tokenized: bool | None = None
    for line, block in _blocks(source, bad, read):
        texts, tokens, tokenized, domains, metadata, lines, wrong = _core.parse_jsonl(
            block, options.text_field, options.domain_field, line, tokenized
        )
        for number, reason in wrong:
            bad.report(f"{source.file}:{number}", reason)
        rows = len(lines)
        labels = (
            large_binary(*domains, pa.large_string())
            if options.domain_field
            else repeat(source.folder, rows, pa.large_string())
        )
        yield pa.record_batch(
            [
                _ids(*tokens) if tokenized else large_binary(*texts, pa.large_binary()),
                labels,
                repeat(source.name, rows, pa.string()),
                pa.array(lines),
                large_binary(_without_halves(metadata[0]), metadata[1], pa.large_string()),
            ],
            schema=TOKENS_SCHEMA if tokenized else SCHEMA,
        )


def _ids(values: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64]) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def _blocks(source: SourceFile, bad: BadDocuments, read: BytesRead) -> Iterator[tuple[int, bytes]]:
    """The number of a line, and whole lines from there, about BATCH_BYTES at a time; no line beyond LONGEST_LINE."""
    held: list[bytes] = []
    line, size, dropping = 1, 0, False
    try:
        for data in chunks(source, read, BATCH_BYTES):
            start = 0
            if dropping:
                start = data.find(b"\n") + 1
                if start == 0:
                    continue
                line, dropping = line + 1, False
            end = data.rfind(b"\n") + 1
            if end > start:
                block = b"".join((*held, data[start:end]))
                yield line, block
                line += block.count(b"\n")
                held, size, start = [], 0, end
            if start < len(data):
                held.append(data[start:])
                size += len(data) - start
            if size > LONGEST_LINE:
                bad.report(f"{source.file}:{line}", f"the line is longer than {LONGEST_LINE >> 20} MiB")
                held, size, dropping = [], 0, True
    except CorpusError as error:
        yield from _up_to_damage(source, error, line, b"".join(held))
    if held:
        yield line, b"".join(held)


def _up_to_damage(source: SourceFile, error: CorpusError, line: int, last: bytes) -> Iterator[tuple[int, bytes]]:
    """The line before the damage, if only its end is missing; then the error, with the line that was read up to."""
    if not str(error).startswith(f"{source.file}: can't"):
        raise error
    if _is_object(last):
        yield line, last
        line += 1
    raise (CorpusError(f"{error}; it was read up to line {line - 1}") if line > 1 else error) from None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _without_halves(metadata: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Metadata with U+FFFD, which is as long, for halves of surrogate pairs: one would make SQL refuse all of them."""
    raw = metadata.tobytes()
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return metadata
    whole = _ESCAPES.sub(lambda escape: b"\\ufffd" if escape[1] else escape[0], raw)
    return np.frombuffer(whole, dtype=np.uint8)
