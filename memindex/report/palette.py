"""Colours of the figures: real ones for PNG, stand-ins for SVG that become CSS variables.

A figure in the report must look right on light and on dark paper, but matplotlib writes fixed colours. So it
draws with stand-ins that nothing else uses, and `to_css` replaces each by `var(--name)`; the page defines the
variables once for each colour scheme. Series colours start from Okabe and Ito (2008) and were moved apart until any two
of the eight differ for people with protanopia, deuteranopia and tritanopia too, at a contrast of 3 with the paper; a
test simulates that. Series also differ by marker. Each colour has shades: of a family's models, the larger one is
farther from the paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memindex.report.colours import shades

_NAMES = ("ink", "muted", "grid", "paper")
_LIGHT = ("#1c1e21", "#5f6670", "#dfe2e6", "#ffffff")
_DARK = ("#e8e6e1", "#a4a9b0", "#3a3f45", "#16181b")
_LIGHT_SERIES = ("#0072b2", "#d55e00", "#1f5323", "#ad86b7", "#895f5b", "#5c91f9", "#6a1fa0", "#73936c")
_DARK_SERIES = ("#56b4e9", "#ff8f52", "#9ef4d1", "#ba5c98", "#f2dc43", "#7f70e0", "#a8ccd7", "#96a097")

#: Shades of each colour, and the OKLab lightness of the first and the last on light and on dark paper.
SHADES = 8
_LIGHT_ENDS = (0.65, 0.39)
_DARK_ENDS = (0.54, 0.86)

#: One per series colour, so that colour is never the only difference.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Palette:
    """The colours one drawing uses, as #rrggbb; `shades` has `SHADES` of every series colour."""

    ink: str
    muted: str
    grid: str
    paper: str
    series: tuple[str, ...]
    shades: tuple[tuple[str, ...], ...]

    def colour(self, place: int) -> str:
        """The colour of series number `place`; they repeat after eight."""
        return self.series[place % len(self.series)]

    def shade(self, place: int, number: int, of: int) -> str:
        """The colour of member `number` of the `of` members of family number `place`."""
        if of == 1:
            return self.colour(place)
        return self.shades[place % len(self.shades)][round(number * (SHADES - 1) / (of - 1))]


def _palette(named: tuple[str, ...], series: tuple[str, ...], ends: tuple[float, float]) -> Palette:
    ink, muted, grid, paper = named
    return Palette(ink, muted, grid, paper, series, tuple(shades(colour, ends, SHADES) for colour in series))


LIGHT = _palette(_LIGHT, _LIGHT_SERIES, _LIGHT_ENDS)
DARK = _palette(_DARK, _DARK_SERIES, _DARK_ENDS)
STAND_INS = Palette(
    *("#fe8001", "#fe8101", "#fe8201", "#fe8301"),
    tuple(f"#fe{i:02x}01" for i in range(len(_LIGHT_SERIES))),
    tuple(tuple(f"#fd{i:02x}{j:02x}" for j in range(SHADES)) for i in range(len(_LIGHT_SERIES))),
)


def to_css(svg: str) -> str:
    """The drawing with every stand-in replaced by its CSS variable."""
    for name, stand_in in _named(STAND_INS):
        svg = svg.replace(stand_in, f"var(--{name})")
    return svg


def css_variables(dark: bool) -> str:
    """The declarations of all variables for one colour scheme."""
    return " ".join(f"--{name}: {colour};" for name, colour in _named(DARK if dark else LIGHT))


def _named(palette: Palette) -> Iterator[tuple[str, str]]:
    """The colours of a palette with the names of their CSS variables."""
    yield from ((name, getattr(palette, name)) for name in _NAMES)
    for i, colour in enumerate(palette.series):
        yield f"series-{i}", colour
        yield from ((f"shade-{i}-{j}", shade) for j, shade in enumerate(palette.shades[i]))
