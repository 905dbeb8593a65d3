"""Folders of text or source files: one document a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from memindex.corpus.documents import BATCH_BYTES, SCHEMA, BadDocuments, BytesRead, SourceFile


def read_text(sources: Iterable[SourceFile], bad: BadDocuments, read: BytesRead) -> Iterator[pa.RecordBatch]:
    """Yield the files as documents; a file that is not UTF-8 is a bad document."""
    files: list[SourceFile] = []
    texts: list[bytes] = []
    size = 0
    for source in sources:
        text = source.file.read_bytes()
        read.finish(len(text))
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            bad.report(str(source.file), f"not UTF-8 text (byte {error.start})")
            continue
        files.append(source)
        texts.append(text)
        size += len(text)
        if size >= BATCH_BYTES:
            yield _batch(files, texts)
            files, texts, size = [], [], 0
    if files:
        yield _batch(files, texts)


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
