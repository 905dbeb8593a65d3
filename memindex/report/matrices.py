"""Matrices: `cells` with the value written in each, and `heat` for many, with a colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from memindex.report import axes, numbers
from memindex.report.labels import shown
from memindex.report.palette import Palette
from memindex.report.panels import Panel, distinct
from memindex.sql.queries import Query

_LEVELS = 16  # depths of colour in a heat map
_DEPTHS = (0.04, 1.0)

#: Depths of colour of the least and the greatest value in cells, whose text must stay readable.
CELL_DEPTHS = (0.08, 0.5)


def cells(ax: Axes, query: Query, panel: Panel, palette: Palette, narrow: bool) -> None:
    """A matrix: series down, x across, the value written in each cell and shown by its depth of colour."""
    figure = query.figure
    down, across = distinct(panel.rows, figure.series), distinct(panel.rows, figure.x.column)
    width = (220 if narrow else 520) / len(across)  # of a cell in CSS pixels
    values = axes.column(panel.rows, figure.y.column)
    least, most = _range(axes.column(panel.peers, figure.y.column), figure.y.style)
    for row, value in zip(panel.rows, values, strict=True):
        i, j = down.index(row[figure.series]), across.index(row[figure.x.column])
        share = (value - least) / (most - least)
        depth = 0.0 if np.isnan(value) else CELL_DEPTHS[0] + (CELL_DEPTHS[1] - CELL_DEPTHS[0]) * share
        corner = (j - 0.48, i - 0.46)
        ax.add_patch(Rectangle(corner, 0.96, 0.92, color=palette.colour(0), alpha=depth, lw=0))
        if width >= 22:  # smaller digits can't be read
            text = _written(float(value), figure.y.style, width)
            ax.text(j, i, text, ha="center", va="center", color=palette.ink, fontsize=min(10, width / 2.4))
    _names(ax, panel, down, across, narrow)
    if narrow or len(across) > 6:
        axes.slant(ax)
    ax.set_xlabel(figure.x.label)
    if width < 22:
        _colour_scale(ax, palette, (least, most), CELL_DEPTHS, query, narrow)


def heat(ax: Axes, query: Query, panel: Panel, palette: Palette, narrow: bool) -> None:
    """A matrix of many cells, series down and x across: the deeper the colour, the larger the value."""
    figure = query.figure
    down, across = (_sorted(distinct(panel.peers, name)) for name in (figure.series, figure.x.column))
    values = axes.column(panel.rows, figure.y.column)
    least, most = _range(axes.column(panel.peers, figure.y.column), "")
    levels = np.floor(np.nan_to_num((values - least) / (most - least)) * (_LEVELS - 1e-9)).astype(np.int64)
    places = np.array(
        [(across.index(row[figure.x.column]), down.index(row[figure.series])) for row in panel.rows], dtype=np.float64
    )
    for level in range(_LEVELS):
        _squares(ax, places[(levels == level) & ~np.isnan(values)], palette, level)
    _names(ax, panel, down, across, narrow)
    _thin(ax)
    ax.set_xlabel(figure.x.label)
    ax.set_ylabel(figure.series.replace("_", " ").capitalize())
    _colour_scale(ax, palette, (least, most), _DEPTHS, query, narrow)


def _squares(ax: Axes, places: npt.NDArray[np.float64], palette: Palette, level: int) -> None:
    """The cells of one depth as one path: a map of 32 x 32 heads stays small."""
    if not len(places):
        return
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) - 0.5
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(places)
    path = Path((places[:, None, :] + corners).reshape(-1, 2), codes)
    ax.add_patch(PathPatch(path, color=palette.colour(0), alpha=_depth(level), lw=0))


def _depth(level: int, depths: tuple[float, float] = _DEPTHS) -> float:
    return depths[0] + (depths[1] - depths[0]) * level / (_LEVELS - 1)


def _colour_scale(
    ax: Axes, palette: Palette, ends: tuple[float, float], depths: tuple[float, float], query: Query, narrow: bool
) -> None:
    """The depths of colour with the values at their ends, above the map."""
    scale = ax.inset_axes((0.0, 1.02, 0.2 if narrow else 0.32, 12 / max(ax.bbox.height, 60)))
    for level in range(_LEVELS):
        scale.add_patch(Rectangle((level, 0), 1, 1, color=palette.colour(0), alpha=_depth(level, depths), lw=0))
    scale.set(xlim=(0, _LEVELS), ylim=(0, 1), xticks=[], yticks=[])
    for spine in scale.spines.values():
        spine.set_visible(False)
    figure = query.figure
    low, high = (_written(end, figure.y.style, 99) for end in ends)
    ax.annotate(
        f"{low} to {high}: {figure.y.label}",
        (1.03, 0.5),
        xycoords=scale.transAxes,
        va="center",
        color=palette.ink,
        fontsize=10,
        annotation_clip=False,
    )


def _range(values: npt.NDArray[np.float64], style: str) -> tuple[float, float]:
    """The values of the least and the greatest depth: 0 and 1 for percentages, else those there are."""
    finite = values[np.isfinite(values)]
    if style == "percent" or not finite.size:
        return 0.0, 1.0
    least, most = float(finite.min()), float(finite.max())
    return (least, most) if most > least else (least, least + 1)


def _written(value: float, style: str, width: float) -> str:
    if np.isnan(value):
        return "—"
    if style.startswith("percent"):
        return f"{100 * value:.0f}" + (" %" if width > 34 else "")
    return f"{value:.2f}" if abs(value) < 10 else numbers.short(value)


def _names(ax: Axes, panel: Panel, down: Sequence[Any], across: Sequence[Any], narrow: bool) -> None:
    ax.set_xticks(range(len(across)), [shown(panel.names.get(name, name), narrow) for name in across])
    ax.set_yticks(range(len(down)), [shown(panel.names.get(name, name), narrow) for name in down])
    ax.set_xlim(-0.5, len(across) - 0.5)
    ax.set_ylim(len(down) - 0.5, -0.5)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _thin(ax: Axes) -> None:
    """Write so many of the numbers of rows and columns that they don't touch."""
    for labels, most in ((ax.get_yticklabels(), 16), (ax.get_xticklabels(), 16)):
        every = -(-len(labels) // most)
        for number, label in enumerate(labels):
            label.set_visible(number % every == 0)


def _sorted(names: list[Any]) -> list[Any]:
    """Numbers in their order, texts as they come."""
    return sorted(names) if all(isinstance(name, (int, float)) for name in names) else names
