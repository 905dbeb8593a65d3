"""What the kinds of figures share: scales and their ticks, zeros on logarithmic axes, intervals and legends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis as MatplotlibAxis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from memindex.report import numbers
from memindex.report.labels import shown
from memindex.report.palette import Palette
from memindex.report.panels import Look, Panel, Rows, distinct
from memindex.sql.queries import Query

Entry = TypeVar("Entry")

Floats = npt.NDArray[np.float64]

#: Longest names in a legend, in characters: on a desk and on a phone.
_LEGEND = (60, 38)


class _Decades(LogLocator):
    """A tick per decade; two more in each where there are too few to read numbers off; `zero` is where 0 stands."""

    zero = 0.0

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Where the ticks stand, from `vmin` to `vmax`."""
        self.set_params(subs=(1.0, 2.0, 5.0) if vmin > 0 and vmax < 100 * vmin else (1.0,))
        ticks = super().tick_values(vmin, vmax)
        if not self.zero:
            return ticks
        return np.concatenate([[self.zero], [tick for tick in ticks if tick > 1.9 * self.zero]])


def scale(axis: MatplotlibAxis, style: str, values: Floats) -> float:
    """Set scale, limits and ticks of a value axis for `values`, NaN left out; the place of 0 on a logarithmic one.

    A logarithmic axis has no place for 0: it gets one below the smallest value, apart and labelled 0. Where no value is
    0, the place is too, and stands for none.
    """
    finite = values[np.isfinite(values)]
    ax = axis.axes
    set_scale, set_limits = (ax.set_xscale, ax.set_xlim) if axis is ax.xaxis else (ax.set_yscale, ax.set_ylim)
    if not style.endswith("log"):
        low, high = (min(float(finite.min()), 0.0), max(float(finite.max()), 0.0)) if finite.size else (0.0, 0.0)
        room = 0.05 * (high - low)
        set_limits((low and low - room, (high + room if high > 0 else 0.0) if high - low else 1.0))
        format_ticks(axis, style)
        return 0.0
    positive = finite[finite > 0]
    low, high = (float(positive.min()), float(positive.max())) if positive.size else (0.1, 1.0)
    if high < 10 * low and style == "percent-log":
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high) - 1e-9)
    zero = low / 2.5 if (finite <= 0).any() else 0.0
    set_scale("log")
    set_limits((0.8 * (zero or low), 1.15 * max(high, 1.01 * low)))
    format_ticks(axis, style, zero)
    return zero


def format_ticks(axis: MatplotlibAxis, style: str, zero: float = 0.0) -> None:
    """Few, round ticks, written for their style; `zero` is where 0 stands on a logarithmic axis."""
    if style.endswith("log"):
        locator = _Decades(numticks=8)
        locator.zero = zero
        axis.set_major_locator(locator)
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))

    def write(value: float, _: object) -> str:
        value = 0.0 if zero and value <= 1.01 * zero else value
        return f"{100 * value:g} %" if style.startswith("percent") else numbers.short(value)

    if style:
        axis.set_major_formatter(FuncFormatter(write))


def zero_line(ax: Axes, axis: str, zero: float, palette: Palette) -> None:
    """A line between 0 and the logarithmic part of an axis."""
    draw = ax.axhline if axis == "y" else ax.axvline
    if zero:
        draw(1.5 * zero, color=palette.muted, lw=0.7, ls=(0, (1, 3)))


def placed(values: Floats, zero: float) -> Floats:
    """Values where an axis shows them: 0 and less at the place of 0 on a logarithmic axis."""
    return np.where(values <= 0, zero, values) if zero else values


def column(rows: Rows, name: str) -> Floats:
    """A column as float64, NULL and infinity as NaN."""
    values = np.array([math.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def extent(query: Query, panel: Panel) -> Floats:
    """All values that the value axis of a panel must show: those of its peers and the ends of their intervals."""
    figure = query.figure
    names = [figure.y.column, figure.fit, figure.reference.column]
    ended = [row for row in panel.peers if not (look := panel.looks.get(row.get(figure.series))) or not look.faint]
    return np.concatenate(
        [column(panel.peers, name) for name in names if name] + [column(ended, name) for name in figure.interval]
    )


def errors(query: Query, rows: Rows, zero: float = 0.0) -> Floats | None:
    """Distances from the value to both ends of its interval, shape (2, rows); None without intervals."""
    if not query.figure.interval:
        return None
    value = placed(column(rows, query.figure.y.column), zero)
    low, high = (placed(column(rows, name), zero) for name in query.figure.interval)
    return np.nan_to_num(np.maximum([value - low, high - value], 0))


def categories(
    ax: Axes, query: Query, panel: Panel, narrow: bool, palette: Palette
) -> Callable[[dict[str, Any]], float]:
    """Where a row stands on x: its value, or its category's place; the apart one is left of all."""
    figure, rows = query.figure, panel.peers
    name = figure.x.column
    if not any(isinstance(row[name], str) for row in rows):
        return lambda row: math.nan if row[name] is None else float(row[name])
    known = [row for row in rows if row[name] != figure.apart]
    if figure.order:
        known = sorted(known, key=lambda row: row[figure.order])
    places = {value: float(i) for i, value in enumerate(distinct(known, name))}
    if len(known) < len(rows):
        places[figure.apart] = -1.5
        ax.axvline(-0.75, color=palette.grid, lw=0.7)
    room = (230 if narrow else 530) / (max(places.values()) - min(places.values()) + 1)
    crowded = max(len(str(value)) for value in places) * 6.5 > room
    ax.set_xticks(list(places.values()), [shown(value, narrow) for value in places])
    ax.set_xlim(min(places.values()) - 0.6, max(places.values()) + 0.6)
    if crowded:
        slant(ax)
    return lambda row: places[row[name]]


def slant(ax: Axes) -> None:
    """Turn the names below an axis so that long ones fit."""
    for tick in ax.get_xticklabels():
        tick.set_rotation(45)
        tick.set_horizontalalignment("right")
        tick.set_rotation_mode("anchor")


def legend_names(looks: Iterable[Look], narrow: bool) -> list[str]:
    """The names of series as a legend writes them."""
    return [shown(look.name, narrow, _LEGEND[narrow]) for look in looks]


def legend_columns(names: Sequence[str], room: float) -> int:
    """How many entries of a legend stand beside each other."""
    return max(1, min(len(names), int(room // (34 + 6.5 * max(map(len, names), default=1)))))


def read_in_rows(entries: Sequence[Entry], columns: int) -> list[Entry]:
    """The entries of a legend in the order that makes it read row by row; matplotlib fills columns first."""
    return [entry for first in range(columns) for entry in entries[first::columns]]


def legend(ax: Axes, palette: Palette, room: float) -> None:
    """A legend above the plot, read in rows."""
    handles, names = ax.get_legend_handles_labels()
    if not names:
        return
    columns = legend_columns(names, room)
    order = read_in_rows(range(len(names)), columns)
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
