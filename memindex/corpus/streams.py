"""Bytes of corpus files, unpacked while they are read: local or remote, plain, gzip or zstd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from memindex.corpus.documents import BytesRead, SourceFile
from memindex.corpus.remote import Location
from memindex.errors import CorpusError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}

#: Packed files are unpacked in steps of so many bytes: those of the step that meets the damage are lost.
UNPACKED_STEP = 4096

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
        # As bytes: a name need not be UTF-8.
        with pa.OSFile(os.fsencode(location)) as raw:
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
    with arrow_file(source.file) as raw, pa.input_stream(raw, compression=compression) as stream:
        for data in _whole(source, stream, size) if compression else iter(lambda: stream.read(size), b""):
            read.inside = raw.tell()
            unpacked += len(data)
            yield cast(bytes, data)
    if compression and not unpacked and not read.inside and not isinstance(source.file, Path):
        raise CorpusError(f"{source.file}: can't be decompressed: the file is empty")


def _whole(source: SourceFile, stream: pa.NativeFile, size: int) -> Iterator[bytes]:
    """What a packed stream holds, `size` bytes at a time; before the error, what was unpacked until then."""
    steps: list[bytes] = []
    held = 0
    try:
        while step := stream.read(min(size, UNPACKED_STEP)):
            steps.append(step)
            held += len(step)
            if held >= size:
                whole, steps, held = b"".join(steps), [], 0
                yield whole
    except OSError as error:
        if error.errno is not None:
            raise
        if steps:
            yield b"".join(steps)
        # Arrow reports damaged compression as an OSError without errno.
        raise CorpusError(f"{source.file}: can't be decompressed: {error}") from None
    if steps:
        yield b"".join(steps)
