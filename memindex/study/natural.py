"""Natural windows: those of a corpus that stand in no planted document.

How often a planted text stands in the corpus was set, so samples that tell what frequency does in a corpus as it came
about leave its windows out, wherever they stand, and what a corpus holds at each frequency is told without them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from memindex.index.index import Index
from memindex.ragged import from_matrix

#: Frequency buckets at most: counts are below 2^64.
_BUCKETS = 64

IntArray = npt.NDArray[np.integer]


def are_among(windows: IntArray, others: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Whether each row of ids stands among other rows; bool of shape (windows,).

    Args:
        windows: Ids of shape (windows, length), of any integer dtype; their low 32 bits count.
        others: int32 of shape (others, length).
    """
    if not len(others):
        return np.zeros(len(windows), dtype=bool)
    return np.isin(_keys(windows.astype(np.int32)), _keys(others))


def _keys(rows: npt.NDArray[np.int32]) -> npt.NDArray[np.void]:
    """Each row as one value."""
    found: npt.NDArray[np.void] = np.ascontiguousarray(rows).view(np.dtype((np.void, 4 * rows.shape[1])))[:, 0]
    return found


def bucket_contents(index: Index, windows: npt.NDArray[np.int32]) -> dict[int, tuple[int, int]]:
    """What some distinct windows are of each frequency bucket: bucket -> (distinct windows, their occurrences).

    Args:
        index: The index that they are counted in; those that it does not hold are of no bucket.
        windows: int32 of shape (windows, length), each once.

    Raises:
        QueryError: An id that the index can't hold.
    """
    counts = index.count(from_matrix(windows)).astype(np.int64)
    counts = counts[counts > 0]
    # The exponent of a float64 is exact below 2^53.
    bucket = np.frexp(counts.astype(np.float64))[1] - 1
    distinct, occurrences = np.bincount(bucket, minlength=_BUCKETS), np.zeros(_BUCKETS, dtype=np.int64)
    np.add.at(occurrences, bucket, counts)
    return {b: (int(distinct[b]), int(occurrences[b])) for b in np.unique(bucket).tolist()}


def cut(bucket: IntArray, most: int, seed: Iterable[int]) -> npt.NDArray[np.intp]:
    """At most so many rows of each bucket (any whole numbers), drawn uniformly; their numbers, ascending."""
    shares = np.random.default_rng(list(seed)).random(len(bucket))
    order = np.lexsort((shares, bucket))
    first = np.searchsorted(bucket[order], bucket[order])
    return np.sort(order[np.arange(len(order)) - first < most])
