"""Counts by domain of many queries, without the zeros: few queries stand in more than a few of many domains."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from memindex.ragged import Ragged

#: Numbers of a batch, zeros too, at most: an index may have thousands of domains.
NUMBERS = 1 << 24

Integers = npt.NDArray[np.int64]


class CountsByDomain(Protocol):
    """What is needed of an index."""

    @property
    def domains(self) -> list[str]:
        """Names of the domains."""

    def count_by_domain(self, queries: Ragged, /) -> npt.NDArray[np.uint64]:
        """Occurrences of each query in each domain, uint64 of shape (rows, domains)."""


class DomainCounts(NamedTuple):
    """Where queries stand at all: row, number of the domain, counts; int64 of shape (entries,), by row and domain."""

    row: Integers
    domain: Integers
    counts: Integers

    def by_name(self, names: Sequence[str], start: int, end: int) -> Iterator[dict[str, int]]:
        """Domain -> count of each row from `start` to `end` (exclusive); a domain without occurrences is missing."""
        bounds = np.searchsorted(self.row, np.arange(start, end + 1)).tolist()
        for first, last in itertools.pairwise(bounds):
            listed = [names[domain] for domain in self.domain[first:last].tolist()]
            yield dict(zip(listed, self.counts[first:last].tolist(), strict=True))


def domain_counts(index: CountsByDomain, queries: Ragged) -> DomainCounts:
    """Occurrences of queries in each domain of an index, where there are any.

    Raises:
        QueryError: An empty query, or an id that the index can't hold.
    """
    entries = [(np.empty(0, dtype=np.int64),) * 3]
    most = max(1, NUMBERS // max(len(index.domains), 1))
    for start in range(0, queries.rows if index.domains else 0, most):
        counts = index.count_by_domain(queries.slice(start, start + most))
        row, domain = np.nonzero(counts)
        entries.append((row + start, domain, counts[row, domain].astype(np.int64)))
    return DomainCounts(*(np.concatenate(column) for column in zip(*entries, strict=True)))
