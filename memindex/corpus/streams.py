"""Bytes of corpus files, unpacked while they are read: local or remote, plain, gzip or zstd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from memindex.corpus.documents import BytesRead, SourceFile
from memindex.corpus.remote import Location
from memindex.errors import CorpusError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}

#: What a reader that ends before the end of its file raises.
CUT = "the file ends too early"


@contextmanager
def opened(location: Location) -> Iterator[BinaryIO]:
    """A stream of the bytes of a file as they lie there."""
    if isinstance(location, Path):
        with location.open("rb") as stream:
            yield stream
    else:
        with location.open() as stream:
            yield stream


@contextmanager
def arrow_file(location: Location) -> Iterator[pa.NativeFile]:
    """A file as Arrow reads it; a remote one goes through Python."""
    if isinstance(location, Path):
        with pa.OSFile(str(location)) as raw:
            yield raw
    else:
        with location.open() as stream, pa.PythonFile(stream, mode="r") as raw:
            yield raw


def chunks(source: SourceFile, read: BytesRead, size: int) -> Iterator[bytes]:
    """The unpacked bytes of a file, `size` at a time; CorpusError where its packing is damaged."""
    compression = COMPRESSIONS.get(Path(source.file.name).suffix.lower())
    if compression and isinstance(source.file, Path) and source.file.stat().st_size == 0:
        # Nothing compresses to nothing: this is what a download that failed leaves.
        raise CorpusError(f"{source.file}: can't be decompressed: the file is empty")
    unpacked = 0
    try:
        with arrow_file(source.file) as raw, pa.input_stream(raw, compression=compression) as stream:
            while data := stream.read(size):
                read.inside = raw.tell()
                unpacked += len(data)
                yield cast(bytes, data)
    except OSError as error:
        if error.errno is not None:
            raise
        # Arrow reports damaged compression as an OSError without errno.
        raise CorpusError(f"{source.file}: can't be decompressed: {error}") from None
    if compression and not unpacked and not read.inside and not isinstance(source.file, Path):
        raise CorpusError(f"{source.file}: can't be decompressed: the file is empty")
