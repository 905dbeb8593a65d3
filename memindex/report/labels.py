"""Labels beside the data instead of a legend, moved until they don't cover each other."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from memindex.report.palette import Palette
from memindex.report.panels import Look

_LONGEST = 26
_LONGEST_NARROW = 20
_LINE = 13.0  # height of a label in CSS pixels

#: Where a point's label may stand: offset in pixels, horizontal and vertical alignment.
_SPOTS = (
    (-7, 5, "right", "bottom"),  # first, because rates rise to the right
    (7, -5, "left", "top"),
    (7, 5, "left", "bottom"),
    (-7, -5, "right", "top"),
    (0, 16, "center", "bottom"),
    (0, -16, "center", "top"),
)


@dataclass(frozen=True)
class End:
    """Where a line ends, in data coordinates, and how it is drawn."""

    look: Look
    x: float
    y: float


def shown(name: Any, narrow: bool = False, longest: int = 0) -> str:
    """A name from the data as a label: no control characters, its middle cut out where it is long."""
    text = "".join(" " if unicodedata.category(c).startswith("C") else c for c in str(name))
    longest = longest or (_LONGEST_NARROW if narrow else _LONGEST)
    if len(text) > longest and "/" in text.rstrip("/"):
        text = text.rstrip("/").rsplit("/", 1)[1]  # organization/model, folder/folder/model
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def label_ends(ax: Axes, ends: list[End], palette: Palette) -> None:
    """Write the name of each line, behind its marker, to the right of the plot, spread so that they don't overlap.

    The layout must be settled: labels are placed by pixels.
    """
    if not ends:
        return
    box = ax.get_window_extent()
    edge = box.x1 + 16
    pixels = [float(ax.transData.transform((end.x, end.y))[1]) for end in ends]
    order = sorted(range(len(ends)), key=lambda i: (pixels[i], i))
    spread = _spread([pixels[i] for i in order], box.y0, box.y1)
    to_axes = ax.transAxes.inverted()
    for i, pixel in zip(order, spread, strict=True):
        end = ends[i]
        x, y = to_axes.transform((edge, pixel))
        ax.annotate(
            "",
            (end.x, end.y),
            xytext=(x, y),
            textcoords="axes fraction",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": end.look.colour, "lw": 0.7, "shrinkA": 0, "shrinkB": 4},
        )
        ax.plot([x], [y], end.look.marker, color=end.look.colour, transform=ax.transAxes, clip_on=False)
        ax.annotate(
            shown(end.look.name),
            (x, y),
            xycoords="axes fraction",
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=palette.ink,
            fontsize=10,
            annotation_clip=False,
        )


def _spread(wanted: list[float], bottom: float, top: float) -> list[float]:
    """Ascending places near the wanted ones and at least a line apart, downwards from the top."""
    places = list(wanted)
    ceiling = top
    for i in reversed(range(len(places))):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - _LINE
    floor = bottom
    for i in range(len(places)):
        places[i] = max(places[i], floor)
        floor = places[i] + _LINE
    return places


def label_points(
    ax: Axes, rows: list[dict[str, Any]], columns: tuple[str, str, str], names: Mapping[Any, str], palette: Palette
) -> None:
    """Write each row's label beside its point, at the first free spot, or nowhere; columns: label, x, y.

    The layout must be settled.
    """
    label, x, y = columns
    frame = ax.get_window_extent()
    taken = [_around(*ax.transData.transform((row[x], row[y]))) for row in rows]
    renderer = ax.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for row in rows:
        for dx, dy, horizontal, vertical in _SPOTS:
            text = ax.annotate(
                shown(names.get(row[label], row[label])),
                (row[x], row[y]),
                xytext=(dx, dy),
                textcoords="offset pixels",
                ha=horizontal,
                va=vertical,
                color=palette.ink,
            )
            box = text.get_window_extent(renderer)
            inside = box.x0 >= frame.x0 and box.x1 <= frame.x1 + 4
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def _around(x: float, y: float) -> Bbox:
    return Bbox.from_extents(x - 4, y - 4, x + 4, y + 4)
