"""Figures of the queries: an Arrow table and the figure's description become an SVG or a PNG.

Each kind is one function that draws on one pair of axes; `drawing` chooses it, and splits the rows into
panels. Categories always run down the page (dots) or are few (line), so names of any length stay readable on
a phone. Text in an SVG stays text. The same table gives the same bytes: no dates, no random ids.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from memindex.errors import MemindexError
from memindex.report import kinds
from memindex.report.kinds import Rows
from memindex.report.palette import LIGHT, STAND_INS, Palette, css_variables, to_css
from memindex.tables.queries import Query

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

_KINDS: dict[str, Callable[[Axes, Query, Rows, Palette, bool], None]] = {
    "points": kinds.points,
    "line": kinds.line,
    "dots": kinds.dots,
    "cells": kinds.cells,
}

_lock = threading.Lock()


def inline_svg(query: Query, table: pa.Table, width: int = WIDE) -> str:
    """The figure as an <svg> element for a page that defines `css_variables`; '' without rows."""
    if not has_figure(query, table):
        return ""
    with _style():
        svg = _svg(drawing(query, table, STAND_INS, width))
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    return to_css(_unique_ids(svg, f"{query.name}-{width}"))


def save_figure(query: Query, table: pa.Table, path: str | Path) -> Path:
    """Write the figure of a query's result to a .svg (light and dark) or .png file (light).

    Raises:
        MemindexError: Another ending, a query that has no figure, or a result without rows.
    """
    target = Path(path)
    if not has_figure(query, table):
        raise MemindexError(f"the query {query.name} has nothing to draw: no figure, or no rows")
    with _style():
        if target.suffix == ".svg":
            svg = to_css(_svg(drawing(query, table, STAND_INS, WIDE)))
            target.write_text(_standalone(svg), encoding="utf-8")
        elif target.suffix == ".png":
            drawing(query, table, LIGHT, WIDE).savefig(target, metadata={"Software": None})
        else:
            raise MemindexError(f"{target}: a figure is saved as .svg or .png")
    return target


def has_figure(query: Query, table: pa.Table) -> bool:
    """Whether there is anything to draw."""
    if query.figure.kind == "none" or not table.num_rows:
        return False
    # A model of unknown size has no place on the axis.
    return query.figure.kind != "points" or table[query.figure.x.column].null_count < table.num_rows


def drawing(query: Query, table: pa.Table, palette: Palette, width: int) -> Canvas:
    """The matplotlib figure of a query's result, `width` CSS pixels wide."""
    panels = _panels(query, table)
    narrow = width < 500
    height = sum(kinds.height(query, rows, narrow) for rows in panels.values())
    canvas = Canvas(figsize=(width / 72, height / 72), dpi=72, layout="constrained", facecolor=palette.paper)
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(len(panels), 1, squeeze=False)[:, 0]
    for ax, (title, rows) in zip(axes, panels.items(), strict=True):
        _KINDS[query.figure.kind](ax, query, rows, palette, narrow)
        _ink(ax, palette)
        if title:
            _title(ax, title, palette, first=ax is axes[0])
    return canvas


def _title(ax: Axes, title: str, palette: Palette, first: bool) -> None:
    """A panel's title, above the legend, which only the first panel keeps."""
    legend = ax.get_legend()
    above = 6.0
    if legend is not None and first:
        above += legend.get_window_extent().height
    elif legend is not None:
        legend.remove()
    ax.set_title(title, color=palette.ink, fontweight="bold", pad=above)


def _panels(query: Query, table: pa.Table) -> dict[str, Rows]:
    rows: Rows = table.to_pylist()
    if not query.figure.panel:
        return {"": rows}
    column = query.figure.panel
    names = dict.fromkeys(row[column] for row in rows)
    return {f"{column}: {name}": [row for row in rows if row[column] == name] for name in names}


def _ink(ax: Axes, palette: Palette) -> None:
    ax.set_facecolor("none")
    ax.tick_params(colors=palette.muted)
    for spine in ax.spines.values():
        spine.set_color(palette.muted)
    ax.xaxis.label.set_color(palette.ink)
    ax.yaxis.label.set_color(palette.ink)


def _svg(canvas: Canvas) -> str:
    sink = io.StringIO()
    metadata: Any = {"Date": None, "Creator": None, "Format": None, "Type": None}
    canvas.savefig(sink, format="svg", metadata=metadata, transparent=True)
    svg = sink.getvalue()
    svg = svg[svg.index("<svg") :]
    for junk in (r"<metadata>.*?</metadata>\s*", r"<style.*?</style>\s*", r"<!--.*?-->\s*"):
        svg = re.sub(junk, "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="([\d.]+)pt"', r'\1 height="\2"', svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt"', r'\1 width="\2"', svg, count=1)
    return svg.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")


def _standalone(svg: str) -> str:
    """The drawing with its own colours, for a file that no page surrounds."""
    style = (
        f"<style>svg {{ {css_variables(dark=False)} background: var(--paper); stroke-linejoin: round }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{ {css_variables(dark=True)} }} }}</style>"
    )
    end = svg.index(">") + 1
    return svg[:end] + style + svg[end:]


def _unique_ids(svg: str, prefix: str) -> str:
    """Drop ids that nothing refers to, and prefix the others: many figures share one page."""
    used = set(re.findall(r"#([\w-]+)", svg))

    def rename(match: re.Match[str]) -> str:
        return f' id="{prefix}-{match.group(1)}"' if match.group(1) in used else ""

    svg = re.sub(r' id="([^"]*)"', rename, svg)
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", svg)


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's settings for one drawing; they are global, so one thread draws at a time."""
    with _lock, mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Layout measures with DejaVu; the reader's fonts have the glyphs that it lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
