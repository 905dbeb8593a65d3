"""Small figures beside each other, on one scale: one legend above all, and names of axes only at the edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from memindex.report.axes import legend_columns, read_in_rows
from memindex.report.palette import Palette


def row_heights(heights: Sequence[int], across: int) -> list[int]:
    """The height of each row of panels, given those of the panels."""
    return [max(heights[first : first + across]) for first in range(0, len(heights), across)]


def axes_of(canvas: Canvas, heights: Sequence[int], across: int, panels: int) -> list[Axes]:
    """The axes of the panels, row after row."""
    made = canvas.subplots(len(heights), across, squeeze=False, height_ratios=heights)
    found: list[Axes] = list(made.flat)
    for ax in found[panels:]:
        ax.remove()
    return found[:panels]


def legend_height(names: Sequence[str], width: int) -> int:
    """Height of the legend above a grid in CSS pixels."""
    return 18 * -(-len(names) // legend_columns(names, width - 40))


def take_legend(ax: Axes) -> dict[str, Any]:
    """Remove the legend of a panel; its names with what they are drawn as."""
    handles, names = ax.get_legend_handles_labels()
    if (legend := ax.get_legend()) is not None:
        legend.remove()
    return dict(zip(names, handles, strict=True))


def share(canvas: Canvas, axes: Sequence[Axes], named: dict[str, Any], palette: Palette, width: int) -> None:
    """Put what the panels' legends had into one, and keep the names of axes left and below only."""
    across = len({round(ax.get_position().x0, 3) for ax in axes})
    for place, ax in enumerate(axes):
        if place % across:
            ax.set_ylabel("")
        if place + across < len(axes):
            ax.set_xlabel("")
    if not named:
        return
    columns = legend_columns(list(named), width - 40)
    names = read_in_rows(list(named), columns)
    canvas.legend(
        [named[name] for name in names],
        names,
        loc="outside upper left",
        ncols=columns,
        labelcolor=palette.ink,
        handletextpad=0.4,
        columnspacing=1.2,
        handlelength=1.6,
    )
