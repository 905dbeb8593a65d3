"""Rates of several engines in rounds, each engine once in every round, and tables of them.

Machines are shared and noisy: a ratio is of two engines in the same round, and the table gives the median over the
rounds beside the minimum.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

#: What an engine does in one round; returns a rate.
Measured = Callable[[], float]

#: Queries between two looks at the clock at most.
CHUNK = 64


def once(work: Callable[[], Any], amount: float) -> Measured:
    """The rate of work that is done in one call."""

    def measure() -> float:
        start = time.perf_counter()
        work()
        return amount / (time.perf_counter() - start)

    return measure


def one_by_one(ask: Callable[[Any], Any], queries: Sequence[Any], seconds: float, weight: float = 1) -> Measured:
    """The rate of single calls: as many of the queries as fit in `seconds`, each worth `weight`."""

    def measure() -> float:
        start, done = time.perf_counter(), 0
        while done < len(queries) and time.perf_counter() - start < seconds:
            # One query at first, for those that take seconds; looking often would slow down those that take none.
            chunk = queries[done : done + min(done + 1, CHUNK)]
            for query in chunk:
                ask(query)
            done += len(chunk)
        return weight * done / (time.perf_counter() - start)

    return measure


class Table:
    """Rates by row and column, several rounds each."""

    def __init__(self, corner: str, unit: str) -> None:
        self.corner = corner
        self.unit = unit
        self.rates: dict[str, dict[str, list[float]]] = {}

    def round(self, row: str, measured: dict[str, Measured]) -> None:
        """Measure every column of a row once."""
        for column, measure in measured.items():
            self.add(row, {column: measure()})

    def add(self, row: str, rates: dict[str, float]) -> None:
        """Take note of the rates of one round."""
        for column, rate in rates.items():
            self.rates.setdefault(row, {}).setdefault(column, []).append(rate)

    def print(self, ours: Sequence[str] = ()) -> None:
        """Print rates as median (minimum), then for each of `ours` its ratio to the other columns."""
        columns = list(dict.fromkeys(column for row in self.rates.values() for column in row))
        rounds = max(len(rates) for row in self.rates.values() for rates in row.values())
        self._print(f"{self.unit}, median (minimum) of {rounds} rounds", columns, self._rates)
        for mine in ours:
            others = [column for column in columns if column not in ours]
            if others:
                title = f"{mine}: times as fast as others in the same round, median (minimum)"
                self._print(title, others, lambda row, other, mine=mine: self._ratios(row, mine, other))

    def _print(self, title: str, columns: list[str], cell: Callable[[str, str], list[float]]) -> None:
        print(f"\n{title}\n\n| {self.corner} | " + " | ".join(columns) + " |\n| --- |" + " ---: |" * len(columns))
        for row in self.rates:
            cells = [_median_and_minimum(cell(row, column)) for column in columns]
            print(f"| {row} | " + " | ".join(cells) + " |", flush=True)

    def _rates(self, row: str, column: str) -> list[float]:
        return self.rates[row].get(column, [])

    def _ratios(self, row: str, mine: str, other: str) -> list[float]:
        return [a / b for a, b in zip(self._rates(row, mine), self._rates(row, other), strict=False)]


def _median_and_minimum(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{_short(statistics.median(values))} ({_short(min(values))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
