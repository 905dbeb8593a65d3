"""The training stream: raw token files read as one long run of ids, in shuffled windows.

The files are an index's `tokenized.N`: little-endian ids, every document preceded by a separator with all
bits set. Models have no embedding for that id, so it is read as their end-of-document id. Window starts
come from a NumPy generator and depend on the seed and the stream only, never on the model, the batch size
or the device: two models trained with one seed saw the same tokens in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from memindex.errors import MemindexError

WIDTHS = ("u1", "u2", "u4")

#: Second word of the generator's seed. Sampling sequences uses other words: with one seed and equal generators the
#: sampled sequences would lie exactly where the training windows do.
_STREAM = 0x7374726D


def passes(tokens: int, length: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """First positions of the windows of one pass over a stream after the other, without end; int64, none empty.

    A pass cuts the stream, from a random offset on, into windows that share one id (the last target of one is the
    first input of the next) and shuffles them: in every pass every token is a target once, but for less than a window
    at both ends.

    Args:
        tokens: Ids of the stream, separators included; at least one window.
        length: Ids of a window.
        seed: Seed of offsets and order.
    """
    random = np.random.default_rng([seed, _STREAM])
    stride = max(1, length - 1)
    while True:
        offset = random.integers(0, min(stride, tokens - length + 1))
        cut = np.arange(offset, tokens - length + 1, stride, dtype=np.int64)
        random.shuffle(cut)
        yield cut


class TokenStream:
    """Token files, one after the other, memory-mapped.

    Args:
        files: Raw little-endian ids of one dtype.
        dtype: NumPy code of the ids: u1, u2 or u4.
        eos_token_id: The id that stands for a separator.

    Raises:
        MemindexError: No file, a file that can't be read, or one whose size is no multiple of the id's width.
    """

    def __init__(self, files: Sequence[Path], dtype: str, eos_token_id: int) -> None:
        if dtype not in WIDTHS:
            raise MemindexError(f"unknown token dtype {dtype!r}; known: {', '.join(WIDTHS)}")
        if not files:
            raise MemindexError("there are no token files to train on")
        self._dtype = np.dtype(f"<{dtype}")
        self._eos = eos_token_id
        self._maps = [self._open(Path(file)) for file in files]
        self._ends = np.cumsum([len(m) for m in self._maps])

    def __len__(self) -> int:
        """Ids in all files, separators included."""
        return int(self._ends[-1])

    def _open(self, file: Path) -> npt.NDArray[Any]:
        try:
            size = file.stat().st_size
            if size % self._dtype.itemsize:
                raise MemindexError(f"{file}: {size} bytes are no whole number of {self._dtype.itemsize}-byte ids")
            # An empty file can't be mapped.
            return np.memmap(file, dtype=self._dtype, mode="r") if size else np.empty(0, dtype=self._dtype)
        except OSError as error:
            raise MemindexError(f"{file}: {error.strerror or error}") from None

    def starts(self, windows: int, length: int, seed: int) -> npt.NDArray[np.int64]:
        """First positions of `windows` windows of `length` ids, pass after pass; int64 of shape (windows,).

        See `passes`. More windows with the same seed begin with the same ones. MemindexError when the stream is too
        short.
        """
        if len(self) < length:
            raise MemindexError(
                f"the corpus has {len(self)} tokens, fewer than one window of {length}; "
                "train on more text or with a shorter context"
            )
        found: list[npt.NDArray[np.int64]] = []
        of_pass = passes(len(self), length, seed)
        while sum(map(len, found)) < windows:
            found.append(next(of_pass))
        return np.concatenate(found)[:windows]

    def parts(self, most: int = 1 << 24) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
        """All ids, separators replaced, at most so many at a time: (position of the first, int32 ids)."""
        for end, mapped in zip(self._ends, self._maps, strict=True):
            for first in range(0, len(mapped), most):
                some = mapped[first : first + most]
                ids = np.where(some == np.iinfo(self._dtype).max, self._eos, some).astype(np.int32)
                yield int(end) - len(mapped) + first, ids

    def windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """The ids of the windows, separators replaced; int64 of shape (len(starts), length)."""
        positions = starts[:, None] + np.arange(length)
        files = np.searchsorted(self._ends, positions, side="right")
        ids = np.empty(positions.shape, dtype=np.int64)
        for number in np.unique(files):
            mapped = self._maps[number]
            here = files == number
            ids[here] = mapped[positions[here] - (self._ends[number] - len(mapped))]
        ids[ids == np.iinfo(self._dtype).max] = self._eos
        return ids
