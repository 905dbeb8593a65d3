"""Colour arithmetic: contrast as WCAG 2.2 defines it, and shades of a hue in Ottosson's OKLab (2020)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def linear(colour: str) -> Floats:
    """#rrggbb as linear sRGB, float64 of shape (3,)."""
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def written(value: Floats) -> str:
    """Linear sRGB of shape (3,) as #rrggbb."""
    inside = np.clip(value, 0, 1)
    encoded = np.where(inside <= 0.0031308, 12.92 * inside, 1.055 * inside ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in encoded)


def oklab(value: Floats) -> Floats:
    """Linear sRGB as lightness (0..1), green to red and blue to yellow; shape (3,)."""
    return np.asarray(_TO_LAB @ np.cbrt(_TO_CONES @ np.clip(value, 0, 1)))


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21: text needs 4.5, lines and marks 3 (WCAG 2.2, 1.4.3 and 1.4.11)."""
    lights = sorted(float(np.dot([0.2126, 0.7152, 0.0722], linear(colour))) for colour in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def shades(colour: str, lightness: tuple[float, float], steps: int) -> tuple[str, ...]:
    """A colour's hue in steps from one OKLab lightness to another, as vivid as sRGB allows up to the colour itself."""
    _, *hue = oklab(linear(colour))
    return tuple(written(_inside(float(light), np.array(hue))) for light in np.linspace(*lightness, steps))


def _inside(lightness: float, hue: Floats) -> Floats:
    """The most vivid linear sRGB of a lightness and hue."""
    for part in np.linspace(1, 0, 21):
        value = np.linalg.solve(_TO_CONES, np.linalg.solve(_TO_LAB, np.array([lightness, *(part * hue)])) ** 3)
        if (value >= -1e-4).all() and (value <= 1.0001).all():
            return np.asarray(value)
    return np.full(3, lightness**3)
