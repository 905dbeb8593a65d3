"""Intervals by document in plain NumPy, leaving documents out one at a time: what the tests of queries compare with."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student


def _facts(values, clusters):
    """Value of all rows, the jackknife's variance, effective documents, effective carriers, and rows by document."""
    values, clusters = np.asarray(values, np.float64), np.asarray(clusters)
    names, cluster = np.unique(clusters, return_inverse=True)
    sums, rows = np.bincount(cluster, values), np.bincount(cluster).astype(float)
    value = values.sum() / len(values)
    without = np.array([(sums.sum() - k) / max(rows.sum() - n, 1) for k, n in zip(sums, rows, strict=True)])
    variance = (len(names) - 1) / len(names) * ((without - value) ** 2).sum()
    documents = rows.sum() ** 2 / (rows**2).sum()
    residuals = sums - value * rows
    carriers = (residuals**2).sum() ** 2 / max((residuals**4).sum(), 1e-300)
    return value, variance, documents, carriers, sums, rows


def mean_ends(values, clusters) -> tuple[float, float]:
    """Ends of the interval of a mean; NaN where documents agree."""
    if not len(values):
        return np.nan, np.nan
    value, variance, documents, carriers, sums, rows = _facts(values, clusters)
    means = sums / rows
    if np.ptp(means) <= 1e-12 * max(1, np.abs(means).max()):
        return np.nan, np.nan
    half = student.ppf(0.975, max(min(documents, carriers) - 1, 1)) * variance**0.5
    return value - half, value + half


def rate_ends(values, clusters) -> tuple[float, float]:
    """Ends of the interval of a rate; NaN for one document."""
    if not len(values) or len(np.unique(clusters)) < 2:
        return np.nan, np.nan
    rate, variance, documents, carriers, sums, rows = _facts(values, clusters)
    events = min((sums > 0).sum(), (sums < rows).sum())
    observations, degrees = documents, max(documents - 1, 2)
    if 0 < rate < 1 and events:
        effect = variance / (rate * (1 - rate))
        observations = (events + 4) / (events * effect + 4 * max(effect, 1 / documents))
    if events and variance > 1e-24:
        share = min(events / len(rows), 0.5)
        one_each = np.array([1 - share, -share])
        weight = np.array([share, 1 - share]) * len(rows)
        single = (weight * one_each**2).sum() ** 2 / (weight * one_each**4).sum()
        likeness = min(carriers / single, 1) ** 2
        degrees = 1 / (likeness / degrees + (1 - likeness) / max(min(carriers, documents) - 1, 2))
    z = student.ppf(0.975, degrees)
    ends = np.roots([1 + z * z / observations, -(2 * rate + z * z / observations), rate**2]).real
    return max(ends.min(), 0.0), min(ends.max(), 1.0)
