"""Packed files (gzip, zstd, xz, bzip2): recognized by their first bytes, and unpacked a piece at a time.

A packed file is a row of members (of gzip; streams of xz and bzip2, frames of zstd), which are unpacked one after the
other. Zero bytes behind a member are ignored, as `gzip -d` does: tar and tapes leave them. Anything else there is
damage. What was packed before damage comes out to the last byte.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol

from memindex.corpus.windows import LARGEST, WindowError, window_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Suffixes of packed files. They say which format the file inside has; how it is packed is read from its first bytes.
SUFFIXES = (".gz", ".gzip", ".zst", ".zstd", ".xz", ".lzma", ".bz2", ".bzip2")

#: Bytes of a packed file that are fed at a time.
FED = 32 << 10

#: Bytes that are read at a time of a file that is read whole.
READ = 1 << 20

#: First bytes that are needed to recognize a packing, or the header of a zstd frame or an xz block.
HEAD = 64

#: What a reader that ends before the end of its file raises.
CUT = "the file ends too early"

_MAGIC = {
    "gzip": (b"\x1f\x8b\x08",),
    # The others are frames that hold no data; parallel zstd puts one before each of its frames.
    "zstd": (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + n, 0x2A, 0x4D, 0x18]) for n in range(16))),
    "xz": (b"\xfd7zXZ\0", b"]\0\0\x80\0", b"]\0\0\0\x01", b"]\0\0\x10\0", b"]\0\0\0\x02", b"]\0\0\0\x04"),
    "bzip2": tuple(b"BZh%d%s" % (n, magic) for n in range(1, 10) for magic in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")),
}
_PREFIXES = tuple((prefix, name) for name, prefixes in _MAGIC.items() for prefix in prefixes)
_FIRST = frozenset(prefix[0] for prefix, _ in _PREFIXES)


class DamageError(Exception):
    """A packed file is damaged: `reason` says how; the bytes up to `whole` were unpacked without an error."""

    def __init__(self, reason: str, whole: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.whole = whole


class _Unpacker(Protocol):
    """One member, as the decompressors of Python's lzma, bz2 and zstd."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the interface of the others; it also goes on with members that follow right away.

    Files of Common Crawl have a member for each record.
    """

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self.needs_input = True
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        data = self._member.unconsumed_tail or data
        pieces, room = [], max_length
        while True:
            piece = self._member.decompress(data, room)
            pieces.append(piece)
            room -= len(piece)
            if not self._member.eof:
                self.needs_input = not self._member.unconsumed_tail and room > 0
                break
            data = self._member.unused_data
            if room <= 0 or not data.startswith(_MAGIC["gzip"]):
                self.eof, self.unused_data = True, data
                break
            self._member = zlib.decompressobj(_GZIP)
        return b"".join(pieces)


def _zstd() -> Any:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 31})


_UNPACKERS: dict[str, Callable[[], Any]] = {
    "gzip": _Gzip,
    "zstd": _zstd,
    "xz": lzma.LZMADecompressor,
    "bzip2": bz2.BZ2Decompressor,
}

#: What makes zlib expect a gzip member.
_GZIP = 16 + zlib.MAX_WBITS

#: What the unpackers raise on damage.
_ERRORS = (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, ValueError, EOFError)


def packing_of(head: bytes) -> str | None:
    """How a file with these first bytes is packed: gzip, zstd, xz or bzip2; None where it is not."""
    if not head or head[0] not in _FIRST:
        return None
    return next((name for prefix, name in _PREFIXES if head.startswith(prefix)), None)


def is_cut(head: bytes) -> bool:
    """Whether a file that consists of these bytes alone ends within the first bytes of a packed file."""
    return any(prefix.startswith(head) for prefix, _ in _PREFIXES)


class RawFile:
    """The bytes of a file, the last of which can be put back."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._held = b""
        #: Of what is held, the bytes that were read; and the bytes of the file up to the end of what is held.
        self._done = self._end = 0

    @property
    def at(self) -> int:
        """The place of the next byte."""
        return self._end - len(self._held) + self._done

    def read(self, size: int) -> bytes:
        """At most so many bytes; none only at the end of the file."""
        if self._done == len(self._held):
            self._held, self._done = self._stream.read(size), 0
            self._end += len(self._held)
        data = self._held[self._done : self._done + size]
        self._done += len(data)
        return data

    def unread(self, count: int) -> None:
        """Have the last bytes of the last `read` read again."""
        self._done -= count

    def read_all(self, most: int) -> bytes:
        """At most so many bytes, fewer only at the end of the file."""
        parts, left = [], most
        while left and (data := self.read(min(left, READ))):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer only at the end of the file."""
        while len(self._held) - self._done < size and (more := self._stream.read(size)):
            self._held, self._done = self._held[self._done :] + more, 0
            self._end += len(more)
        return self._held[self._done : self._done + size]

    def skip(self, count: int) -> None:
        """Begin at this place."""
        if self._stream.seekable():
            self._stream.seek(count)
            self._end = count
        while self.at < count and self.read(min(FED, count - self.at)):
            pass

    def skip_zeros(self) -> None:
        """Go to the next byte that is not zero."""
        if self._done < len(self._held) and self._held[self._done]:
            return
        while not self.peek(1).strip(b"\0") and (data := self.read(FED)):
            self.unread(len(data.lstrip(b"\0")))


def unpacked(
    raw: RawFile, reopened: Callable[[int], RawFile], size: int, most: int | None, whole: int | None = None
) -> Iterator[bytes]:
    """The content of a packed file, in pieces of at most `size` bytes.

    Args:
        raw: The file, at the start of a member.
        reopened: Opens the file again at a place.
        size: Bytes of a piece at most.
        most: Bytes that a window of compression may take; None: any.
        whole: The place from which on bytes are fed one by one; None: no place.

    Raises:
        DamageError: The packing is damaged; all that was packed before the damage was given by then.
        WindowError: More than `most` bytes of a window are used.
        MemoryError: There is not as much memory as a window takes.
    """
    while head := raw.peek(HEAD):
        packing = packing_of(head)
        if packing is None:
            raise DamageError(f"from byte {raw.at + 1:,} on it is not packed data", raw.at)
        start, given, window = raw.at, 0, _window(head, raw.at)
        member = _UNPACKERS[packing]()
        try:
            for piece in _pieces(member, raw, size, whole):
                given += len(piece)
                # No more of a window is used than there is content.
                if most is not None and min(window, given) > most:
                    raise WindowError(f"its window of {window >> 20:,} MiB", window)
                yield piece
        except DamageError as damage:
            if whole is None and damage.reason != CUT:
                # An unpacker keeps for itself what it made of the bytes that it met the damage in. So another one is
                # fed the same, and these bytes one by one.
                del member
                yield from _behind(given, unpacked(reopened(start), reopened, size, None, damage.whole))
            raise
        raw.unread(len(member.unused_data))
        raw.skip_zeros()


def _pieces(member: _Unpacker, raw: RawFile, size: int, whole: int | None) -> Iterator[bytes]:
    """The content of one member."""
    fed, data = 0, b""
    while not member.eof:
        if member.needs_input:
            data = raw.read(FED if whole is None else max(1, min(FED, whole - raw.at)))
            fed = len(data)
            if not data:
                raise DamageError(CUT, raw.at)
        try:
            piece = member.decompress(data, size)
        except _ERRORS as error:
            if "not enough memory" in str(error):
                # zstd's; the file may be whole.
                raise MemoryError from None
            raise DamageError(_reason(error), raw.at - fed) from None
        data = b""
        if piece:
            yield piece


def _behind(given: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces up to the damage without their first `given` bytes."""
    try:
        for piece in pieces:
            if len(piece) > given:
                yield piece[given:]
            given = max(0, given - len(piece))
    except DamageError:
        return


def _reason(error: Exception) -> str:
    return str(error).removeprefix("Unable to decompress Zstandard data: ").rstrip(".") or type(error).__name__


def _window(head: bytes, place: int) -> int:
    window = window_of(head)
    if window.bytes > LARGEST and not head.startswith(_MAGIC["xz"]):
        raise DamageError(f"its window of {window.bytes:,} bytes is larger than any that zstd makes", place)
    if window.dictionary:
        raise DamageError(f"it needs the dictionary {window.dictionary} to be unpacked: zstd -d -D DICTIONARY", place)
    return window.bytes
