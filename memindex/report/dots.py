"""Dots: categories down the page, values across; every series has its own lane in a category."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from memindex.report import axes
from memindex.report.labels import shown
from memindex.report.palette import Palette
from memindex.report.panels import Panel, distinct
from memindex.sql.queries import Query

ROW = 24  # least height of a category in CSS pixels
LANE = 11  # height of a lane


def dots(ax: Axes, query: Query, panel: Panel, palette: Palette, narrow: bool) -> None:
    """One dot with its interval per row; in a grouped panel a lane per family, its smaller models faint."""
    figure = query.figure
    names = categories(query, panel)
    zero = axes.scale(ax.xaxis, figure.y.style, axes.extent(query, panel))
    axes.zero_line(ax, "x", zero, palette)
    step = 0.72 / panel.lanes if figure.interval else 0.0
    place = {name: number for number, name in enumerate(names)}
    written = axes.legend_names(panel.looks.values(), narrow)
    for (name, look), label in zip(panel.looks.items(), written, strict=True):
        part = [row for row in panel.rows if row[figure.series] == name]
        y = [place[row[figure.x.column]] + step * (look.lane - (panel.lanes - 1) / 2) for row in part]
        x = axes.placed(axes.column(part, figure.y.column), zero)
        style: dict[str, Any] = {"color": look.colour, "capsize": 0, "fmt": look.marker, "clip_on": False}
        if look.faint:
            ax.plot(x, y, "o", ms=3, color=look.colour, zorder=1.5)
        else:
            ax.errorbar(x, y, xerr=axes.errors(query, part, zero), label=label, **style)
    marks = [_mark(query, panel, name) for name in names] if figure.reference.column else []
    if np.isfinite(marks).any():
        ax.plot(marks, range(len(names)), "|", ms=15, mew=2, color=palette.ink, label=figure.reference.label)
    ax.set_yticks(range(len(names)), [_name(panel, name, narrow) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0, pad=9)
    ax.spines["left"].set_visible(False)
    _grid(ax, len(names), panel.lanes, palette)
    ax.set_xlabel(figure.y.label)
    axes.legend(ax, palette, room(query, panel, narrow))


def categories(query: Query, panel: Panel) -> list[Any]:
    """The names down the page, in the order of the rows or of the header's `order`."""
    figure, rows = query.figure, panel.rows
    if figure.order:
        rows = sorted(rows, key=lambda row: row[figure.order])
    return distinct(rows, figure.x.column)


def room(query: Query, panel: Panel, narrow: bool) -> float:
    """Width for a legend in CSS pixels: that of the plot, which the names of categories make narrower."""
    names = [_name(panel, name, narrow) for name in categories(query, panel)]
    return (285 if narrow else 620) - 6 * max(map(len, names))


def _mark(query: Query, panel: Panel, category: Any) -> float:
    """The reference value of a category, the same in all its rows; NaN where there is none."""
    rows = [row for row in panel.rows if row[query.figure.x.column] == category]
    values = axes.column(rows, query.figure.reference.column)
    return float(np.nanmax(values)) if np.isfinite(values).any() else np.nan


def _name(panel: Panel, name: Any, narrow: bool) -> str:
    return shown(panel.names.get(name, name), narrow)


def _grid(ax: Axes, names: int, lanes: int, palette: Palette) -> None:
    """Lines at the ticks; between categories of several lanes, else through the category's dot."""
    ax.grid(axis="x", color=palette.grid, lw=0.7)
    ax.set_axisbelow(True)
    for place in range(names) if lanes == 1 else []:
        ax.axhline(place, color=palette.grid, lw=0.7, zorder=0.5)
    for place in range(1, names) if lanes > 1 else []:
        ax.axhline(place - 0.5, color=palette.grid, lw=0.7, zorder=0.5)
