"""Windows of packed files: how much memory unpacking takes, as the header of a zstd frame or of an xz stream says."""

from __future__ import annotations

from typing import NamedTuple

from memindex.errors import MemindexError

#: A zstd window up to this is part of what any process takes: `zstd -1` to `-19` make no larger one.
ORDINARY = 8 << 20

#: The largest window that zstd unpacks.
LARGEST = 1 << 31

_ZSTD = b"\x28\xb5\x2f\xfd"
_XZ = b"\xfd7zXZ\0"
_LZMA2 = 0x21


class WindowError(MemindexError):
    """Unpacking a file takes more memory than there is for it; `need` is the size of its window in bytes.

    The file may be whole: this is not a bad document, and --skip-bad does not skip it.
    """

    def __init__(self, message: str, need: int = 0) -> None:
        super().__init__(message)
        self.need = need


class Window(NamedTuple):
    """What the header of a frame asks for: bytes of memory, and the number of the dictionary it was packed with."""

    bytes: int
    dictionary: int = 0


def window_of(head: bytes) -> Window:
    """The window of the zstd frame, xz stream or LZMA file that begins with these bytes; of others, none (0 bytes)."""
    try:
        if head.startswith(_ZSTD):
            return _zstd(head)
        if head.startswith(_XZ):
            return Window(_xz(head))
    except IndexError:
        # It ends in its header; whoever unpacks it will say so.
        return Window(0)
    return Window(int.from_bytes(head[1:5], "little") if head.startswith(b"]\0\0") else 0)


def _zstd(head: bytes) -> Window:
    """RFC 8878, 3.1.1.1: a descriptor, then the window, the dictionary and the size of the content."""
    descriptor, at, window = head[4], 5, 0
    single = descriptor >> 5 & 1
    if not single:
        base = 1 << 10 + (head[at] >> 3)
        window = base + base // 8 * (head[at] & 7)
        at += 1
    width = (0, 1, 2, 4)[descriptor & 3]
    dictionary = int.from_bytes(_part(head, at, width), "little")
    at += width
    width = (single, 2, 4, 8)[descriptor >> 6]
    content = int.from_bytes(_part(head, at, width), "little") + (256 if width == 2 else 0)
    if width:
        # No more is held than the content.
        window = content if single else min(window, content)
    return Window(window, dictionary)


def _xz(head: bytes) -> int:
    """The dictionary of the first block: its header has a size, flags, two optional sizes, and the filters."""
    if head[12] == 0:
        return 0
    flags, at = head[13], 14
    for flag in (0x40, 0x80):
        if flags & flag:
            _, at = _number(head, at)
    for _ in range((flags & 3) + 1):
        kind, at = _number(head, at)
        size, at = _number(head, at)
        if kind == _LZMA2:
            bits = head[at] & 0x3F
            return (1 << 32) - 1 if bits >= 40 else (2 | bits & 1) << bits // 2 + 11
        at += size
    return 0


def _number(head: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and the place behind it."""
    value = shift = 0
    while True:
        byte = head[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _part(head: bytes, at: int, width: int) -> bytes:
    if at + width > len(head):
        raise IndexError
    return head[at : at + width]
