"""Folders of text or source files, which may be packed: one document a file."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from memindex.corpus.documents import BATCH_BYTES, LONGEST_DOCUMENT, SCHEMA, BadDocuments, BytesRead, SourceFile
from memindex.corpus.signatures import not_text
from memindex.corpus.streams import content
from memindex.errors import CorpusError

#: A file that is longer than this is no document.
LONGEST_FILE = LONGEST_DOCUMENT


def read_text(sources: Iterable[SourceFile], bad: BadDocuments, read: BytesRead) -> Iterator[pa.RecordBatch]:
    """Yield the files as documents; a file that can't be read or is not UTF-8 is a bad document."""
    files: list[SourceFile] = []
    texts: list[bytes] = []
    size = 0
    for source in sources:
        text = _text_of(source, bad, read)
        read.finish(read.inside)
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


def _text_of(source: SourceFile, bad: BadDocuments, read: BytesRead) -> bytes | None:
    try:
        text = content(source, read, LONGEST_FILE)
    except CorpusError as error:
        if not bad.skip:
            raise
        bad.note(str(error))
        return None
    except OSError as error:
        if not bad.skip or not isinstance(source.file, Path):
            raise
        bad.report(str(source.file), error.strerror or str(error))
        return None
    if len(text) > LONGEST_FILE:
        bad.report(str(source.file), f"longer than {LONGEST_FILE >> 20} MiB")
        return None
    if reason := not_text(source.file.name, text):
        bad.report(str(source.file), reason)
        return None
    # Windows programs write it; it says only that the file is UTF-8.
    return text.removeprefix(codecs.BOM_UTF8)


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
