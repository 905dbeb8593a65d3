"""Labels beside the data instead of a legend, moved until they don't cover each other."""

from __future__ import annotations

import unicodedata
from typing import Any

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from memindex.report.palette import Palette

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


def shown(name: Any, narrow: bool = False) -> str:
    """A name from the data as a label: no control characters, its middle cut out where it is long."""
    text = "".join(" " if unicodedata.category(c).startswith("C") else c for c in str(name))
    longest = _LONGEST_NARROW if narrow else _LONGEST
    if len(text) > longest and "/" in text.rstrip("/"):
        text = text.rstrip("/").rsplit("/", 1)[1]  # organization/model, folder/folder/model
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def label_ends(ax: Axes, ends: list[tuple[str, float, float, str]]) -> None:
    """Write each (name, x, y, colour) to the right of the plot, spread so that they don't overlap."""
    if not ends:
        return
    right = ax.get_xlim()[1]
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]  # settles the layout, which settles pixels
    bottom, top = ax.get_window_extent().intervaly
    pixels = [float(ax.transData.transform((x, y))[1]) for _, x, y, _ in ends]
    order = sorted(range(len(ends)), key=lambda i: (pixels[i], i))
    spread = _spread([pixels[i] for i in order], bottom, top)
    for i, pixel in zip(order, spread, strict=True):
        name, x, y, colour = ends[i]
        ax.annotate(
            name,
            (x, y),
            xytext=(right, float(ax.transData.inverted().transform((0, pixel))[1])),
            textcoords="data",
            va="center",
            color=colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "alpha": 0.6, "relpos": (0, 0.5), "shrinkB": 4},
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
    ax: Axes, rows: list[dict[str, Any]], columns: tuple[str, str, str], palette: Palette, narrow: bool
) -> None:
    """Write each row's label beside its point, at the first free spot, or nowhere; columns: label, x, y."""
    label, x, y = columns
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    frame = ax.get_window_extent()
    taken = [_around(*ax.transData.transform((row[x], row[y]))) for row in rows]
    renderer = ax.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for row in rows:
        for dx, dy, horizontal, vertical in _SPOTS:
            text = ax.annotate(
                shown(row[label], narrow),
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
