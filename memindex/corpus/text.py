"""Folders of text or source files: one document a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from memindex.corpus.documents import BATCH_BYTES, LONGEST_DOCUMENT, SCHEMA, BadDocuments, BytesRead, SourceFile
from memindex.corpus.streams import opened

#: A file that is longer than this is no document.
LONGEST_FILE = LONGEST_DOCUMENT


def read_text(sources: Iterable[SourceFile], bad: BadDocuments, read: BytesRead) -> Iterator[pa.RecordBatch]:
    """Yield the files as documents; a file that can't be read or is not UTF-8 is a bad document."""
    files: list[SourceFile] = []
    texts: list[bytes] = []
    size = 0
    for source in sources:
        text = _text_of(source, bad)
        read.finish(len(text) if text is not None else 0)
        if text is None:
            continue
        files.append(source)
        texts.append(text)
        size += len(text)
        if size >= BATCH_BYTES:
            yield _batch(files, texts)
            files, texts, size = [], [], 0
    if files:
        yield _batch(files, texts)


def _text_of(source: SourceFile, bad: BadDocuments) -> bytes | None:
    try:
        with opened(source.file) as stream:
            text = stream.read(LONGEST_FILE + 1)
    except OSError as error:
        if not bad.skip or not isinstance(source.file, Path):
            raise
        bad.report(str(source.file), error.strerror or str(error))
        return None
    if len(text) > LONGEST_FILE:
        bad.report(str(source.file), f"longer than {LONGEST_FILE >> 20} MiB")
        return None
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        bad.report(str(source.file), f"not UTF-8 text (byte {error.start})")
        return None
    return text


def _batch(files: list[SourceFile], texts: list[bytes]) -> pa.RecordBatch:
    return pa.record_batch(
        [
            pa.array(texts, type=pa.large_binary()),
            pa.array([f.folder for f in files], type=pa.large_string()),
            pa.array([f.name for f in files], type=pa.string()),
            pa.array([1] * len(files), type=pa.int64()),
            pa.array(["{}"] * len(files), type=pa.large_string()),
        ],
        schema=SCHEMA,
    )
