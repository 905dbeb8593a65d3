"""Bytes of corpus files, unpacked while they are read: local or remote, plain or packed in any way `packing` knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from memindex.corpus.documents import BytesRead, SourceFile
from memindex.corpus.packing import CUT, READ, SUFFIXES, DamageError, RawFile, is_cut, packing_of, unpacked
from memindex.corpus.remote import Location
from memindex.corpus.signatures import HEAD, looks_like_text, not_lines
from memindex.corpus.windows import WindowError, window_of
from memindex.errors import CorpusError, MemindexError

__all__ = ["CUT", "arrow_file", "chunks", "content", "first_window", "opened"]


@contextmanager
def opened(location: Location) -> Iterator[BinaryIO]:
    """A stream of the bytes of a file as they are stored."""
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
    """The unpacked bytes of a file of lines or records, about `size` at a time.

    Raises:
        CorpusError: Its packing is damaged, after all that could be unpacked; or it is something else, e.g. an archive.
        WindowError: Unpacking takes more memory than `read` grants.
    """
    first = True
    for chunk in _chunks(source, read, size):
        if first and (what := not_lines(chunk[:HEAD])):
            raise CorpusError(f"{source.file}: {what}")
        first = False
        yield chunk


def content(source: SourceFile, read: BytesRead, most: int) -> bytes:
    """The unpacked bytes of a small file; of one with more than `most`, more than `most` of them.

    `read.inside` is set to the bytes of the file that were read. Errors as of `chunks`.
    """
    with ExitStack() as stack:
        raw = RawFile(stack.enter_context(opened(source.file)))
        head = raw.peek(HEAD)
        if packing_of(head) is None:
            _check_plain(source, head)
            # A small file was read whole by now.
            whole = head if len(head) < HEAD else raw.read_all(most + 1)
            read.inside = len(whole)
            return whole
        pieces: list[bytes] = []
        left = most
        for piece in _unpacked(source, raw, stack, read, READ):
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                break
        read.inside = raw.at
        return b"".join(pieces)


def first_window(source: SourceFile) -> int:
    """Bytes of memory that the window of a packed file takes, as far as its first member tells; 0 for other files."""
    with opened(source.file) as stream:
        return window_of(stream.read(HEAD)).bytes


def _chunks(source: SourceFile, read: BytesRead, size: int) -> Iterator[bytes]:
    with ExitStack() as stack:
        raw = RawFile(stack.enter_context(opened(source.file)))
        head = raw.peek(HEAD)
        if packing_of(head) is None:
            _check_plain(source, head)
            pieces = iter(lambda: raw.read(size), b"")
        else:
            pieces = _unpacked(source, raw, stack, read, size)
        for chunk in _joined(pieces, size):
            read.inside = raw.at
            yield chunk


def _check_plain(source: SourceFile, head: bytes) -> None:
    """Raise CorpusError for a file that its name says is packed and that is neither packed nor text."""
    suffix = Path(source.file.name).suffix.lower()
    if suffix not in SUFFIXES:
        return
    # Nothing compresses to nothing: an empty file is what a download that failed leaves.
    why = "the file is empty" if not head else CUT if is_cut(head) else f"it is not packed as {suffix} says"
    if not head or is_cut(head) or not looks_like_text(head):
        raise CorpusError(f"{source.file}: can't be decompressed: {why}")


def _unpacked(source: SourceFile, raw: RawFile, stack: ExitStack, read: BytesRead, size: int) -> Iterator[bytes]:
    """The pieces of a packed file, with errors that name it."""

    def reopened(place: int) -> RawFile:
        again = RawFile(stack.enter_context(opened(source.file)))
        again.skip(place)
        return again

    try:
        yield from unpacked(raw, reopened, size, read.most_window)
    except DamageError as damage:
        raise CorpusError(f"{source.file}: can't be decompressed: {damage.reason}") from None
    except WindowError as error:
        raise WindowError(f"{source.file}: {error}", error.need) from None
    except MemoryError:
        raise MemindexError(f"{source.file}: there is not enough memory to unpack it") from None


def _joined(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The pieces, joined to `size` bytes or more; what came before an error comes before it."""
    held: list[bytes] = []
    length = 0
    try:
        for piece in pieces:
            held.append(piece)
            length += len(piece)
            if length >= size:
                whole = b"".join(held)
                held, length = [], 0
                yield whole
    except (CorpusError, OSError):
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)
