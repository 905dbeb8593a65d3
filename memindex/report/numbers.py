"""How numbers are written, in figures, tables and sentences."""

from __future__ import annotations

import math
from typing import Any

_PERCENT = ("rate", "share", "precision", "recall", "jaccard", "fitted", "slope")


def percent(value: float) -> str:
    """A share of 1 as a percentage with about three significant digits: 0.0131 is '1.31 %'."""
    return f"{_significant(100 * value)}\N{NO-BREAK SPACE}%"


def whole(value: int) -> str:
    """A whole number with its thousands apart: '44,000,000'."""
    return f"{value:,}"


def short(value: float) -> str:
    """A large number in few characters: '790k', '25M', '6.9B'."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{float(f'{value / size:.3g}'):g}{letter}"
    return f"{value:g}"


def cell(column: str, value: Any) -> str:
    """A value of a query's result, written for its column."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return percent(value) if is_percent(column) else _significant(value)
    if isinstance(value, int):
        return whole(value)
    return str(value)


def with_interval(column: str, value: float, low: float, high: float) -> str:
    """A value and the ends of its interval, as many decimals as the interval's width deserves: '1.31 % (1.12–1.50)'."""
    if math.isnan(value) or not (math.isfinite(low) and math.isfinite(high)):
        return cell(column, value)
    factor, unit = (100, "\N{NO-BREAK SPACE}%") if is_percent(column) else (1, "")
    width = factor * (high - low)
    decimals = min(max(0, 1 - math.floor(math.log10(width))), 6) if width > 0 else 1
    number, first, last = (_signed(factor * end, decimals) for end in (value, low, high))
    between = " to " if min(low, high) < 0 else "\N{EN DASH}"
    return f"{number}{unit} ({first}{between}{last})"


def is_percent(column: str) -> bool:
    """Whether a column's values are shares of 1, by its name."""
    return column.startswith(_PERCENT)


def _signed(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _significant(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"
