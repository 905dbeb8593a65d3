"""Matching: memorized sequences beside others that are as frequent, as predictable, and of the same domain.

Memorized sequences are more frequent and easier to predict than others, and more of them are code. What differs between
outcomes may come from that alone; trios of one sequence of each outcome that are alike in all three tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: How far the log-perplexities of the prefixes of a trio may be from that of its memorized one; nats per token.
CALIPER = 0.25

#: More than any floor(log2(count)).
_BUCKETS = 100


@dataclass(frozen=True)
class Traits:
    """What sequences are matched on; all (rows,).

    Attributes:
        domain: int64, a number for each domain.
        count: int64, occurrences of the sequence in the corpus; equal up to floor(log2) is alike.
        perplexity: float64, mean negative log-probability of the prefix's tokens; nats.
    """

    domain: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    perplexity: npt.NDArray[np.floating]


def match(
    traits: Traits,
    outcome: npt.NDArray[np.int_],
    allowed: npt.NDArray[np.bool_],
    order: npt.NDArray[np.int64],
    most: int,
) -> npt.NDArray[np.int64]:
    """For each row, the row of the memorized sequence whose trio it belongs to; -1 for none.

    Memorized ones take, in their order, the nearest half-memorized and the nearest unmemorized one that is left, where
    both are near enough.

    Args:
        traits: What they must be alike in.
        outcome: 0 memorized, 1 half-memorized, 2 unmemorized.
        allowed: Which rows may be taken.
        order: The memorized rows, those to be served first first.
        most: Trios, at most.
    """
    cell = traits.domain * _BUCKETS + np.where(traits.count > 0, np.log2(np.maximum(traits.count, 1)).astype(int), 99)
    pair = np.full(len(outcome), -1)
    left = {
        (which, int(number)): np.flatnonzero(allowed & (outcome == which) & (cell == number))
        for which in (1, 2)
        for number in np.unique(cell[order])
    }
    trios = 0
    for row in order.tolist():
        if trios == most:
            break
        half, none = (_nearest(traits.perplexity, left[which, int(cell[row])], row) for which in (1, 2))
        if half is None or none is None:
            continue
        for which, place in ((1, half), (2, none)):
            others = left[which, int(cell[row])]
            pair[others[place]] = row
            left[which, int(cell[row])] = np.delete(others, place)
        pair[row] = row
        trios += 1
    return pair


def _nearest(perplexity: npt.NDArray[np.floating], rows: npt.NDArray[np.int64], row: int) -> int | None:
    """The place in `rows` of the one nearest to `row`; None where none is near enough."""
    if not len(rows):
        return None
    # Not known, or infinite on both sides, is near to nothing; argmin would take NaN before all others.
    far = np.nan_to_num(np.abs(perplexity[rows] - perplexity[row]), nan=np.inf)
    place = int(far.argmin())
    return place if far[place] <= CALIPER else None
