"""JSON lines, plain or compressed (.jsonl, .json, with .gz, .zst): one document a line.

Blocks of whole lines are parsed by the compiled core; a file is never in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from memindex import _core
from memindex.corpus.documents import BATCH_BYTES, SCHEMA, BadDocuments, BytesRead, SourceFile, large_binary, repeat
from memindex.errors import CorpusError

#: A line that is longer than this is taken for a damaged file.
LONGEST_LINE = 1 << 30

#: Windows programs write it at the start of a file; it belongs to no document.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_jsonl(
    source: SourceFile, text_field: str, domain_field: str | None, bad: BadDocuments, read: BytesRead
) -> Iterator[pa.RecordBatch]:
    """Yield the documents of one file; raises CorpusError with file and line."""
    line = 1
    for block in _blocks(source, read):
        if line == 1:
            block = block.removeprefix(BYTE_ORDER_MARK)  # noqa: PLW2901
        texts, domains, metadata, lines, wrong = _core.parse_jsonl(block, text_field, domain_field, line)
        for number, reason in wrong:
            bad.report(f"{source.file}:{number}", reason)
        rows = len(lines)
        labels = (
            large_binary(*domains, pa.large_string())
            if domain_field
            else repeat(source.folder, rows, pa.large_string())
        )
        yield pa.record_batch(
            [
                large_binary(*texts, pa.large_binary()),
                labels,
                repeat(source.name, rows, pa.string()),
                pa.array(lines),
                large_binary(*metadata, pa.large_string()),
            ],
            schema=SCHEMA,
        )
        line += block.count(b"\n")


def _blocks(source: SourceFile, read: BytesRead) -> Iterator[bytes]:
    """Whole lines, about BATCH_BYTES at a time."""
    rest = b""
    for data in _chunks(source, read):
        end = data.rfind(b"\n") + 1
        if end == 0:
            rest += data
            if len(rest) > LONGEST_LINE:
                raise CorpusError(f"{source.file}: a line is longer than {LONGEST_LINE >> 20} MiB")
            continue
        yield rest + data[:end]
        rest = data[end:]
    if rest:
        yield rest


def _chunks(source: SourceFile, read: BytesRead) -> Iterator[bytes]:
    compression = {".gz": "gzip", ".zst": "zstd"}.get(source.file.suffix.lower())
    if compression and source.file.stat().st_size == 0:
        # Nothing compresses to nothing: this is what a download that failed leaves.
        raise CorpusError(f"{source.file}: can't be decompressed: the file is empty")
    try:
        with pa.OSFile(str(source.file)) as raw, pa.input_stream(raw, compression=compression) as stream:
            while data := stream.read(BATCH_BYTES):
                read.inside = raw.tell()
                yield data
    except OSError as error:
        if error.errno is not None:
            raise
        # Arrow reports damaged compression as an OSError without errno.
        raise CorpusError(f"{source.file}: can't be decompressed: {error}") from None
