"""Ragged token arrays: the batch form that crosses every station (values + offsets).

Row i of a ragged array is `values[offsets[i]:offsets[i + 1]]`; this is the layout of an Arrow list array, so
both directions between the two are free of copies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from memindex.errors import QueryError

if TYPE_CHECKING:
    import pyarrow as pa

IntArray = npt.NDArray[Any]


class Ragged(NamedTuple):
    """A batch of token sequences of any lengths.

    Attributes:
        values: All ids, one row after the other; 1-D, an integer dtype.
        offsets: int64, rows + 1 entries, ascending from 0 to len(values).
    """

    values: IntArray
    offsets: npt.NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Number of sequences."""
        return len(self.offsets) - 1

    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per sequence, int64 of shape (rows,)."""
        return np.diff(self.offsets)

    def row(self, i: int) -> IntArray:
        """The ids of sequence i (a view)."""
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def slice(self, start: int, stop: int) -> Ragged:
        """The sequences from `start` up to `stop`, which may lie behind the last (views, but for the offsets)."""
        offsets = self.offsets[start : stop + 1]
        return Ragged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    def take(self, rows: npt.NDArray[np.intp]) -> Ragged:
        """The sequences of these numbers, in their order."""
        lengths = self.lengths()[rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return Ragged(self.values[places], offsets)

    def replace(self, rows: npt.NDArray[np.intp], by: Ragged) -> Ragged:
        """The same batch with other sequences in a few rows.

        Args:
            rows: The numbers of the rows, ascending; int64 of shape (replaced,).
            by: Their sequences.
        """
        edges = [0, *rows.tolist()]
        parts: list[IntArray] = []
        for number, row in enumerate(rows.tolist()):
            before = edges[number] + (number > 0)
            parts += [self.values[self.offsets[before] : self.offsets[row]], by.row(number)]
        parts.append(self.values[self.offsets[edges[-1] + (len(rows) > 0)] :])
        lengths = self.lengths()
        lengths[rows] = by.lengths()
        return Ragged(np.concatenate(parts), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def from_lists(rows: Iterable[Sequence[int]]) -> Ragged:
    """A ragged array from Python sequences of ids."""
    listed = list(rows)
    offsets = np.zeros(len(listed) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in listed], out=offsets[1:])
    values = np.fromiter(chain.from_iterable(listed), dtype=np.int64, count=int(offsets[-1]))
    return Ragged(values, offsets)


def from_matrix(matrix: IntArray) -> Ragged:
    """A ragged array from ids of shape (rows, length); a view of `matrix` when that is contiguous."""
    if matrix.ndim != 2:
        raise QueryError(f"expected ids of shape (rows, length), got shape {matrix.shape}")
    rows, length = matrix.shape
    return Ragged(matrix.reshape(-1), np.arange(rows + 1, dtype=np.int64) * length)


def from_arrow(array: pa.Array | pa.ChunkedArray) -> Ragged:
    """A ragged array from an Arrow list, large-list or fixed-size-list array of integers without nulls."""
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if array.null_count:
        raise QueryError("a list of queries contains NULL; filter it out first")
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(array.type) for is_kind in kinds):
        raise QueryError(f"an Arrow array of queries must be of lists of token ids, not {array.type}")
    if not pa.types.is_integer(array.type.value_type):
        raise QueryError(f"token ids must be whole numbers, not {array.type.value_type}")
    if pa.types.is_fixed_size_list(array.type):
        offsets = np.arange(len(array) + 1, dtype=np.int64) * array.type.list_size
        values = array.flatten()
    else:
        offsets = array.offsets.to_numpy().astype(np.int64)
        values = array.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
        offsets = offsets - offsets[0]
    if values.null_count:
        raise QueryError("a query contains a NULL token id")
    return Ragged(values.to_numpy(), offsets)


def to_arrow(ragged: Ragged) -> pa.Array:
    """The same batch as an Arrow list<int32> array (the type of every token column in the tables)."""
    import pyarrow as pa

    values = pa.array(ragged.values.astype(np.int32, copy=False))
    return pa.ListArray.from_arrays(pa.array(ragged.offsets.astype(np.int32)), values)


def stacked(parts: Sequence[Ragged]) -> Ragged:
    """The rows of all parts, one part after the other; at least one part."""
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([0, *(part.offsets[-1] for part in parts)])
    offsets = [part.offsets[1:] + end for part, end in zip(parts, ends, strict=False)]
    return Ragged(
        np.concatenate([part.values for part in parts]), np.concatenate([np.zeros(1, dtype=np.int64), *offsets])
    )


def concatenated(first: Ragged, second: Ragged) -> Ragged:
    """Each row of `first` with the same row of `second` behind it."""
    offsets = first.offsets + second.offsets
    if first.rows and all((rows.lengths() == rows.offsets[1]).all() for rows in (first, second)):
        # Rows of one length, which nearly all are: an eighth of the time.
        parts = [rows.values.reshape(rows.rows, -1) for rows in (first, second)]
        return Ragged(np.concatenate(parts, axis=1).reshape(-1), offsets)
    values = np.empty(len(first.values) + len(second.values), dtype=np.result_type(first.values, second.values))
    values[np.arange(len(first.values)) + np.repeat(second.offsets[:-1], first.lengths())] = first.values
    values[np.arange(len(second.values)) + np.repeat(first.offsets[1:], second.lengths())] = second.values
    return Ragged(values, offsets)
