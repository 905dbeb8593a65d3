"""WET files of Common Crawl (.wet, .warc.wet, .warc, plain or packed): one document a record.

Documents are the records that hold text (WARC-Type `conversion`, WARC/1.0, ISO 28500); what describes the file is left
out. WARC files of web pages as they were fetched are refused: taking text out of HTML is a decision of its own.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator

import pyarrow as pa

from memindex.corpus.documents import (
    BATCH_BYTES,
    LONGEST_DOCUMENT,
    SCHEMA,
    BadDocuments,
    BytesRead,
    ReadOptions,
    SourceFile,
    repeat,
)
from memindex.corpus.streams import CUT, chunks
from memindex.errors import CorpusError

#: Headers of a record are not longer than this, in bytes.
LONGEST_HEADER = 1 << 20

#: Records that hold pages rather than their text.
PAGES = ("response", "resource")


def read_warc(source: SourceFile, options: ReadOptions, bad: BadDocuments, read: BytesRead) -> Iterator[pa.RecordBatch]:
    """Yield the documents of one file; `line` is the number of the record. Raises CorpusError with file and record."""
    batch, pages = _Batch(source), 0
    try:
        for number, headers, content in _records(source, bad, read):
            kind = headers.get("warc-type", "")
            pages += kind in PAGES
            if kind == "conversion":
                _add(batch, content, number, headers, options, bad)
            if batch.size >= BATCH_BYTES:
                yield batch.take()
    except CorpusError:
        # With --skip-bad the records before the damage are kept.
        if batch.rows:
            yield batch.take()
        raise
    if pages and not batch.documents:
        raise CorpusError(f"{source.file}: holds web pages, not text: take the WET files of the crawl")
    if batch.rows:
        yield batch.take()


def _add(
    batch: _Batch, content: bytes, number: int, headers: dict[str, str], options: ReadOptions, bad: BadDocuments
) -> None:
    try:
        content.decode("utf-8")
        text = content.removeprefix(codecs.BOM_UTF8)
        batch.add(text, _domain(headers, batch.source, options), number, headers)
    except ValueError as error:
        reason = f"not UTF-8 text (byte {error.start})" if isinstance(error, UnicodeDecodeError) else str(error)
        bad.report(f"{batch.source.file}: record {number}", reason)


def _domain(headers: dict[str, str], source: SourceFile, options: ReadOptions) -> str:
    if options.domain_field is None:
        return source.folder
    if options.domain_field.lower() not in headers:
        raise ValueError(f"no header {options.domain_field} (domain)")
    return headers[options.domain_field.lower()]


class _Batch:
    """Records that wait to become a batch."""

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.rows: list[tuple[bytes, str, int, str]] = []
        #: Bytes of the texts that wait, and documents so far.
        self.size = self.documents = 0

    def add(self, text: bytes, domain: str, number: int, headers: dict[str, str]) -> None:
        self.rows.append((text, domain, number, json.dumps(headers, ensure_ascii=False)))
        self.size += len(text)
        self.documents += 1

    def take(self) -> pa.RecordBatch:
        texts, domains, numbers, metadata = zip(*self.rows, strict=True)
        self.rows, self.size = [], 0
        columns = [
            pa.array(texts, pa.large_binary()),
            pa.array(domains, pa.large_string()),
            repeat(self.source.name, len(texts), pa.string()),
            pa.array(numbers, pa.int64()),
            pa.array(metadata, pa.large_string()),
        ]
        return pa.record_batch(columns, schema=SCHEMA)


def _records(source: SourceFile, bad: BadDocuments, read: BytesRead) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """Number from 1, headers (names in small letters) and content of every record that is not too long."""
    stream, number = _Stream(source, read), 0
    while stream.skip_blank_lines():
        number += 1
        place = f"{source.file}: record {number}"
        headers, length = _headers(stream.until(b"\r\n\r\n", LONGEST_HEADER, place), place)
        if length > LONGEST_DOCUMENT:
            bad.report(place, f"longer than {LONGEST_DOCUMENT >> 20} MiB")
            stream.skip(length, place)
            continue
        yield number, headers, stream.take(length, place)


def _headers(block: bytes, place: str) -> tuple[dict[str, str], int]:
    try:
        version, *lines = block.removeprefix(codecs.BOM_UTF8).decode("utf-8").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers["content-length"])
        if not version.startswith("WARC/") or length < 0:
            raise ValueError
    except (ValueError, KeyError):
        raise CorpusError(f"{place}: not a WARC record: {bytes(block[:40])!r}") from None
    return headers, length


class _Stream:
    """The unpacked bytes of a file, of which no more is held than a record and a chunk."""

    def __init__(self, source: SourceFile, read: BytesRead) -> None:
        self._chunks = chunks(source, read, BATCH_BYTES)
        self._data = b""
        self._at = 0

    def _more(self) -> bool:
        data = next(self._chunks, b"")
        self._data = self._data[self._at :] + data
        self._at = 0
        return bool(data)

    def skip_blank_lines(self) -> bool:
        """Whether anything follows the blank lines between two records."""
        while True:
            while self._data[self._at : self._at + 1] in (b"\r", b"\n"):
                self._at += 1
            if self._at < len(self._data):
                return True
            if not self._more():
                return False

    def until(self, end: bytes, most: int, place: str) -> bytes:
        while (found := self._data.find(end, self._at)) < 0:
            if len(self._data) - self._at > most:
                raise CorpusError(f"{place}: not a WARC record: {self._data[self._at : self._at + 40]!r}")
            if not self._more():
                raise CorpusError(f"{place}: {CUT}")
        block = self._data[self._at : found]
        self._at = found + len(end)
        return block

    def take(self, length: int, place: str) -> bytes:
        parts, missing = [], length
        while missing > len(self._data) - self._at:
            parts.append(self._data[self._at :])
            missing -= len(parts[-1])
            self._at = len(self._data)
            if not self._more():
                raise CorpusError(f"{place}: {CUT}")
        parts.append(self._data[self._at : self._at + missing])
        self._at += missing
        return b"".join(parts)

    def skip(self, length: int, place: str) -> None:
        while length:
            length -= len(self.take(min(length, BATCH_BYTES), place))
