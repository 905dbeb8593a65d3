"""Bootstrap by document: 95 % intervals of rates whose sequences come several from one document.

Sequences of one document are alike, so a rate over n sequences says less than n independent ones would. Documents are
drawn again with replacement (Efron 1979; clusters: Davison and Hinkley 1997, section 3.8), the rate is computed anew,
and the interval goes from the 2.5th to the 97.5th percentile of 1,000 such replicates. Documents with equal sums are
exchangeable: how often each distinct sum is drawn is multinomial, which is the same distribution at a fraction of the
draws. The seed is fixed and the order of rows does not matter: equal data give equal intervals.

Percentiles are too narrow where few documents hold all that was memorized, and have no width where none does. So for
rates each end is the farther one of the percentile and of Wilson's interval over the effective number of observations:
as many as would vary like the replicates do (Kish 1965), with Student's t for the documents; where all documents agree,
as many as there are documents. docs/benchmarks.md has the coverage.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

REPLICATES = 1000
SEED = 20_260_301

#: Ends of the 95 % interval, as shares of the replicates.
ENDS = (0.025, 0.975)

#: The 97.5 % points of Student's t with 1 to 10 degrees of freedom, and the coefficients of 1, 1/df, 1/df², 1/df³ above
#: (Cornish and Fisher's expansion, within 0.001).
T975 = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139)
T975_ABOVE = (1.959964, 2.372294, 2.822499, 2.555848)

#: The 97.5 % point of the normal distribution.
Z = 1.959963984540054

#: One multinomial count costs about as much as this many draws of a document (measured).
_COUNT_COST = 6

_NO_RATE = "a rate is of values between 0 and 1; for other numbers use mean_interval"

#: Draws of documents that are in memory at once.
_DRAWS = 1 << 21

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """The ends of a 95 % interval."""

    low: float
    high: float


def rate_interval(values: Floats, clusters: npt.NDArray[Any]) -> Interval | None:
    """Interval of the mean of `values` in 0..1 (bools as 0 and 1, scores), by document.

    Args:
        values: float64 of shape (rows,).
        clusters: The document of each row, integers of shape (rows,).

    Returns:
        The interval; None without rows.

    Raises:
        ValueError: A value below 0 or above 1.
    """
    if len(values) and not 0 <= values.min() <= values.max() <= 1:
        raise ValueError(_NO_RATE)
    return ratio_interval(*_by_cluster(values, clusters)) if len(values) else None


def mean_interval(values: Floats, clusters: npt.NDArray[Any]) -> Interval | None:
    """Interval of the mean of any numbers, by document; None where no two documents have different means.

    Args:
        values: float64 of shape (rows,).
        clusters: The document of each row, integers of shape (rows,).
    """
    return quotient_interval(*_by_cluster(values, clusters)) if len(values) else None


def quotient_interval(numerators: Floats, denominators: Floats) -> Interval | None:
    """Interval of sum(numerators) / sum(denominators), any number, from one row per document.

    Args:
        numerators: float64 of shape (documents,).
        denominators: float64 of shape (documents,); documents with 0 are left out.

    Returns:
        The interval; None where no two documents differ, about which a bootstrap knows nothing.
    """
    counted = denominators != 0
    k, n = numerators[counted], denominators[counted]
    return None if not len(n) or _all_agree(k, n) else _percentiles(_ratios(k, n))


def ratio_interval(numerators: Floats, denominators: Floats) -> Interval | None:
    """Interval of sum(numerators) / sum(denominators), a rate in 0..1, from one row per document.

    Args:
        numerators: Sum of the values of each document, float64 of shape (documents,).
        denominators: How many sequences of it count, float64 of shape (documents,); documents with 0 are left out.

    Returns:
        The interval; None where no document counts.

    Raises:
        ValueError: A document's rate below 0 or above 1.
    """
    counted = denominators != 0
    k, n = numerators[counted], denominators[counted]
    documents = len(n)
    if not documents:
        return None
    # The sum of a document's rounded shares may end just above their number.
    if (k < 0).any() or (k > n * (1 + 1e-9)).any():
        raise ValueError(_NO_RATE)
    rate = min(float(k.sum() / n.sum()), 1.0)
    if _all_agree(k, n):
        return wilson(rate, documents)
    ratios = _ratios(k, n)
    # A bootstrap's variance is that of a sample of all documents, not of one less.
    variance = float(ratios.var()) * documents / (documents - 1)
    observations = rate * (1 - rate) / variance
    effective, percentiles = wilson(rate, observations, t975(documents - 1)), _percentiles(ratios)
    return Interval(min(effective.low, percentiles.low), max(effective.high, percentiles.high))


def slope_interval(x: Floats, runs: npt.NDArray[Any], values: Floats, clusters: npt.NDArray[Any]) -> Interval | None:
    """Interval of the slope of the runs' rates over x (least squares, each run one point), by document.

    A replicate draws the same documents for every run, as the runs were scored on the same sequences.

    Args:
        x: Where the row's run stands on the axis, float64 of shape (rows,).
        runs: The run of each row, integers of shape (rows,).
        values: float64 of shape (rows,).
        clusters: The document of each row, integers of shape (rows,).

    Returns:
        The interval; None without two runs at different x, or where every replicate is the same.
    """
    _, first, run = np.unique(runs, return_index=True, return_inverse=True)
    _, cluster = np.unique(clusters, return_inverse=True)
    # From left to right: names of runs must not decide the order in which documents are drawn.
    along = np.lexsort([np.bincount(run, values), x[first]])
    x, run = x[first][along], np.argsort(along)[run]
    if len(x) < 2 or np.ptp(x) == 0:
        return None
    order = np.argsort(values, kind="stable")
    cell = (cluster * len(x) + run)[order]
    cells = (int(cluster.max()) + 1) * len(x)
    sums = np.bincount(cell, values[order], minlength=cells).reshape(-1, len(x))
    counts = np.bincount(cell, minlength=cells).reshape(-1, len(x))
    drawn = replicates(np.concatenate([sums, counts], axis=1))
    with np.errstate(invalid="ignore"):  # a run none of whose documents was drawn
        rates = drawn[:, : len(x)] / drawn[:, len(x) :]
    centred = x - x.mean()
    slopes = rates @ centred / (centred @ centred)
    slopes = slopes[np.isfinite(slopes)]
    if not len(slopes) or np.ptp(slopes) == 0:
        return None
    return _percentiles(slopes)


def wilson(rate: float, observations: float, z: float = Z) -> Interval:
    """Wilson's score interval (1927) of a rate over independent observations."""
    centre = (rate * observations + z * z / 2) / (observations + z * z)
    half = z * math.sqrt(max(rate * (1 - rate), 0) * observations + z * z / 4) / (observations + z * z)
    return Interval(max(centre - half, 0.0), min(centre + half, 1.0))


def t975(degrees: int) -> float:
    """The 97.5 % point of Student's t."""
    if degrees <= len(T975):
        return T975[degrees - 1]
    return float(sum(c / degrees**power for power, c in enumerate(T975_ABOVE)))


def replicates(sums: npt.NDArray[Any]) -> Floats:
    """Column sums over documents drawn again with replacement, float64 of shape (REPLICATES, columns).

    Args:
        sums: One row per document, any numbers of shape (documents, columns).
    """
    distinct, counts = _distinct_rows(sums.astype(np.float64, copy=False))
    documents = len(sums)
    random = np.random.default_rng(SEED)
    if _COUNT_COST * len(distinct) <= documents:
        weights = random.multinomial(documents, counts / documents, size=REPLICATES)
        return weights @ distinct
    row_of = np.repeat(np.arange(len(distinct)), counts)
    parts = []
    at_once = max(1, _DRAWS // documents)
    for start in range(0, REPLICATES, at_once):
        size = min(at_once, REPLICATES - start)
        drawn = row_of[random.integers(0, documents, size=(size, documents), dtype=np.uint32)]
        drawn += np.arange(size)[:, None] * len(distinct)
        weights = np.bincount(drawn.reshape(-1), minlength=size * len(distinct)).reshape(size, -1)
        parts.append(weights @ distinct)
    return np.concatenate(parts)


def _by_cluster(values: Floats, clusters: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """Sum of the values and number of rows of each cluster, float64 (clusters,) each."""
    if (values != np.rint(values)).any():
        # Sums of fractions depend on the order of their terms, and that of rows on threads.
        order = np.argsort(values, kind="stable")
        values, clusters = values[order], clusters[order]
    _, cluster = np.unique(clusters, return_inverse=True)
    return np.bincount(cluster, values).astype(np.float64), np.bincount(cluster).astype(np.float64)


def _all_agree(sums: Floats, counts: Floats) -> bool:
    """Whether every document has the same rate, up to rounding."""
    rates = sums / counts
    return bool(np.ptp(rates) <= 1e-12 * max(1.0, float(np.abs(rates).max())))


def _ratios(sums: Floats, counts: Floats) -> Floats:
    """The rate of each replicate, float64 (REPLICATES,)."""
    drawn = replicates(np.stack([sums, counts], axis=1))
    ratios: Floats = drawn[:, 0] / drawn[:, 1]
    return ratios


def _percentiles(values: Floats) -> Interval:
    low, high = np.quantile(values, ENDS).tolist()
    return Interval(low, high)


def _distinct_rows(rows: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The distinct rows, sorted, and how often each occurs."""
    ordered = rows[np.lexsort(rows.T[::-1])]
    starts = np.flatnonzero(np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)]))
    return ordered[starts], np.diff(np.append(starts, len(ordered)))
