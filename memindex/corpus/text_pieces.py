"""Texts in pieces that a tokenizer gives the same ids as the whole: long texts cut at spaces, and digits split off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from memindex.ragged import Ragged

if TYPE_CHECKING:
    import pyarrow as pa

#: Bytes of a piece, about, and of a text that is cut.
PIECE, LONG = 1 << 16, 1 << 18

#: Bytes that are searched at a time for a place to cut.
_WINDOW = 1 << 12

#: Bytes before and behind a place that decide whether it is one.
_AROUND = 3

#: int64 of shape (n,).
Places = npt.NDArray[np.int64]


def cut(texts: pa.Array, where: str) -> tuple[pa.Array, Places]:
    """Texts with those longer than LONG cut into pieces of about PIECE bytes.

    Before a cut is printable ASCII or an ideograph, and behind it a space, a line break or a full stop. No expression
    of `fast_tokenizer.SPLITS` matches across such a place, and NFC changes nothing across it.

    Args:
        texts: Arrow array (large_binary, UTF-8).
        where: "keep": before a space or, behind a letter, digit or ideograph, a line break or full stop; "space":
            before a space; "drop": at a space between letters, which is left out.

    Returns:
        The pieces, and the number of the first piece of each text, int64 of shape (texts + 1,).
    """
    offsets = _offsets(texts)
    long = np.flatnonzero(np.diff(offsets) > LONG)
    if not where or not len(long):
        return texts, np.arange(len(texts) + 1, dtype=np.int64)
    data = np.frombuffer(texts.buffers()[2], dtype=np.uint8)
    places = [_places(data[offsets[row] : offsets[row + 1]], where) + offsets[row] for row in long]
    inside = np.concatenate(places) if places else np.empty(0, dtype=np.int64)
    if where == "drop":
        # Without the spaces, what follows each moves forward.
        data, offsets = np.delete(data, inside), offsets - np.searchsorted(inside, offsets)
        inside = inside - np.arange(len(inside))
    return _pieces(data, offsets, inside)


def split_digits(texts: pa.Array, which: str) -> tuple[pa.Array, Places]:
    """Texts with the digits 0 to 9 split off.

    Args:
        texts: Arrow array (large_binary, UTF-8).
        which: "each": every digit is a piece; "runs": digits that follow each other are one.

    Returns:
        As `cut`.
    """
    offsets = _offsets(texts)
    buffer = texts.buffers()[2]
    data = np.frombuffer(buffer, dtype=np.uint8) if buffer is not None else np.empty(0, dtype=np.uint8)
    part = data[offsets[0] : offsets[-1]]
    digit = (part >= ord("0")) & (part <= ord("9"))
    edge = digit[1:] | digit[:-1] if which == "each" else digit[1:] != digit[:-1]
    return _pieces(data, offsets, np.flatnonzero(edge) + 1 + offsets[0])


def joined(pieces: Ragged, first: Places) -> Ragged:
    """The ids of texts from those of their pieces; `first` as `cut` returns it."""
    return Ragged(pieces.values, pieces.offsets[first])


def content(texts: pa.Array) -> bytes:
    """The bytes of all texts, one after the other."""
    offsets = _offsets(texts)
    buffer = texts.buffers()[2]
    return b"" if buffer is None else bytes(buffer.slice(int(offsets[0]), int(offsets[-1] - offsets[0])).to_pybytes())


def _pieces(data: npt.NDArray[np.uint8], offsets: Places, inside: Places) -> tuple[pa.Array, Places]:
    import pyarrow as pa

    ends = np.unique(np.concatenate([offsets, inside]))
    buffers = [None, pa.py_buffer(np.ascontiguousarray(ends)), pa.py_buffer(data)]
    pieces = pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, buffers)
    return pieces, np.searchsorted(ends, offsets)


def _places(text: npt.NDArray[np.uint8], where: str) -> Places:
    """Where a text is cut: the numbers of the bytes that a piece begins with, or of the spaces that are left out."""
    places = []
    at = PIECE
    while at < len(text) - _AROUND:
        window = text[at - _AROUND : at + _WINDOW + _AROUND]
        found = np.flatnonzero(_may_cut(window, where))
        if len(found):
            places.append(at + found[0])
            at += int(found[0]) + PIECE
        else:
            at += len(window) - 2 * _AROUND
    return np.array(places, dtype=np.int64)


def _may_cut(window: npt.NDArray[np.uint8], where: str) -> npt.NDArray[np.bool_]:
    """Whether a text may be cut before each byte of a window but _AROUND at each end; bool."""
    before, after, behind = window[2:-3], window[3:-2], window[4:-1]
    space = after == ord(" ")
    if where == "drop":
        cuts: npt.NDArray[np.bool_] = space & _is_letter(before) & _is_letter(behind)
        return cuts[: len(window) - 2 * _AROUND]
    cuts = space & (before > ord(" ")) & (before < 0x7F)
    if where == "keep":
        digit = (before >= ord("0")) & (before <= ord("9"))
        cuts |= (after == ord("\n")) & (_is_letter(before) | digit)
        # UTF-8 of U+5000 to U+8FFF begins with these bytes; and the full stop and comma of Chinese.
        ideograph = (window[:-5] >= 0xE5) & (window[:-5] <= 0xE8)
        stop = (after == 0xE3) & (behind == 0x80) & (window[5:] == 0x82)
        comma = (after == 0xEF) & (behind == 0xBC) & (window[5:] == 0x8C)
        cuts |= ideograph & (stop | comma | (after == ord("\n")))
    return cuts[: len(window) - 2 * _AROUND]


def _is_letter(byte: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    upper = byte & 0xDF
    letters: npt.NDArray[np.bool_] = (upper >= ord("A")) & (upper <= ord("Z"))
    return letters


def _offsets(texts: pa.Array) -> Places:
    buffer = texts.buffers()[1]
    if not len(texts) or buffer is None:
        return np.zeros(1, dtype=np.int64)
    return np.frombuffer(buffer, dtype=np.int64, count=len(texts) + 1, offset=8 * texts.offset)
