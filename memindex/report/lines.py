"""Figures with a value on each axis: points with labels, and lines with bands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Transform, offset_copy

from memindex.report import axes
from memindex.report.labels import End, label_ends, label_points
from memindex.report.palette import Palette
from memindex.report.panels import Look, Panel, Rows, distinct
from memindex.sql.queries import Query

#: Dashes of the values of the header's `dashes`, in the order of their appearance.
DASHES: tuple[Any, ...] = ("-", (0, (1.2, 1.6)), (0, (5, 2)), (0, (5, 2, 1.2, 2)))

#: What is left to do when the places of the axes are settled.
Finish = Callable[[], None] | None

_BESIDE = 3.5  # points of type between the intervals of two series at one place
_NEAR = 0.02  # of the width of all points: nearer ones of two series stand at one place
_ROOM = (620, 285)  # width for a legend in CSS pixels, on a desk and on a phone


def points(ax: Axes, query: Query, panel: Panel, palette: Palette, narrow: bool) -> Finish:
    """One labelled point with its interval per row; a fitted or else a connecting line per series.

    Where most series have points at the same places, labels would lie on each other, and so would intervals: there and
    where no labels are asked for, the series stand a little beside each other, and the legend tells them.
    """
    figure = query.figure
    rows = [row for row in panel.rows if row[figure.x.column] is not None and row[figure.y.column] is not None]
    _scale_x(ax, query, rows)
    ax.margins(x=0.08)
    zero = _scale_y(ax, query, panel, palette)
    names = axes.legend_names(panel.looks.values(), narrow)
    label = figure.label if not _crowded(ax, query, rows) else ""
    apart = bool(figure.interval) and not label
    for number, ((name, look), written) in enumerate(zip(panel.looks.items(), names, strict=True)):
        part = [row for row in rows if row[figure.series] == name]
        x, y = axes.column(part, figure.x.column), axes.placed(axes.column(part, figure.y.column), zero)
        beside = _beside(ax, number - (len(names) - 1) / 2 if apart else 0.0)
        style: dict[str, Any] = {"fmt": look.marker, "color": look.colour, "label": written, "transform": beside}
        ax.errorbar(x, y, axes.errors(query, part, zero), capsize=0, **style)
        ax.update_datalim(np.column_stack([x, y]))  # what stands beside its place does not count by itself
        fitted = axes.column(part, figure.fit) if figure.fit else np.full(len(part), np.nan)
        is_fitted = bool(np.isfinite(fitted).all())
        style = {"ls": "-"} if is_fitted else {"ls": ":", "transform": beside}
        ax.plot(x, fitted if is_fitted else y, color=look.colour, lw=1.2, zorder=1, **style)
    if len(panel.looks) > 1:
        axes.legend(ax, palette, _ROOM[narrow])
    if not label:
        return None
    columns = (label, figure.x.column, figure.y.column)
    return lambda: label_points(ax, rows, columns, panel.names, palette)


def _crowded(ax: Axes, query: Query, rows: Rows) -> bool:
    """Whether most points have two or more of other series at their place."""
    x = axes.column(rows, query.figure.x.column)
    place = np.log(x) if ax.get_xscale() == "log" else x
    series = np.array([str(row[query.figure.series]) for row in rows])
    if len(place) < 2:
        return False
    near = np.abs(place[:, None] - place[None, :]) <= _NEAR * np.ptp(place)
    shared = (near & (series[:, None] != series[None, :])).sum(axis=1)
    return bool(np.mean(shared > 1) > 0.5)


def _beside(ax: Axes, lanes: float) -> Transform:
    """Where points are drawn that stand so many lanes to the right of their place."""
    figure = ax.figure
    assert isinstance(figure, Figure)
    return offset_copy(ax.transData, figure, x=lanes * _BESIDE, units="points")


def line(ax: Axes, query: Query, panel: Panel, palette: Palette, narrow: bool) -> Finish:
    """One line per series with a band for its interval; the name stands at its end, on a phone in a legend."""
    figure = query.figure
    place_of = axes.categories(ax, query, panel, narrow, palette)
    _scale_x(ax, query, panel.rows)
    zero = _scale_y(ax, query, panel, palette)
    ends = []
    for number, (name, look) in enumerate(panel.looks.items()):
        part = [row for row in panel.rows if row[figure.series] == name]
        apart = [row for row in part if figure.apart and row[figure.x.column] == figure.apart]
        joined = [row for row in part if row not in apart]
        for row in [] if look.faint else apart:
            x = [place_of(row) + 0.8 * ((number + 0.5) / len(panel.looks) - 0.5)]
            y = axes.placed(axes.column([row], figure.y.column), zero)
            ax.errorbar(
                x, y, axes.errors(query, [row], zero), fmt=look.marker, color=look.colour, capsize=0, clip_on=False
            )
        end = _curves(ax, query, panel, joined, look, place_of, zero)
        if end is not None and not look.faint:
            ends.append(End(look, *end))
    _dash_legend(ax, query, panel, palette)
    if narrow:
        for look, written in zip(panel.looks.values(), axes.legend_names(panel.looks.values(), narrow), strict=True):
            if not look.faint:
                ax.plot([], [], color=look.colour, marker=look.marker, label=written)
        axes.legend(ax, palette, _ROOM[True])
        return None
    return lambda: label_ends(ax, ends, palette)


def _curves(
    ax: Axes,
    query: Query,
    panel: Panel,
    rows: Rows,
    look: Look,
    place_of: Callable[[dict[str, Any]], float],
    zero: float,
) -> tuple[float, float] | None:
    """The lines of one series, one per value of `dashes`; where the first of them ends."""
    figure, end = query.figure, None
    bands = sum(not other.faint for other in panel.looks.values())
    alpha = 0.16 if bands <= 3 else 0.09  # many bands lie on each other
    kinds = distinct(panel.peers, figure.dashes) if figure.dashes else [None]
    for dash, kind in zip(DASHES * len(kinds), kinds, strict=False):
        part = [row for row in rows if kind is None or row[figure.dashes] == kind]
        x = np.array([place_of(row) for row in part])
        y = axes.placed(axes.column(part, figure.y.column), zero)
        style: dict[str, Any] = {"lw": 0.9, "zorder": 1.5} if look.faint else {"marker": look.marker}
        if len(part) > 24:
            style["markevery"] = max(1, len(part) // 12)
        ax.plot(x, y, color=look.colour, ls=dash, **style)
        if figure.interval and part and not look.faint:
            low, high = (axes.placed(axes.column(part, name), zero) for name in figure.interval)
            ax.fill_between(x, low, high, color=look.colour, alpha=alpha, lw=0)
        there = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        if end is None and there.size:
            end = float(x[there[-1]]), float(y[there[-1]])
    return end


def _dash_legend(ax: Axes, query: Query, panel: Panel, palette: Palette) -> None:
    """What the dashes mean, above the plot."""
    if query.figure.dashes:
        for dash, kind in zip(DASHES, distinct(panel.peers, query.figure.dashes), strict=False):
            ax.plot([], [], color=palette.ink, ls=dash, lw=1.4, label=str(kind))
        axes.legend(ax, palette, _ROOM[False])


def _scale_x(ax: Axes, query: Query, rows: Rows) -> None:
    figure = query.figure
    if figure.x.style == "log" and all((row[figure.x.column] or 0) > 0 for row in rows):
        ax.set_xscale("log")
        axes.format_ticks(ax.xaxis, "log")
        if len(sizes := {float(row[figure.x.column]) for row in rows}) == 1:
            # Matplotlib finds no room around a single place, and warns.
            (only,) = sizes
            ax.set_xlim(only / 2, only * 2)
    ax.set_xlabel(figure.x.label)


def _scale_y(ax: Axes, query: Query, panel: Panel, palette: Palette) -> float:
    """Set up the value axis; the place of 0 where it is logarithmic."""
    figure = query.figure
    zero = axes.scale(ax.yaxis, figure.y.style, axes.extent(query, panel))
    axes.zero_line(ax, "y", zero, palette)
    ax.set_ylabel(figure.y.label)
    ax.grid(axis="y", color=palette.grid, lw=0.7)
    ax.set_axisbelow(True)
    return zero
