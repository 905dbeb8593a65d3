"""95 % intervals of rates, means, ratios, medians, enrichments and slopes over sequences that come from documents.

Sequences of one document are alike, so n sequences say less than n independent ones. Documents are the independent
units (clusters), and few of them may hold most sequences. Every interval here is in closed form:

- The variance is the jackknife's over documents (CR3: Bell and McCaffrey 2002). It leaves out one document at a time,
  so a document that dominates the estimate widens the interval.
- Documents of unequal size count as Kish's effective number of documents (1965), (sum n)^2 / sum n^2, and the degrees
  of freedom of Student's t are one less.
- Few documents may carry the variance: their effective number is (sum e^2)^2 / sum e^4 of the documents' residuals e
  (Satterthwaite's approximation, as Carter, Schnepel and Steigerwald 2017 use it). It limits the degrees of freedom of
  means, slopes and enrichments.
- Rates use Wilson's score interval (1927) over the effective number of observations, those that independent sequences
  of the same variance would be. Few documents with an event say little about how alike the sequences of a document
  are. So the design effect shrinks towards that of documents memorized as a whole, as `events / (events + 4)` with the
  number of documents that hold an event (or of those that hold a non-event, whichever is smaller). Where events are
  rare, few documents carry the variance however alike they are, which Wilson's interval allows for. So the degrees of
  freedom fall only as far as the carriers are fewer than those of equally many documents with one event each, and
  never below 2.

benchmarks/intervals.py measures the coverage.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

#: An answer over fewer effective documents than this carries a note: its interval may be too narrow.
ENOUGH_DOCUMENTS = 8.0

#: Documents with an event at which the measured design effect counts as much as that of whole documents.
DESIGN_PRIOR = 4.0

#: Degrees of freedom of a rate are at least this many: Wilson's interval is bounded, so fewer only make it say nothing.
LEAST_DEGREES = 2.0

#: Whole numbers below this are exact as float64.
_EXACT = 2.0**53

#: A half width of a logarithm beyond which an interval says nothing, and its ends would not be numbers.
_WIDEST = 300.0

_NO_RATE = "a rate is of values between 0 and 1; for other numbers use mean_interval"

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A 95 % interval.

    Attributes:
        low: Lower end; None where the documents say nothing about the spread: a single document, or a mean whose
            documents all agree.
        high: Upper end; None where `low` is.
        documents: Effective number of documents. Below ENOUGH_DOCUMENTS the interval may be too narrow.
        error: Standard error; None where there is no interval.
        degrees: Degrees of freedom of Student's t; None where there is no interval.
    """

    low: float | None
    high: float | None
    documents: float
    error: float | None = None
    degrees: float | None = None


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
    """Interval of the mean of any numbers, by document.

    Args:
        values: float64 of shape (rows,).
        clusters: The document of each row, integers of shape (rows,).

    Returns:
        The interval, without ends where no two documents differ; None without rows.
    """
    return quotient_interval(*_by_cluster(values, clusters)) if len(values) else None


def median_interval(values: Floats, clusters: npt.NDArray[Any]) -> Interval | None:
    """Interval of the median, by document (Woodruff 1952: the interval of the share below it, read off the values).

    Args:
        values: float64 of shape (rows,).
        clusters: The document of each row, integers of shape (rows,).

    Returns:
        The interval; None without rows.
    """
    if not len(values):
        return None
    below = (values <= np.median(values)).astype(np.float64)
    share, ends = float(below.mean()), ratio_interval(*_by_cluster(below, clusters))
    if ends is None or ends.low is None or ends.high is None:
        return ends
    # Ties put more than half of the values at or below the median: the interval moves to a half with its width.
    shares = np.clip([0.5 + ends.low - share, 0.5 + ends.high - share], 0, 1)
    low, high = np.quantile(values, shares, method="inverted_cdf").tolist()
    return Interval(low, high, ends.documents)


def quotient_interval(numerators: Floats, denominators: Floats) -> Interval | None:
    """Interval of sum(numerators) / sum(denominators), any number, from one row per document.

    Args:
        numerators: float64 of shape (documents,).
        denominators: float64 of shape (documents,), not negative; documents with 0 don't count.

    Returns:
        The interval, without ends where no two documents differ; None where no document counts.
    """
    k, n, times = _counted(numerators, denominators)
    if not len(n):
        return None
    total = math.fsum(n * times)
    quotient = math.fsum(k * times) / total
    if _all_agree(k, n):
        return Interval(None, None, _kish(n, times))
    return _around(quotient, (k - quotient * n) / total, n, times)


def ratio_interval(numerators: Floats, denominators: Floats) -> Interval | None:
    """Interval of sum(numerators) / sum(denominators), a rate in 0..1, from one row per document.

    Args:
        numerators: Sum of the values of each document, float64 of shape (documents,).
        denominators: How many sequences of it count, float64 of shape (documents,); documents with 0 don't count.

    Returns:
        The interval, without ends for a single document; None where no document counts.

    Raises:
        ValueError: A document's rate below 0 or above 1.
    """
    k, n, times = _counted(numerators, denominators)
    if not len(n):
        return None
    # The sum of a document's rounded shares may end just above their number.
    if (k < 0).any() or (k > n * (1 + 1e-9)).any():
        raise ValueError(_NO_RATE)
    documents = _kish(n, times)
    if times.sum() < 2:
        return Interval(None, None, documents)
    total = math.fsum(n * times)
    rate = min(math.fsum(k * times) / total, 1.0)
    residuals = k - rate * n
    variance = _jackknife(residuals / total, n, times)
    events = int(min(times[k > 0].sum(), times[k < n].sum()))
    degrees = _rate_degrees(residuals, documents, events, times)
    observations = _observations(rate, variance, documents, events)
    low, high = wilson(rate, observations, t975(degrees))
    return Interval(low, high, documents, math.sqrt(variance), degrees)


def enrichment_interval(
    here: Floats, anywhere: Floats, sampled_here: Floats, sampled: Floats, documents: Floats
) -> Interval | None:
    """Interval of a domain's share of the memorized sequences over its share of all sequences.

    Each row stands for documents that are alike in all four numbers, because most documents are of other domains.

    The interval is symmetric around the logarithm. Where nothing of the domain is memorized, its upper end is that of
    the domain's rate over the rate of all.

    Args:
        here: Memorized sequences of the domain in each document, float64 of shape (rows,).
        anywhere: Memorized sequences of any domain, float64 of shape (rows,).
        sampled_here: Sequences of the domain, float64 of shape (rows,).
        sampled: Sequences of any domain, float64 of shape (rows,).
        documents: How many documents have these numbers, float64 of shape (rows,).

    Returns:
        The interval, without ends where no two documents differ or one holds nearly all sequences; None where nothing
        is memorized or nothing is of the domain.
    """
    # In order: a sum of fractions depends on the order of its terms.
    order = np.lexsort([here, anywhere, sampled_here, sampled])
    here, anywhere, sampled_here, sampled, times = (
        column[order] for column in (here, anywhere, sampled_here, sampled, documents)
    )
    known, memorized, of_domain, total = (
        float((column * times).sum()) for column in (here, anywhere, sampled_here, sampled)
    )
    if not memorized or not of_domain:
        return None
    of_its_own = sampled_here > 0
    effective = _kish(sampled_here[of_its_own], times[of_its_own])
    if not known:
        own = np.repeat(sampled_here[of_its_own], times[of_its_own].astype(np.int64))
        ends = ratio_interval(np.zeros(len(own)), own)
        if ends is None or ends.high is None:
            return Interval(None, None, effective)
        return Interval(0.0, ends.high * total / memorized, effective)
    enrichment = (known / memorized) / (of_domain / total)
    influence = here / known - sampled_here / of_domain - anywhere / memorized + sampled / total
    if np.abs(influence).max() < 1e-12 or times[of_its_own].sum() < 2:
        return Interval(None, None, effective)
    around = _around(0.0, influence, sampled, times)
    assert around.high is not None
    if around.high > _WIDEST:
        return Interval(None, None, effective)
    factor = math.exp(around.high)
    return Interval(enrichment / factor, enrichment * factor, effective, around.error, around.degrees)


def slope_interval(x: Floats, runs: npt.NDArray[Any], values: Floats, clusters: npt.NDArray[Any]) -> Interval | None:
    """Interval of the slope of the runs' rates over x (least squares, each run one point), with other documents.

    All runs were scored on the same documents, so a document's residuals in all of them count as one.

    Args:
        x: Position of the row's run on the axis, float64 of shape (rows,).
        runs: The run of each row, integers of shape (rows,).
        values: float64 of shape (rows,).
        clusters: The document of each row, integers of shape (rows,).

    Returns:
        The interval; None without two runs at different x, or where no document differs from another.
    """
    _, first, run = np.unique(runs, return_index=True, return_inverse=True)
    at = x[first]
    if len(at) < 2 or np.ptp(at) == 0:
        return None
    _, cluster = np.unique(clusters, return_inverse=True)
    # Sums of fractions depend on the order of their terms, and that of rows on threads.
    order = np.lexsort([values, cluster])
    cell, cells = (cluster * len(at) + run)[order], (int(cluster.max()) + 1) * len(at)
    sums = np.bincount(cell, values[order], minlength=cells).reshape(-1, len(at))
    counts = np.bincount(cell, minlength=cells).reshape(-1, len(at)).astype(np.float64)
    # Names of runs and documents must not decide the order of the terms either.
    along = np.lexsort([sums.sum(axis=0), at])
    at, sums, counts = at[along], sums[:, along], counts[:, along]
    down = np.lexsort([*sums.T, *counts.T])
    sums, counts = sums[down], counts[down]
    rates = sums.sum(axis=0) / counts.sum(axis=0)
    weights = (at - at.mean()) / ((at - at.mean()) ** 2).sum()
    influence = ((sums - rates * counts) / counts.sum(axis=0)) @ weights
    if len(influence) < 2 or np.abs(influence).max() <= 1e-12 * float(np.abs(weights).max()):
        return None
    return _around(float(rates @ weights), influence, counts.sum(axis=1), np.ones(len(influence)))


def wilson(rate: float, observations: float, z: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of a rate over independent observations."""
    centre = (rate * observations + z * z / 2) / (observations + z * z)
    half = z * math.sqrt(max(rate * (1 - rate), 0) * observations + z * z / 4) / (observations + z * z)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def t975(degrees: float) -> float:
    """The 97.5 % point of Student's t; the degrees of freedom need not be a whole number."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def _observations(rate: float, variance: float, documents: float, events: int) -> float:
    """The number of independent observations that a rate over documents is worth.

    Args:
        rate: The rate.
        variance: Its variance by the jackknife.
        documents: Effective number of documents: what the rate is worth where each is memorized whole or not at all.
        events: Documents with an event, or with a non-event, whichever are fewer.
    """
    spread = rate * (1 - rate)
    if spread <= 0:
        return documents
    trust = events / (events + DESIGN_PRIOR)
    measured = variance / spread
    return 1 / (trust * measured + (1 - trust) * max(measured, 1 / documents))


def _rate_degrees(residuals: Floats, documents: float, events: int, times: Floats) -> float:
    """Degrees of freedom of Student's t for a rate, at least LEAST_DEGREES.

    Args:
        residuals: Events of a document beyond those of the rate, float64 of shape (kinds,).
        documents: Effective number of documents.
        events: Documents with an event, or with a non-event, whichever are fewer.
        times: Documents of each kind, float64 of shape (kinds,).
    """
    even = max(documents - 1, LEAST_DEGREES)
    if not events or not residuals.any():
        return even
    carriers = _carriers(residuals, times)
    there = float(times.sum())
    share = min(events / there, 0.5)
    spread = share * (1 - share)
    one_event_each = there * spread / (1 - 3 * spread)
    likeness = min(carriers / one_event_each, 1.0) ** 2
    uneven = max(min(carriers, documents) - 1, LEAST_DEGREES)
    return 1 / (likeness / even + (1 - likeness) / uneven)


def _carriers(influence: Floats, times: Floats) -> float:
    """Effective number of documents that carry the variance."""
    squares = influence**2
    return float((squares * times).sum() ** 2 / (squares**2 * times).sum())


def _around(centre: float, influence: Floats, sizes: Floats, times: Floats) -> Interval:
    """The interval of Student's t around an estimate, from each document's share in its error; as `_jackknife`."""
    documents = _kish(sizes, times)
    if times[sizes > 0].sum() < 2:
        return Interval(None, None, documents)
    degrees = max(min(documents, _carriers(influence, times)) - 1, 1.0)
    error = math.sqrt(_jackknife(influence, sizes, times))
    half = t975(degrees) * error
    return Interval(centre - half, centre + half, documents, error, degrees)


def _jackknife(influence: Floats, sizes: Floats, times: Floats) -> float:
    """Variance of an estimate, by leaving out one document at a time (CR3).

    Args:
        influence: A document's share in the error of the estimate, float64 of shape (kinds,), in an order that does
            not depend on that of the rows: the sum of fractions depends on the order of its terms.
        sizes: Sequences of a document, float64 of shape (kinds,): without it, the others weigh more.
        times: Documents of each kind, float64 of shape (kinds,).
    """
    counted = sizes > 0
    share, times = sizes[counted] / (sizes * times).sum(), times[counted]
    documents = float(times.sum())
    return float(((influence[counted] / (1 - share)) ** 2 * times).sum() * (documents - 1) / documents)


def _kish(sizes: Floats, times: Floats) -> float:
    """Effective number of documents (Kish 1965): as many as equally large ones would vary alike."""
    squares = float((sizes**2 * times).sum())
    return float((sizes * times).sum() ** 2 / squares) if squares else 0.0


def _counted(numerators: Floats, denominators: Floats) -> tuple[Floats, Floats, Floats]:
    """The kinds of documents that count, sorted, and how many are of each kind; float64 of shape (kinds,) each.

    Documents of equal numbers are one kind, because most documents have few sequences. The order of rows must not
    change the last digit.
    """
    counted = denominators != 0
    k, n = numerators[counted], denominators[counted]
    most = k.max(initial=0) + 1
    if (
        k.min(initial=0) >= 0
        and most * (n.max(initial=0) + 1) < _EXACT
        and np.array_equal(k, np.rint(k))
        and np.array_equal(n, np.rint(n))
    ):
        kinds, times = np.unique(n * most + k, return_counts=True)
        n, k = np.divmod(kinds, most)
        return k, n, times.astype(np.float64)
    order = np.lexsort([k, n])
    return k[order], n[order], np.ones(len(k))


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
