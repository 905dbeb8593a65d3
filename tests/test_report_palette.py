"""The colours of figures, against an independent simulation of colour blindness and the contrast rules of WCAG."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from memindex.report.colours import contrast, linear, oklab, shades, written
from memindex.report.matrices import CELL_DEPTHS
from memindex.report.palette import DARK, LIGHT, MARKERS, SHADES, STAND_INS, Palette, css_variables, to_css

PALETTES = {"light": LIGHT, "dark": DARK}

#: Machado, Oliveira and Fernandes (2009), table 1, severity 1, on linear sRGB.
SIGHT = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def distance(one: str, other: str, sight: np.ndarray) -> float:
    """How far two colours are apart for an eye, in hundredths of OKLab; 2 is just noticeable."""
    return 100 * float(np.linalg.norm(oklab(sight @ linear(one)) - oklab(sight @ linear(other))))


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("mode", PALETTES)
def test_any_two_series_differ_for_every_eye(mode: str, sight: str) -> None:
    pairs = list(itertools.combinations(PALETTES[mode].series, 2))
    assert len(pairs) == 28
    assert min(distance(*pair, SIGHT[sight]) for pair in pairs) > 9
    few = itertools.combinations(PALETTES[mode].series[:3], 2)
    assert min(distance(*pair, SIGHT[sight]) for pair in few) > 14


def test_the_simulation_finds_a_bad_palette() -> None:
    # Matplotlib's default red and green, the pair that colour-blind people can't tell apart.
    assert distance("#d62728", "#2ca02c", SIGHT["full"]) > 25
    assert distance("#8c6d1f", "#5f8a2a", SIGHT["deuteranopia"]) < 9


@pytest.mark.parametrize("mode", PALETTES)
def test_text_and_marks_stand_out_from_the_paper(mode: str) -> None:
    palette = PALETTES[mode]
    assert contrast(palette.ink, palette.paper) > 7
    assert contrast(palette.muted, palette.paper) > 4.5
    assert contrast(palette.series[0], palette.paper) > 4.5  # links
    assert min(contrast(colour, palette.paper) for colour in palette.series) > 3
    assert min(contrast(shade, palette.paper) for family in palette.shades for shade in family) > 3


@pytest.mark.parametrize("mode", PALETTES)
def test_values_in_cells_stand_out_from_their_colour(mode: str) -> None:
    palette = PALETTES[mode]
    for depth in CELL_DEPTHS:
        over, under = (
            np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) for colour in (palette.series[0], palette.paper)
        )
        mixed = "#" + "".join(f"{round(part):02x}" for part in depth * over + (1 - depth) * under)
        assert contrast(palette.ink, mixed) > 4.5


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#ffffff", "#777777") == contrast("#777777", "#ffffff")


@pytest.mark.parametrize("mode", PALETTES)
def test_shades_go_away_from_the_paper(mode: str) -> None:
    palette = PALETTES[mode]
    for family in palette.shades:
        contrasts = [contrast(shade, palette.paper) for shade in family]
        assert contrasts == sorted(contrasts)
        assert len(set(family)) == SHADES
        assert min(distance(*pair, SIGHT["full"]) for pair in itertools.pairwise(family)) > 2


def test_a_member_of_a_family_has_its_shade() -> None:
    assert LIGHT.shade(1, 0, 1) == LIGHT.series[1]
    assert [LIGHT.shade(1, i, 3) for i in range(3)] == [LIGHT.shades[1][place] for place in (0, 4, 7)]
    assert LIGHT.shade(9, 19, 20) == LIGHT.shades[1][7]


def test_colours_survive_the_way_there_and_back() -> None:
    for colour in (*LIGHT.series, *DARK.series):
        assert written(linear(colour)) == colour
    lightness = float(oklab(linear("#0072b2"))[0])
    assert shades("#0072b2", (lightness, lightness), 1) == ("#0072b2",)


def test_every_colour_is_a_variable_of_its_own() -> None:
    stand_ins = [getattr(STAND_INS, name) for name in ("ink", "muted", "grid", "paper")]
    stand_ins += [*STAND_INS.series, *itertools.chain(*STAND_INS.shades)]
    variables = to_css(" ".join(stand_ins)).split()
    assert len(set(variables)) == len(stand_ins) == 4 + 8 + 8 * SHADES
    for dark in (False, True):
        defined = css_variables(dark=dark)
        assert all(f"{variable[4:-1]}: #" in defined for variable in variables)
    assert isinstance(LIGHT, Palette)
    assert len(set(MARKERS)) == len(LIGHT.series)
