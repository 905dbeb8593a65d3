"""Colours of the figures: real ones for PNG, stand-ins for SVG that become CSS variables.

A figure in the report must look right on light and on dark paper, but matplotlib writes fixed colours. So it
draws with stand-ins that nothing else uses, and `to_css` replaces each by `var(--name)`; the page defines the
variables once for each colour scheme. Series colours follow Okabe and Ito (2008), darkened on light paper and
lightened on dark paper until thin lines and labels are readable; series also differ by marker.
"""

from __future__ import annotations

from dataclasses import dataclass

_NAMES = ("ink", "muted", "grid", "paper")
_LIGHT = ("#1c1e21", "#5f6670", "#dfe2e6", "#ffffff")
_DARK = ("#e8e6e1", "#a4a9b0", "#3a3f45", "#16181b")
_LIGHT_SERIES = ("#0072b2", "#d55e00", "#00886a", "#b0508a", "#a97500", "#4a9fd8", "#6f6f6f", "#7a3e9d")
_DARK_SERIES = ("#56b4e9", "#ff8f52", "#35c79b", "#e39ac4", "#e9bd45", "#a9d6f7", "#b5b5b5", "#c79be8")

#: One per series colour, so that colour is never the only difference.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Palette:
    """The colours one drawing uses, as #rrggbb."""

    ink: str
    muted: str
    grid: str
    paper: str
    series: tuple[str, ...]

    def colour(self, place: int) -> str:
        """The colour of series number `place`; they repeat after eight."""
        return self.series[place % len(self.series)]


LIGHT = Palette(*_LIGHT, _LIGHT_SERIES)
STAND_INS = Palette(
    "#fe8001", "#fe8101", "#fe8201", "#fe8301", tuple(f"#fe{i:02x}01" for i in range(len(_LIGHT_SERIES)))
)


def to_css(svg: str) -> str:
    """The drawing with every stand-in replaced by its CSS variable."""
    for name, stand_in in _stand_ins().items():
        svg = svg.replace(stand_in, f"var(--{name})")
    return svg


def css_variables(dark: bool) -> str:
    """The declarations of all variables for one colour scheme."""
    colours = (*_DARK, *_DARK_SERIES) if dark else (*_LIGHT, *_LIGHT_SERIES)
    return " ".join(f"--{name}: {colour};" for name, colour in zip(_stand_ins(), colours, strict=True))


def _stand_ins() -> dict[str, str]:
    named = {name: getattr(STAND_INS, name) for name in _NAMES}
    return named | {f"series-{i}": colour for i, colour in enumerate(STAND_INS.series)}
