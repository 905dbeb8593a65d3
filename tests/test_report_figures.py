"""What is drawn: looks of series, panels, axes and their zeros, figures of many models, probes' kinds, files."""

from __future__ import annotations

import functools
import sys
import threading
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from report_study import DOMAINS, MODELS, make_large_study
from synthetic_study import MODELS as MODELS_OF_STUDY
from synthetic_study import make_study

from memindex.cli import main
from memindex.errors import MemindexError
from memindex.report import Families, families_of, save_figure
from memindex.report.figures import NARROW, WIDE, drawing, inline_svg, why_nothing
from memindex.report.palette import LIGHT
from memindex.report.panels import looks, panels
from memindex.sql.connection import connect
from memindex.sql.queries import Query, load_query, parse_query, run_query

THREE = Families([("o/a-1b", "a", 10**9, 1), ("o/a-7b", "a", 7 * 10**9, 1), ("x/b-7b", "b", 7 * 10**9, 1)])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_large_study(tmp_path_factory.mktemp("large"), rows=240)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("small"), rows=60)


@pytest.fixture(scope="module")
def answers(study: Path) -> Callable[[str], pa.Table]:
    """The answers of the large study by query, each computed once."""
    con = connect(study)
    return functools.cache(lambda name: run_query(con, name))


@pytest.fixture(scope="module")
def families(study: Path) -> Families:
    with connect(study) as con:
        return families_of(con)


def query_of(*header: str) -> Query:
    lines = ("title: A title", "question: A question?", *header)
    return parse_query("made_up", "\n".join(f"-- {line}" for line in lines) + "\n\nSELECT 1")


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


def line_query(style: str = "percent", *more: str) -> Query:
    return query_of("figure: line", "x: x | Across", f"y: y | Up | {style}", "series: s", *more)


def axes_of(query: Query, data: pa.Table, width: int = WIDE, families: Families | None = None) -> list[Any]:
    canvas = drawing(query, data, LIGHT, width, families)
    canvas.draw_without_rendering()
    return canvas.axes


# Panels beside each other


def grid_query(*more: str) -> Query:
    return line_query("percent", "panel: p", "columns: 2", *more)


def grid_table() -> pa.Table:
    places = [(p, s, x) for p in ("one", "two", "three") for s in ("a", "b") for x in (0.0, 1.0)]
    p, s, x = (list(column) for column in zip(*places, strict=True))
    return table(p=p, s=s, x=x, y=[0.1 if name == "one" else 0.9 for name in p])


def test_panels_stand_beside_each_other_on_one_scale_with_one_legend() -> None:
    axes = axes_of(grid_query(), grid_table())
    assert [ax.get_title() for ax in axes] == ["one", "two", "three"]
    boxes = [ax.get_window_extent() for ax in axes]
    assert boxes[0].x1 < boxes[1].x0
    assert abs(boxes[0].y0 - boxes[1].y0) < 1
    assert boxes[2].y1 < boxes[0].y0
    assert len({ax.get_ylim() for ax in axes}) == 1
    assert [bool(ax.get_ylabel()) for ax in axes] == [True, False, True]
    assert [bool(ax.get_xlabel()) for ax in axes] == [False, True, True]
    assert not any(ax.get_legend() for ax in axes)
    [legend] = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_on_a_phone_they_stand_below_each_other() -> None:
    boxes = [ax.get_window_extent() for ax in axes_of(grid_query(), grid_table(), NARROW)]
    assert boxes[0].y0 > boxes[1].y1 > boxes[1].y0 > boxes[2].y1


def test_columns_are_a_small_number() -> None:
    with pytest.raises(MemindexError, match="columns must be 1, 2 or 3, not 9"):
        line_query("percent", "panel: p", "columns: 9")


def test_points_without_labels_have_none() -> None:
    query = query_of("figure: points", "x: x | Across", "y: y | Up", "series: s")
    [ax] = axes_of(query, table(s=["a", "a"], x=[1.0, 2.0], y=[1.0, 2.0]))
    assert not ax.texts


@pytest.mark.parametrize("style", ["", " | log"])
def test_intervals_at_one_place_stand_beside_each_other(style: str) -> None:
    data = table(s=["a", "a", "b", "b"], x=[10.0, 100.0] * 2, y=[1.0, 2.0] * 2, low=[0.5] * 4, high=[3.0] * 4)
    query = query_of("figure: points", f"x: x | Across{style}", "y: y | Up", "series: s", "interval: low, high")
    [ax] = axes_of(query, data)
    x = [_drawn_x(container[0]) for container in ax.containers]
    assert np.allclose(x[1] - x[0], x[1][0] - x[0][0])
    assert 2 < x[1][0] - x[0][0] < 10
    # Around their place, inside the axes.
    assert np.allclose((x[0] + x[1]) / 2, ax.transData.transform([(10.0, 1.0), (100.0, 1.0)])[:, 0])
    box = ax.get_window_extent()
    assert box.x0 < np.min(x) < np.max(x) < box.x1


@pytest.mark.parametrize(("sizes", "labelled"), [([1.0, 1.0, 1.0], False), ([1.0, 1.2, 1.5], True)])
def test_labels_go_where_most_series_stand_at_the_same_places(sizes: list[float], labelled: bool) -> None:
    rows = [(name, size * scale) for scale in (1e6, 1e7, 1e8) for name, size in zip("abc", sizes, strict=True)]
    data = table(
        s=[name for name, _ in rows],
        x=[x for _, x in rows],
        y=[0.1 * number for number in range(9)],
        low=[0.0] * 9,
        high=[1.0] * 9,
        of=[f"{name}-{x:.0f}" for name, x in rows],
    )
    query = query_of("figure: points", "x: x | X | log", "y: y", "series: s", "interval: low, high", "label: of")
    [ax] = axes_of(query, data)
    assert bool(ax.texts) == labelled
    a, b, _ = (_drawn_x(container[0]) for container in ax.containers)
    assert labelled or np.all((b - a > 2) & (b - a < 10))


def _drawn_x(line: Any) -> Any:
    return line.get_transform().transform(line.get_xydata())[:, 0]


# Families and looks


def test_models_are_known_by_family_size_and_label(families: Families) -> None:
    assert families.groups == {"pythia": 9, "olmo2": 3, "openllama": 3, "gpt_neox": 2, "gpt2": 1}
    member = families.member("EleutherAI/pythia-1b@step16000")
    assert (member.group, member.number_in_group, member.name) == ("pythia", 3, "pythia-1b@step16000")
    assert families.member("small (small-run)").group == "gpt_neox"
    assert families.member("small (small-run)").name == "small (small-run)"
    assert families.member("small, 32 suffix tokens").group == "gpt_neox"
    assert families.member("smaller") is None
    assert families.name("Github") == "Github"
    assert len(families) == len(MODELS) + 2  # the untrained one and the stranger


def test_an_organization_stays_where_names_would_be_the_same() -> None:
    pair = Families([("a/m", "x", 1, 1), ("b/m", "x", 2, 1), ("b/n", "x", 3, 1)])
    assert [pair.name(label) for label in ("a/m", "b/m", "b/n", "b/n (run 2)")] == ["a/m", "b/m", "n", "n (run 2)"]


def test_a_family_of_many_checkpoints_is_divided_by_size() -> None:
    rows = [(f"p-{size}@{step}", "p", size * 10**6, step) for size in (70, 160) for step in range(5)]
    assert list(Families(rows).groups.items()) == [("p, 70M parameters", 5), ("p, 160M parameters", 5)]
    # Parts of one family stand together, before a family that has fewer models than all of them.
    more = [(f"q{number}", "q", 80_000_000, number) for number in range(6)]
    assert list(Families(rows[:5] + more + rows[5:]).groups) == ["p, 70M parameters", "p, 160M parameters", "q"]
    sizes = [(f"p-{size}", "p", size, 1) for size in range(1, 12)]
    assert Families(sizes).groups == {"p": 11}


def test_no_two_of_many_series_look_alike() -> None:
    names = [f"series {i}" for i in range(64)]
    found = looks(names, LIGHT, Families())
    assert len({(look.colour, look.marker) for look in found.values()}) == 64


def test_of_each_family_one_run_is_in_full_in_every_panel(families: Families) -> None:
    names = [name for family, _, name, _, _ in MODELS if family == "pythia"]
    names += ["EleutherAI/pythia-12b (a)", "EleutherAI/pythia-12b (b)"]
    query = query_of("figure: dots", "x: x", "y: y", "series: s", "panel: part")
    rows = [{"part": 1, "s": name, "x": "a", "y": 1.0} for name in names]
    rows += [{"part": 2, "s": name, "x": "a", "y": 1.0} for name in ("allenai/OLMo-2-1124-7B", *names[:2])]
    first, second = panels(query, rows, LIGHT, families)
    assert [name for name, look in first.looks.items() if not look.faint] == ["EleutherAI/pythia-12b (b)"]
    assert (first.lanes, second.lanes) == (1, 2)
    assert first.looks[names[-1]].colour == first.looks[names[-2]].colour
    assert first.looks[names[-1]].marker != first.looks[names[-2]].marker
    assert [name for name, look in second.looks.items() if not look.faint] == [names[1], "allenai/OLMo-2-1124-7B"]
    assert second.looks[names[1]].colour == first.looks[names[1]].colour


def test_a_model_looks_the_same_in_every_figure(families: Families) -> None:
    some, others = ["EleutherAI/pythia-1b", "allenai/OLMo-2-1124-7B"], ["EleutherAI/pythia-1b", "pythia"]
    colours = looks(some, LIGHT, families), looks(others, LIGHT, families)
    assert colours[0][some[0]].colour == colours[1][some[0]].colour
    assert colours[1]["pythia"].colour == LIGHT.series[0]
    assert colours[0][some[0]].colour in LIGHT.shades[0]
    assert colours[0][some[1]].colour in LIGHT.shades[1]


def test_few_models_of_one_family_have_colours_of_their_own() -> None:
    one = Families([(f"m{i}", "a", i + 1, 1) for i in range(3)])
    assert [look.colour for look in looks(["m0", "m2"], LIGHT, one).values()] == [LIGHT.series[0], LIGHT.series[2]]


# Panels of many models


def test_many_lines_stand_in_one_panel_per_family(answers: Callable, families: Families) -> None:
    data = answers("rate_by_frequency")
    query = load_query("rate_by_frequency")
    made = panels(query, data.to_pylist(), LIGHT, families)
    assert [panel.title for panel in made] == ["pythia", "olmo2", "openllama", "gpt_neox"]
    assert sum(len(panel.rows) for panel in made) == data.num_rows
    for panel in made:
        markers = [look.marker for look in panel.looks.values()]
        assert not panel.is_grouped
        assert len({(look.colour, look.marker) for look in panel.looks.values()}) == len(markers)
    sizes = [families.member(name).number for name in made[0].looks]
    assert sizes == sorted(sizes)
    axes = axes_of(query, data, families=families)
    assert len({ax.get_ylim() for ax in axes}) == 1
    assert len({ax.get_xlim() for ax in axes}) == 1


@pytest.mark.parametrize("name", ["domain_shares", "discoverable", "frequency_of_memorized"])
def test_where_panels_are_taken_the_largest_of_each_family_is_in_full(
    answers: Callable, families: Families, name: str
) -> None:
    data = answers(name)
    for panel in panels(load_query(name), data.to_pylist(), LIGHT, families):
        full = [label for label, look in panel.looks.items() if not look.faint]
        assert sorted(full) == [
            "EleutherAI/pythia-12b",
            "allenai/OLMo-2-1124-13B",
            "openlm-research/open_llama_13b",
            "small (small-run)",
        ]
        assert len(panel.looks) == len(MODELS)
        assert panel.lanes == (4 if load_query(name).figure.kind == "dots" else panel.lanes)
    canvas = drawing(load_query(name), data, LIGHT, WIDE, families)
    assert "Of each family the largest model is drawn in full" in canvas._supxlabel.get_text()
    assert canvas.get_figheight() * 72 < 60 * len(DOMAINS) + 200


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_nothing_is_cut_off(answers: Callable, families: Families, width: int) -> None:
    for name in ("rate_by_frequency", "domain_shares", "unseen_floor", "rate_by_size", "overlap"):
        canvas = drawing(load_query(name), answers(name), LIGHT, width, families)
        canvas.draw_without_rendering()
        page = canvas.bbox
        for ax in canvas.axes:
            texts = [*ax.texts, *_tick_labels(ax), ax.xaxis.label, ax.yaxis.label, ax.title]
            texts += ax.get_legend().get_texts() if ax.get_legend() else []
            for text in texts:
                if not text.get_text() or not text.get_visible():
                    continue
                box = text.get_window_extent()
                assert box.x0 >= -1, (name, text.get_text())
                assert box.x1 <= page.x1 + 1, (name, text.get_text())
                assert box.y0 >= -1, (name, text.get_text())
                assert box.y1 <= page.y1 + 1, (name, text.get_text())


def _tick_labels(ax: Any) -> list[Any]:
    """The labels beside the plot; those of ticks outside of its limits are not drawn."""
    low, high = sorted(ax.get_ylim())
    return [label for tick, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=False) if low <= tick <= high]


def test_labels_at_the_ends_of_lines_do_not_touch(study: Path, families: Families) -> None:
    canvas = drawing(
        load_query("rate_by_frequency"), run_query(connect(study), "rate_by_frequency"), LIGHT, WIDE, families
    )
    canvas.draw_without_rendering()
    count = 0
    for ax in canvas.axes:
        boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
        count += len(boxes)
        for i, box in enumerate(boxes):
            assert not any(box.shrunk(1, 0.8).overlaps(other.shrunk(1, 0.8)) for other in boxes[:i])
    assert count == len(MODELS)


# Axes


def test_zeros_on_a_logarithmic_axis_stand_below_it() -> None:
    data = table(s=["a"] * 4, x=[1, 2, 3, 4], y=[0.5, 0.02, 0.0, 0.1])
    (ax,) = axes_of(line_query("percent-log"), data)
    curve = ax.lines[1].get_ydata() if len(ax.lines[0].get_ydata()) != 4 else ax.lines[0].get_ydata()
    zero = curve[2]
    assert 0 < zero < 0.02
    assert ax.get_ylim()[0] < zero
    labels = {round(float(tick), 4): ax.yaxis.get_major_formatter()(tick) for tick in ax.get_yticks()}
    assert labels[round(float(zero), 4)] == "0 %"
    assert {"10 %", "0 %"} <= set(labels.values())
    assert list(labels.values()).count("0 %") == 1


def test_a_logarithmic_axis_without_zeros_has_no_zero() -> None:
    (ax,) = axes_of(line_query("percent-log"), table(s=["a", "a"], x=[1, 2], y=[0.5, 0.02]))
    assert "0 %" not in {ax.yaxis.get_major_formatter()(tick) for tick in ax.get_yticks()}


def test_nearly_equal_values_fill_whole_decades() -> None:
    (ax,) = axes_of(line_query("percent-log"), table(s=["a", "a"], x=[1, 2], y=[0.0904, 0.091]))
    assert ax.get_ylim()[0] < 0.02
    assert ax.get_ylim()[1] > 0.09


def test_all_values_and_intervals_are_inside() -> None:
    query = line_query("percent", "interval: low, high")
    data = table(s=["a", "b"], x=[1, 1], y=[-0.2, 0.5], low=[-0.3, 0.2], high=[0.1, 0.9])
    (ax,) = axes_of(query, data)
    assert ax.get_ylim()[0] < -0.3
    assert ax.get_ylim()[1] > 0.9


def test_missing_numbers_leave_gaps() -> None:
    query = line_query("percent", "interval: low, high")
    nothing = [None, None, None]
    data = table(
        s=["a"] * 3 + ["b"] * 3,
        x=[1, 2, None] * 2,
        y=[0.1, float("nan"), 0.3, *nothing],
        low=pa.array([0.0, None, float("-inf"), *nothing], pa.float64()),
        high=pa.array([0.2, None, float("inf"), *nothing], pa.float64()),
    )
    assert inline_svg(query, data).startswith("<svg")
    dots = query_of("figure: dots", "x: s", "y: y | Up | log", "interval: low, high", "series: s")
    assert inline_svg(dots, data).startswith("<svg")


# Kinds for what is inside of models


def heat_query() -> Query:
    return query_of("figure: heat", "x: head | Head", "y: drop | Drop in score", "series: layer", "panel: model")


def heat_rows() -> list[dict[str, Any]]:
    return [
        {"model": model, "layer": layer, "head": head, "drop": layer - 0.1 * head}
        for model, layers in (("o/a-1b", 16), ("x/b-7b", 32))
        for layer in range(layers)
        for head in range(layers)
    ]


def test_a_heat_map_of_many_heads_is_small_and_ordered() -> None:
    data = pa.Table.from_pylist(list(reversed(heat_rows())))
    svg = inline_svg(heat_query(), data, families=THREE)
    assert len(svg) < 250_000
    assert "model: a-1b" in svg
    assert "-3.10 to 31: Drop in score" in svg
    axes = axes_of(heat_query(), data)
    assert [tick.get_text() for tick in axes[0].get_yticklabels()][:3] == ["0", "2", "4"]  # of 32
    deepest = max(axes[0].patches, key=lambda patch: patch.get_alpha())
    corners = deepest.get_path().vertices[::5] + 0.5
    highest = {(head, layer) for layer in range(32) for head in range(32) if layer - 0.1 * head >= 31 - 34.1 / 16}
    assert {(round(x), round(y)) for x, y in corners} == highest


def test_depth_grows_with_the_value() -> None:
    data = table(model=["m"] * 16, layer=[0] * 16, head=range(16), drop=np.arange(16.0))
    (ax, *_) = axes_of(heat_query(), data)
    places = {float(p.get_path().vertices[0, 0] + 0.5): p.get_alpha() for p in ax.patches}
    assert [places[float(i)] for i in range(16)] == sorted(places.values())
    assert len(set(places.values())) == 16


def test_layer_curves_are_dashed_by_outcome() -> None:
    query = query_of("figure: line", "x: layer | Layer", "y: p | Probability", "series: m", "dashes: outcome")
    rows = [
        {"m": m, "outcome": outcome, "layer": layer, "p": layer / 20 if outcome == "memorized" else layer / 40}
        for m in ("o/a-1b", "x/b-7b")
        for outcome in ("memorized", "unmemorized")
        for layer in range(17)
    ]
    (ax,) = axes_of(query, pa.Table.from_pylist(rows), families=THREE)
    curves = [line for line in ax.lines if len(line.get_xdata()) == 17]
    assert [(curve.get_linestyle() == "-") for curve in curves] == [True, False, True, False]
    assert curves[0].get_color() == curves[1].get_color() != curves[2].get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["memorized", "unmemorized"]
    assert {text.get_text() for text in ax.texts} >= {"a-1b", "b-7b"}


def test_a_matrix_has_its_values_written() -> None:
    query = query_of("figure: cells", "x: b | Model", "y: r | Similarity", "series: a")
    (ax,) = axes_of(query, table(a=["m", "m", "n"], b=["m", "n", "n"], r=[1.0, -0.25, None]))
    assert [text.get_text() for text in ax.texts] == ["1.00", "-0.25", "—"]


@pytest.mark.parametrize("known", [[0.2, 0.4], [0.2, None], [None, None]])
def test_a_reference_stands_in_the_legend_where_it_is_drawn(known: list[float | None]) -> None:
    query = query_of("figure: dots", "x: d | Domain", "y: r | Share", "series: m", "reference: c | share of the corpus")
    columns = {"d": ["Law", "Code"] * 2, "r": [0.1, 0.2, 0.3, 0.4], "m": ["a", "a", "b", "b"]}
    (ax,) = axes_of(query, table(**columns, c=pa.array(known * 2, pa.float64())))
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert ("share of the corpus" in named) == (known != [None, None])
    drawn = [line.get_xdata() for line in ax.lines if line.get_marker() == "|" and line.get_ms() == 15]
    assert [np.isfinite(np.array(marks, dtype=float)).sum() for marks in drawn] == [
        number for number in [sum(mark is not None for mark in known)] if number
    ]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_cells_too_small_for_their_values_have_a_colour_scale(width: int) -> None:
    query = query_of("figure: cells", "x: b | Model", "y: r | Memorized by both | percent", "series: a")
    pairs = [(f"m{i}", f"m{j}", i / 60) for i in range(30) for j in range(i, 30)]
    a, b, r = map(list, zip(*pairs, strict=True))
    (ax,) = axes_of(query, table(a=a, b=b, r=r), width)
    assert [text.get_text() for text in ax.texts] == ["0 % to 100 %: Memorized by both"]
    [scale] = ax.child_axes
    assert [scale.patches[end].get_alpha() for end in (0, -1)] == [0.08, 0.5]
    box = ax.figure.bbox
    text = ax.texts[0].get_window_extent()
    assert box.x0 <= text.x0 < text.x1 <= box.x1
    assert box.y0 <= text.y0 < text.y1 <= box.y1


# Files


def test_figures_tell_what_they_show(answers: Callable, families: Families) -> None:
    svg = inline_svg(load_query("rate_by_size"), answers("rate_by_size"), WIDE, families)
    root = ET.fromstring(svg)
    assert root.attrib["role"] == "img"
    title, description = root[0], root[1]
    assert (title.tag, title.text) == ("title", "Memorization rate by model size")
    assert root.attrib["aria-labelledby"] == title.attrib["id"] == "rate_by_size-700-title"
    assert root.attrib["aria-describedby"] == description.attrib["id"]
    assert description.text.startswith("Points: Memorized sequences by Non-embedding parameters. gpt_neox: ")


@pytest.mark.parametrize(
    ("header", "columns", "why"),
    [
        (("figure: none",), {"a": [1]}, "it is a table"),
        (("figure: line", "x: x", "y: y", "series: s"), {"x": [], "y": [], "s": []}, "no rows"),
        (
            ("figure: line", "x: x", "y: y", "series: s"),
            {"x": [1], "y": [None], "s": ["a"]},
            "no row has a number in y",
        ),
        (("figure: line", "x: x", "y: y", "series: s"), {"x": [1], "y": [float("nan")], "s": ["a"]}, "number in y"),
        (("figure: points", "x: x", "y: y", "series: s"), {"x": [None], "y": [1], "s": ["a"]}, "number in x"),
    ],
)
def test_a_figure_that_is_empty_says_why(header: tuple[str, ...], columns: dict, why: str, tmp_path: Path) -> None:
    assert why in why_nothing(query_of(*header), table(**columns))
    assert inline_svg(query_of(*header), table(**columns)) == ""
    with pytest.raises(MemindexError, match=f"nothing to draw: .*{why}"):
        save_figure(query_of(*header), table(**columns), tmp_path / "x.svg")
    assert not list(tmp_path.iterdir())


def test_several_threads_draw_the_same(answers: Callable, families: Families, tmp_path: Path) -> None:
    query, data = load_query("rate_by_size"), answers("rate_by_size")
    threads = [
        threading.Thread(target=save_figure, args=(query, data, tmp_path / f"{i}.svg", families)) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1
    assert len(list(tmp_path.iterdir())) == 4


# The command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main sets its own

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["memindex", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


def test_a_single_model_has_room_on_a_logarithmic_axis(tmp_path: Path) -> None:
    con = connect(make_study(tmp_path, rows=60, models=MODELS_OF_STUDY[:1]))
    answer = run_query(con, "rate_by_size")
    (size,) = answer["non_embedding_parameters"].to_pylist()
    (ax,) = axes_of(load_query("rate_by_size"), answer)
    assert ax.get_xlim() == (size / 2, size * 2)


def test_a_single_figure_from_the_command_line(small: Path, tmp_path: Path, run: Callable) -> None:
    for name in ("x.svg", "x.png"):
        done = run("report", "-s", small, "--figure", "rate_by_frequency", "--out", tmp_path / name)
        assert done == (0, f"{tmp_path / name}\n", "")
    svg = (tmp_path / "x.svg").read_text(encoding="utf-8")
    ET.fromstring(svg)
    assert "prefers-color-scheme: dark" in svg
    assert ">huge<" in svg
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_parameters_change_the_figure(small: Path, tmp_path: Path, run: Callable) -> None:
    out = tmp_path / "x.svg"
    assert run("report", "-s", small, "--figure", "domain_shares", "-p", "domains=2", "--out", out)[0] == 0
    svg = out.read_text(encoding="utf-8")
    assert sum(f">{name}" in svg for name in ("Python", "C++", "Web text", "Law", "&lt;script&gt;")) == 2


def test_a_dark_png_is_dark(small: Path, tmp_path: Path, run: Callable) -> None:
    from PIL import Image

    for name, flags in (("light", ()), ("dark", ("--dark",))):
        run("report", "-s", small, "--figure", "overlap", "--out", tmp_path / f"{name}.png", *flags)
    corners = [Image.open(tmp_path / f"{name}.png").convert("RGB").getpixel((1, 1)) for name in ("light", "dark")]
    assert corners == [(255, 255, 255), (0x16, 0x18, 0x1B)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--figure", "nope"), "there is no query 'nope'"),
        (("--figure", "most_memorized_documents"), "nothing to draw: it is a table"),
        (("--figure", "overlap", "--out", "no-folder/x.svg"), "a directory that exists"),
        (("--figure", "overlap", "--out", "x.pdf"), r"saved as .svg or .png"),
        (("--figure", "overlap", "--out", "x.svg", "--dark"), "--dark is for a .png"),
        (("--figure", "overlap", "-p", "sample"), "NAME=VALUE"),
        (("--figure", "overlap", "-p", "colour=red"), "has no parameter 'colour'"),
        (("--figure", "domain_shares", "-p", "domains=many"), "must be a whole number"),
        (("-p", "sample=heldout"), "need a --figure"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, message = run("report", "-s", small, *arguments)
    assert (code, out, message.count("\n")) == (2, "", 1)
    assert words in message
    assert not list(tmp_path.iterdir())


def test_an_empty_study_says_which_command_fills_it(tmp_path: Path, run: Callable) -> None:
    (tmp_path / "study.toml").write_text('name = "e"\nindex = "nowhere"\n', encoding="utf-8")
    code, _, message = run("report", "-s", tmp_path, "--figure", "overlap", "--out", tmp_path / "x.svg")
    assert code == 2
    assert "is still empty; fill it with: memindex" in message
    assert not (tmp_path / "x.svg").exists()
