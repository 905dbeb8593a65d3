"""Figures of the queries: an Arrow table and the figure's description become an SVG or a PNG.

Each kind is one function that draws on one pair of axes; `drawing` chooses it, and splits the rows into
panels. Categories always run down the page (dots) or are few (line), so names of any length stay readable on
a phone. Text in an SVG stays text. The same table gives the same bytes: no dates, no random ids.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from memindex.errors import MemindexError
from memindex.index.manifest import writing_atomically
from memindex.report import axes as axes_of
from memindex.report import grid, lines, matrices
from memindex.report.describing import describe
from memindex.report.dots import LANE, ROW, categories, dots, room
from memindex.report.families import Families
from memindex.report.labels import shown
from memindex.report.palette import DARK, LIGHT, STAND_INS, Palette
from memindex.report.panels import Panel, distinct, panels
from memindex.report.svg import inline, standalone, svg_of
from memindex.sql.queries import Query

#: Widths in CSS pixels: on a desk, and on a phone.
WIDE = 700
NARROW = 350

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "savefig.dpi": 144,
    "svg.fonttype": "none",
    "svg.hashsalt": "memindex",
    "text.parse_math": False,  # a domain may be called a$b$c
    "xtick.labelsize": 10,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "ytick.labelsize": 10,
}

_KINDS: dict[str, Callable[[Axes, Query, Panel, Palette, bool], lines.Finish]] = {
    "points": lines.points,
    "line": lines.line,
    "dots": dots,
    "cells": matrices.cells,
    "heat": matrices.heat,
}

_GROUPED = "Of each family the largest model is drawn in full, with its interval; the smaller, the fainter."

_lock = threading.Lock()


def inline_svg(query: Query, table: pa.Table, width: int = WIDE, families: Families | None = None) -> str:
    """The figure as an <svg> element for a page that defines `css_variables`; '' where nothing can be drawn."""
    if why_nothing(query, table):
        return ""
    svg = _svg(query, table, width, families)
    return inline(svg, f"{query.name}-{width}", query.title, describe(query, table))


def standalone_svg(query: Query, table: pa.Table, width: int = WIDE, families: Families | None = None) -> str:
    """The figure as an SVG file with its own colours, light and dark, `width` CSS pixels wide.

    Raises:
        MemindexError: There is nothing to draw.
    """
    if why := why_nothing(query, table):
        raise MemindexError(f"the query {query.name} has nothing to draw: {why}")
    return standalone(_svg(query, table, width, families), query.name, query.title, describe(query, table))


def save_figure(
    query: Query, table: pa.Table, path: str | Path, families: Families | None = None, *, dark: bool = False
) -> Path:
    """Write the figure of a query's result to a .svg (light and dark) or .png file; it appears whole or not at all.

    Args:
        query: The question, of `memindex.sql.queries`.
        table: Its answer.
        path: The file.
        families: The study's models (`families_of`), by which many are grouped and coloured.
        dark: Draw a .png for dark paper.

    Raises:
        MemindexError: Another ending, a query that has no figure, or a result that gives nothing to draw.
    """
    target = Path(path)
    if target.suffix not in {".svg", ".png"}:
        raise MemindexError(f"{target}: a figure is saved as .svg or .png")
    if not target.absolute().parent.is_dir() or target.is_dir():
        raise MemindexError(f"{target}: give the name of a file in a directory that exists")
    if target.suffix == ".svg":
        svg = standalone_svg(query, table, WIDE, families)
        with writing_atomically(target) as stream:
            stream.write(svg.encode())
        return target
    if why := why_nothing(query, table):
        raise MemindexError(f"the query {query.name} has nothing to draw: {why}")
    with _style(), writing_atomically(target) as stream:
        drawing(query, table, DARK if dark else LIGHT, WIDE, families).savefig(
            stream, format="png", metadata={"Software": None}
        )
    return target


def why_nothing(query: Query, table: pa.Table) -> str:
    """Why there is no figure; '' where there is one."""
    figure = query.figure
    if figure.kind == "none":
        return "it is a table"
    if not table.num_rows:
        return "it has no rows"
    for axis in (figure.x, figure.y):
        values = table[axis.column]
        # A model of unknown size has no place on the axis.
        needed = axis is figure.y or figure.kind == "points"
        if needed and not pc.any(pc.fill_null(pc.is_finite(pc.cast(values, "float64")), False)).as_py():
            return f"no row has a number in {axis.column}"
    return ""


def drawing(query: Query, table: pa.Table, palette: Palette, width: int, families: Families | None = None) -> Canvas:
    """The matplotlib figure of a query's result, `width` CSS pixels wide."""
    parts = panels(query, table.to_pylist(), palette, families or Families())
    across = min(query.figure.columns, len(parts)) if width > NARROW else 1
    narrow = width // across < 500
    heights = grid.row_heights([_height(query, panel, narrow, in_grid=across > 1) for panel in parts], across)
    remark = fill(_GROUPED, width // 6) if any(panel.is_grouped for panel in parts) else ""
    height = sum(heights) + 16 * len(remark.splitlines())
    height += grid.legend_height([look.name for look in parts[0].looks.values()], width) if across > 1 else 0
    canvas = Canvas(figsize=(width / 72, height / 72), dpi=72, layout="constrained", facecolor=palette.paper)
    FigureCanvasAgg(canvas)
    axes = grid.axes_of(canvas, heights, across, len(parts))
    shares_legend = all(dict(panel.looks) == dict(parts[0].looks) for panel in parts)
    if remark:
        canvas.supxlabel(remark, x=0.01, ha="left", fontsize=10, color=palette.muted, linespacing=1.3)
    finishes, named = [], dict[str, Any]()
    for ax, panel in zip(axes, parts, strict=True):
        finishes.append(_KINDS[query.figure.kind](ax, query, panel, palette, narrow))
        if across > 1:
            named |= grid.take_legend(ax)
        _ink(ax, palette)
        if panel.in_family and panel is not parts[-1]:
            ax.tick_params(labelbottom=False)
            ax.set_xlabel("")
        if panel.title:
            _title(ax, panel.title, palette, keeps_legend=ax is axes[0] or not shares_legend)
    if across > 1:
        grid.share(canvas, axes, named, palette, width)
    if any(finishes):
        canvas.get_layout_engine().execute(canvas)  # type: ignore[union-attr]
    for finish in filter(None, finishes):
        finish()
    return canvas


def _svg(query: Query, table: pa.Table, width: int, families: Families | None) -> str:
    with _style():
        return svg_of(drawing(query, table, STAND_INS, width, families))


def _height(query: Query, panel: Panel, narrow: bool, in_grid: bool) -> int:
    """Height of one panel in CSS pixels; the legend of a grid stands apart."""
    figure = query.figure
    if figure.kind == "cells":
        names = [shown(panel.names.get(name, name), narrow) for name in distinct(panel.rows, figure.x.column)]
        return 60 + 4 * max(map(len, names)) + 30 * len(distinct(panel.rows, figure.series))
    if figure.kind == "heat":
        return 90 + min(420, max(120, 14 * len(distinct(panel.peers, figure.series))))
    looks = [look for look in panel.looks.values() if not look.faint]
    named = [*axes_of.legend_names(looks, narrow), *([figure.reference.label] if figure.reference.column else [])]
    space = room(query, panel, narrow) if figure.kind == "dots" else 285 if narrow else 620
    legend = 18 * -(-len(named) // axes_of.legend_columns(named, space)) if len(named) > 1 and not in_grid else 0
    title = 20 if panel.title else 0
    if figure.kind == "dots":
        lanes = panel.lanes if figure.interval else 1
        return 70 + title + legend + len(categories(query, panel)) * max(ROW, LANE * lanes + 10)
    plot = 200 if panel.in_family else 230 if figure.panel else 300
    if figure.kind == "line" and not narrow:
        return title + max(plot, 13 * len(looks) + 70)
    return title + plot + legend


def _title(ax: Axes, title: str, palette: Palette, keeps_legend: bool) -> None:
    """A panel's title, above the legend, which panels of the same series show once."""
    legend = ax.get_legend()
    above = 6.0
    if legend is not None and keeps_legend:
        above += legend.get_window_extent().height
    elif legend is not None:
        legend.remove()
    above += 16 if ax.child_axes else 0  # the colour scale of a heat map
    ax.set_title(shown(title, longest=60), color=palette.ink, fontweight="bold", pad=above)


def _ink(ax: Axes, palette: Palette) -> None:
    ax.set_facecolor("none")
    ax.tick_params(colors=palette.muted)
    for spine in ax.spines.values():
        spine.set_color(palette.muted)
    ax.xaxis.label.set_color(palette.ink)
    ax.yaxis.label.set_color(palette.ink)


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's settings for one drawing; they are global, so one thread draws at a time."""
    with _lock, mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Layout measures with DejaVu; the reader's fonts have the glyphs that it lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
