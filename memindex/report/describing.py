"""A figure in a sentence or two, for those who can't see it: its axes, its series, and where each begins and ends."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from memindex.report.labels import shown
from memindex.report.numbers import percent
from memindex.sql.queries import Axis, Query

_KINDS = {
    "points": "Points",
    "line": "Lines",
    "dots": "Dots by category",
    "cells": "A matrix with a value in each cell",
    "heat": "A heat map",
}

_MOST = 12  # series that are told one by one


def describe(query: Query, table: pa.Table) -> str:
    """What a screen reader says of the figure; the table below it has all numbers."""
    figure, rows = query.figure, table.to_pylist()
    across = f" by {figure.x.label or figure.x.column}" if figure.x.column else ""
    parts = [f"{_KINDS[figure.kind]}: {figure.y.label or figure.y.column}{across}."]
    series = list(dict.fromkeys(row[figure.series] for row in rows)) if figure.series else []
    if figure.kind in {"cells", "heat"}:
        parts.append(_range("The values go", figure.y, rows))
    else:
        for name in series[:_MOST]:
            part = [row for row in rows if row[figure.series] == name]
            parts.append(_range(f"{shown(name, longest=60)}:", figure.y, part))
        if len(series) > _MOST:
            parts.append(f"And {len(series) - _MOST} more series.")
    parts.append("The table below has the numbers.")
    return " ".join(filter(None, parts))


def _range(start: str, axis: Axis, rows: list[dict[str, Any]]) -> str:
    """Least and greatest of some rows' values."""
    values = [v for row in rows if (v := row[axis.column]) is not None and not math.isnan(v)]
    if not values:
        return ""
    write = percent if axis.style.startswith("percent") else lambda value: f"{value:.3g}"
    return f"{start} {write(min(values))} to {write(max(values))}."
