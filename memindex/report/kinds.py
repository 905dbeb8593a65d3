"""The kinds of figures: points, line, dots and cells, each drawn on one pair of axes from a query's rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis as MatplotlibAxis
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from memindex.report import numbers
from memindex.report.labels import label_ends, label_points, shown
from memindex.report.palette import MARKERS, Palette
from memindex.tables.queries import Query

Rows = list[dict[str, Any]]

_ROW = 24  # height of a category in CSS pixels


class _Decades(LogLocator):
    """A tick per decade; two more in each where there are too few to read numbers off."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Where the ticks stand, from `vmin` to `vmax`."""
        self.set_params(subs=(1.0, 2.0, 5.0) if vmin > 0 and vmax < 100 * vmin else (1.0,))
        return super().tick_values(vmin, vmax)


def height(query: Query, rows: Rows, narrow: bool) -> int:
    """Height of one panel in CSS pixels."""
    figure = query.figure
    series = [shown(name, narrow) for name in _distinct(rows, figure.series)]
    if figure.kind == "cells":
        return 60 + 4 * max(map(len, series)) + 34 * len(series)
    named = [*series, figure.reference.label] if figure.reference.column else series
    legend = 18 * -(-len(named) // _columns(named, _room(query, rows, narrow)))
    if figure.kind == "dots":
        lanes = len(series) if figure.interval else 1
        return 70 + legend + len(_distinct(rows, figure.x.column)) * max(_ROW, 11 * lanes + 10)
    return (230 if figure.panel else 320) + (legend if narrow else 0)


def points(ax: Axes, query: Query, rows: Rows, palette: Palette, narrow: bool) -> None:
    """One labelled point with its interval per row; a fitted or else a connecting line per series."""
    figure = query.figure
    rows = [row for row in rows if row[figure.x.column] is not None]
    _scale(ax, query, palette, rows)
    series = _distinct(rows, figure.series)
    for place, name in enumerate(series):
        part = [row for row in rows if row[figure.series] == name]
        colour = palette.colour(place)
        x, y = _numbers(part, figure.x.column), _numbers(part, figure.y.column)
        ax.errorbar(
            x, y, _errors(query, part), fmt=MARKERS[place % 8], color=colour, capsize=0, label=shown(name, narrow)
        )
        fitted = _numbers(part, figure.fit) if figure.fit else np.full(len(part), np.nan)
        is_fitted = bool(np.isfinite(fitted).all())
        ax.plot(x, fitted if is_fitted else y, color=colour, lw=1.2, ls="-" if is_fitted else ":", zorder=1)
    ax.margins(x=0.08)
    _from_zero(ax.get_ylim, ax.set_ylim)
    if len(series) > 1:
        _legend(ax, palette, _room(query, rows, narrow))
    label_points(ax, rows, (figure.label, figure.x.column, figure.y.column), palette, narrow)


def line(ax: Axes, query: Query, rows: Rows, palette: Palette, narrow: bool) -> None:
    """One line per series with a band for its interval; the name stands at its end."""
    figure = query.figure
    place_of = _categories(ax, query, rows, narrow, palette)
    _scale(ax, query, palette, rows)
    ends = []
    for place, name in enumerate(_distinct(rows, figure.series)):
        part = [row for row in rows if row[figure.series] == name]
        colour, marker = palette.colour(place), MARKERS[place % 8]
        apart = [row for row in part if figure.apart and row[figure.x.column] == figure.apart]
        joined = [row for row in part if row not in apart]
        shift = (place - (len(_distinct(rows, figure.series)) - 1) / 2) * 0.12
        for row in apart:
            x = place_of(row) + shift
            y = _numbers([row], figure.y.column)
            ax.errorbar([x], y, _errors(query, [row]), fmt=marker, color=colour, capsize=0)
        xs, ys = np.array([place_of(row) for row in joined]), _numbers(joined, figure.y.column)
        if figure.y.style.endswith("log"):
            ys = np.where(ys > 0, ys, np.nan)
        ax.plot(xs, ys, color=colour, marker=marker, label=shown(name, narrow))
        if figure.interval and joined:
            low, high = (_numbers(joined, column) for column in figure.interval)
            ax.fill_between(xs, low, high, color=colour, alpha=0.15, lw=0)
        if np.isfinite(ys).any():
            last = int(np.flatnonzero(np.isfinite(ys))[-1])
            ends.append((shown(name, narrow), float(xs[last]), float(ys[last]), colour))
    if not figure.y.style.endswith("log"):
        _from_zero(ax.get_ylim, ax.set_ylim)
    if narrow:
        _legend(ax, palette, _room(query, rows, narrow))
    else:
        label_ends(ax, ends)


def dots(ax: Axes, query: Query, rows: Rows, palette: Palette, narrow: bool) -> None:
    """Categories down the page, one dot per series; with intervals every series has its own lane."""
    figure = query.figure
    names, series = _distinct(rows, figure.x.column), _distinct(rows, figure.series)
    if figure.order:
        names = _distinct(sorted(rows, key=lambda row: row[figure.order]), figure.x.column)
    lane = 0.7 / max(len(series), 1) if figure.interval else 0.0
    for place, name in enumerate(series):
        part = [row for row in rows if row[figure.series] == name]
        y = [names.index(row[figure.x.column]) + lane * (place - (len(series) - 1) / 2) for row in part]
        style: dict[str, Any] = {
            "color": palette.colour(place),
            "label": shown(name, narrow),
            "fmt": MARKERS[place % 8],
        }
        ax.errorbar(_numbers(part, figure.y.column), y, xerr=_errors(query, part), capsize=0, **style)
    if figure.reference.column:
        marks = [max(_numbers([r for r in rows if r[figure.x.column] == n], figure.reference.column)) for n in names]
        ax.plot(marks, range(len(names)), "|", ms=15, mew=2, color=palette.ink, label=figure.reference.label)
    ax.set_yticks(range(len(names)), [shown(name, narrow) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="both", color=palette.grid, lw=0.7)
    ax.set_axisbelow(True)
    ax.set_xlabel(figure.y.label)
    if figure.y.style.endswith("log"):
        ax.set_xscale("log")
    else:
        _from_zero(ax.get_xlim, ax.set_xlim)
    _format(ax.xaxis, figure.y.style)
    _legend(ax, palette, _room(query, rows, narrow))


def cells(ax: Axes, query: Query, rows: Rows, palette: Palette, narrow: bool) -> None:
    """A matrix: series down, x across, the value written in each cell and shown by its depth of colour."""
    figure = query.figure
    down, across = _distinct(rows, figure.series), _distinct(rows, figure.x.column)
    room = (220 if narrow else 520) / len(across)  # width of a cell in CSS pixels
    for row in rows:
        i, j, value = down.index(row[figure.series]), across.index(row[figure.x.column]), row[figure.y.column]
        depth = 0.0 if value is None else 0.08 + 0.5 * value
        rectangle = (j - 0.48, i - 0.46)
        ax.add_patch(Rectangle(rectangle, 0.96, 0.92, color=palette.colour(0), alpha=depth, lw=0))
        text = "—" if value is None else f"{100 * value:.0f}" + (" %" if room > 34 else "")
        ax.text(j, i, text, ha="center", va="center", color=palette.ink, fontsize=min(10, room / 2.2))
    crowded = narrow or len(across) > 6
    ax.set_xticks(range(len(across)), [shown(name, narrow) for name in across], rotation=40 if crowded else 0)
    for tick in ax.get_xticklabels() if crowded else []:
        tick.set_horizontalalignment("right")
        tick.set_rotation_mode("anchor")
    ax.set_yticks(range(len(down)), [shown(name, narrow) for name in down])
    ax.set_xlim(-0.5, len(across) - 0.5)
    ax.set_ylim(len(down) - 0.5, -0.5)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xlabel(figure.x.label)


def _from_zero(limits: Callable[[], tuple[float, float]], set_limits: Callable[[float, float], Any]) -> None:
    """Start an axis at 0; where nothing lies above, it has no length, of which matplotlib would warn."""
    high = limits()[1]
    set_limits(0, high if high > 0 else 1)


def _scale(ax: Axes, query: Query, palette: Palette, rows: Rows) -> None:
    figure = query.figure
    if figure.x.style == "log" and all((row[figure.x.column] or 0) > 0 for row in rows):
        ax.set_xscale("log")
        _format(ax.xaxis, "log")
    if figure.y.style.endswith("log"):
        ax.set_yscale("log")
    _format(ax.yaxis, figure.y.style)
    ax.set_xlabel(figure.x.label)
    ax.set_ylabel(figure.y.label)
    ax.grid(axis="y", color=palette.grid, lw=0.7)
    ax.set_axisbelow(True)


def _format(axis: MatplotlibAxis, style: str) -> None:
    if style.endswith("log"):
        axis.set_major_locator(_Decades(numticks=8))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if style.startswith("percent"):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    elif style == "log":
        axis.set_major_formatter(FuncFormatter(lambda value, _: numbers.short(value)))


def _categories(
    ax: Axes, query: Query, rows: Rows, narrow: bool, palette: Palette
) -> Callable[[dict[str, Any]], float]:
    """Where a row stands on x: its value, or its category's place; the apart one is left of all."""
    figure = query.figure
    column = figure.x.column
    if not any(isinstance(row[column], str) for row in rows):
        return lambda row: float(row[column])
    known = [row for row in rows if row[column] != figure.apart]
    if figure.order:
        known = sorted(known, key=lambda row: row[figure.order])
    places = {name: float(i) for i, name in enumerate(_distinct(known, column))}
    if len(known) < len(rows):
        places[figure.apart] = -1.5
        ax.axvline(-0.75, color=palette.grid, lw=0.7)
    room = (230 if narrow else 530) / (max(places.values()) - min(places.values()) + 1)
    crowded = max(len(name) for name in places) * 6.5 > room
    ax.set_xticks(list(places.values()), [shown(name, narrow) for name in places], rotation=45 if crowded else 0)
    for tick in ax.get_xticklabels() if crowded else []:
        tick.set_horizontalalignment("right")
        tick.set_rotation_mode("anchor")
    return lambda row: places[row[column]]


def _errors(query: Query, rows: Rows) -> Any:
    """Distances from the value to both ends of its interval, shape (2, rows); None without intervals."""
    if not query.figure.interval:
        return None
    value = _numbers(rows, query.figure.y.column)
    low, high = (_numbers(rows, column) for column in query.figure.interval)
    return np.nan_to_num(np.maximum([value - low, high - value], 0))


def _numbers(rows: Rows, column: str) -> Any:
    """A column as float64, NULL as NaN."""
    return np.array([math.nan if row[column] is None else row[column] for row in rows], dtype=np.float64)


def _distinct(rows: Sequence[dict[str, Any]], column: str) -> list[Any]:
    """The values of a column in the order of their first appearance."""
    return list(dict.fromkeys(row[column] for row in rows))


def _room(query: Query, rows: Rows, narrow: bool) -> float:
    """Width for a legend in CSS pixels: that of the plot, which the names of categories make narrower."""
    names = [shown(name, narrow) for name in _distinct(rows, query.figure.x.column)]
    return (285 if narrow else 620) - (6 * max(map(len, names)) if query.figure.kind == "dots" else 0)


def _columns(names: Sequence[str], room: float) -> int:
    """How many entries of a legend stand beside each other."""
    return max(1, min(len(names), int(room // (34 + 6.5 * max(map(len, names))))))


def _legend(ax: Axes, palette: Palette, room: float) -> None:
    handles, names = ax.get_legend_handles_labels()
    columns = _columns(names, room)
    # Matplotlib fills columns first; a reader reads rows first.
    order = [i for column in range(columns) for i in range(column, len(names), columns)]
    ax.legend(
        [handles[i] for i in order],
        [names[i] for i in order],
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        labelcolor=palette.ink,
        handletextpad=0.4,
        columnspacing=1.2,
        borderaxespad=0.3,
        handlelength=1.2,
    )
