from __future__ import annotations

import html
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pytest
from synthetic_study import HOSTILE, MODELS, PLANTED, add_checkpoints, make_study

from memindex.errors import MemindexError
from memindex.report import save_figure, write_report
from memindex.report.figures import NARROW, inline_svg
from memindex.report.html_tables import csv_link, csv_text, html_table
from memindex.report.numbers import cell, percent, short
from memindex.report.summary import summary
from memindex.sql.connection import connect
from memindex.sql.queries import list_queries, load_query, run_query
from memindex.tables.store import TableStore

#: Questions about what the study does not have: controls, several context lengths, planted texts, probes.
ABSENT = {"compression", "context_curve", "controls", "layer_decoding", "layer_depth", "paired_depths", "perturbation"}
ABSENT |= PLANTED
ABSENT |= {f"noise_{what}" for what in ("domains", "output", "recovery", "similarity")}
ABSENT |= {f"head_{what}" for what in ("depth", "importance", "overlap", "sharing", "signature")}

VOID = {"meta", "br", "use"}


class Page(HTMLParser):
    """Collects tags, attributes and the ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("report"), rows=1200)


@pytest.fixture(scope="module")
def text(study: Path) -> str:
    file = write_report(study)
    assert file == study / "report.html"
    return file.read_text(encoding="utf-8")


def test_it_has_every_question_with_figure_numbers_and_sql(text: str) -> None:
    for name in list_queries():
        query = load_query(name)
        if name in ABSENT or name == "paired_rates":  # no two models of one size
            assert name not in text
            continue
        section = text[text.index(f'<section id="{name}">') :].split("</section>", maxsplit=1)[0]
        assert f"<h2>{query.title}</h2>" in section
        assert query.question.replace('"', "&quot;").replace("'", "&#x27;") in section
        assert section.count("<svg") == (0 if query.figure.kind == "none" else 2)
        assert "<table>" in section
        assert f'download="{name}.csv"' in section
        assert "The SQL" in section


def test_it_needs_nothing_else(text: str) -> None:
    page = Page(text)
    assert not {"script", "link", "iframe", "img", "object", "base", "form"} & set(page.tags)
    assert "http" not in text.lower().replace("http-equiv", "")
    assert "@import" not in text
    references = [value or "" for name, value in page.attributes if name in ("href", "src", "xlink:href")]
    assert all(value.startswith(("#", "data:text/csv;charset=utf-8,")) for value in references)
    assert "default-src 'none'" in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_every_reference_inside_has_its_target_and_ids_are_unique(text: str) -> None:
    page = Page(text)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {(value or "")[1:] for name, value in page.attributes if name == "href" and (value or "").startswith("#")}
    for name in ("aria-labelledby", "aria-describedby"):
        wanted |= {value for found, value in page.attributes if found == name}
    wanted |= {target[1:] for target in re.findall(r"url\(([^)]*)\)", text)}
    assert wanted <= set(ids)


def test_what_came_from_the_data_is_escaped(text: str) -> None:
    assert HOSTILE not in text
    assert HOSTILE in unquote(text)  # in a CSV file, which is no HTML
    assert text.count("&lt;script&gt;") > 3


def test_text_in_figures_stays_text_and_colours_are_variables(text: str) -> None:
    figures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert figures
    assert all("<text" in figure for figure in figures)
    assert not re.search(r"#[0-9a-f]{6}", "".join(figures))
    assert "prefers-color-scheme: dark" in text
    assert set(re.findall(r"var\(--([\w-]+)\)", text)) <= set(re.findall(r"--([\w-]+):", text))


def test_the_csv_files_hold_the_exact_numbers(text: str, study: Path) -> None:
    con = connect(study)
    con.execute("SET threads = 1")
    for name in ("domain_shares", "rate_by_frequency", "most_memorized_documents"):
        link = re.search(rf'download="{name}.csv" href="data:text/csv;charset=utf-8,([^"]*)"', text)
        assert link
        got = pd.read_csv(io.StringIO(unquote(html.unescape(link[1]))))
        wanted = run_query(con, name).to_pandas()
        pd.testing.assert_frame_equal(got, wanted, check_exact=True, check_dtype=False)


def test_tables_say_what_their_columns_are_and_scroll_by_keyboard(text: str) -> None:
    heads = re.findall(r"<th\b[^>]*>", text)
    assert heads
    assert all("scope=col" in head for head in heads)
    regions = re.findall(r"<div class=scroll[^>]*>", text)
    assert len(regions) == text.count("<table>")
    assert all("tabindex=0 role=region aria-label=" in region for region in regions)
    assert text.count("<nav aria-label=") == 1


def test_a_csv_file_is_quoted_and_null_is_empty() -> None:
    table = pa.table({"a,b": ['say "x"\n', None], "n": [0.1, None], "l": [[1, 2], None]})
    assert csv_text(table) == '"a,b",n,l\r\n"say ""x""\n",0.1,"[1, 2]"\r\n,,\r\n'
    link = csv_link(table, "x")
    assert set("<>#%'") & set(link.split("utf-8,")[1].split('"')[0]) == {"%"}
    assert unquote(html.unescape(link.split("utf-8,")[1].split('"')[0])) == csv_text(table)


def test_a_long_table_is_cut_and_its_csv_is_not(tmp_path: Path) -> None:
    table = pa.table({"n": range(500)})
    assert html_table(table, "x").count("<tr>") == 401
    assert "And 100 rows more, in the CSV file" in html_table(table, "x")
    assert csv_text(table).count("\n") == 501


def test_the_first_sentence_has_the_true_numbers(text: str, study: Path) -> None:
    rows = run_query(connect(study), "rate_by_size").to_pylist()
    largest = max(rows, key=lambda row: row["non_embedding_parameters"])
    sentence = text[text.index("<p class=summary>") :].split("</p>", maxsplit=1)[0]
    assert f"Of {len(MODELS)} models, the largest, other/7b (6.9B parameters" in sentence
    assert f"continued {percent(largest['rate'])} of 600 uniformly drawn sequences" in sentence
    floor = [r for r in run_query(connect(study), "unseen_floor").to_pylist() if r["run_label"] == "other/7b"]
    unseen, never = floor[0]["sequences"], floor[0]["sequences"] + floor[1]["sequences"]
    assert (
        f"{percent(floor[0]['rate'])} of {unseen} held-out sequences whose suffix never occurs in the corpus "
        f"({percent(floor[1]['rate_up_to_here'])} of the {never} that as a whole never occur)."
    ) in sentence


def test_the_first_sentence_tells_of_finished_models(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=200, models=MODELS[:2])
    add_checkpoints(study, rows=200)
    rates = {row["run_label"]: row["rate"] for row in run_query(connect(study), "rate_by_size").to_pylist()}
    sentence = summary(connect(study))
    assert "Of 2 models, the largest, middle (middle-run) (4.7M parameters" in sentence
    assert f"continued {percent(rates['middle (middle-run)'])} of 100 uniformly drawn sequences" in sentence
    assert sentence.split("; the smallest, ")[1].startswith(
        f"small (790k parameters outside the embeddings), {percent(rates['small'])}."
    )


@pytest.mark.parametrize(
    ("suffix_count", "words"),
    [
        (0, "held-out sequences whose suffix never occurs in the corpus."),
        (5, "held-out sequences that as a whole never occur in the corpus."),
    ],
)
def test_the_floor_is_told_where_only_one_kind_of_unseen_text_is(tmp_path: Path, suffix_count: int, words: str) -> None:
    study = make_study(tmp_path, rows=200, models=MODELS[:1])
    store = TableStore(study / "tables")
    store.write("frequencies", "all", store.read("frequencies").to_pydict() | {"suffix_count": [suffix_count] * 200})
    con = connect(study)
    assert summary(con).endswith(words)
    # The questions that tell kinds of unseen text apart; all others have the rows that they have elsewhere.
    for name in ("unseen_floor", "rate_by_frequency"):
        assert inline_svg(load_query(name), run_query(con, name)).startswith("<svg")


def test_slope_and_fit_are_written_out(text: str, study: Path) -> None:
    row = next(r for r in run_query(connect(study), "rate_by_size").to_pylist() if r["r2"] is not None)
    assert f"gpt_neox: {100 * row['slope_per_tenfold']:+.2f} points per tenfold size" in text
    assert f"R² {row['r2']:.3f}." in text


@pytest.mark.slow
def test_the_same_tables_give_the_same_bytes(text: str, study: Path, tmp_path: Path) -> None:
    again = write_report(study, tmp_path / "deep" / "again.html")
    assert again.read_text(encoding="utf-8") == text
    assert [f.name for f in again.parent.iterdir()] == ["again.html"]


@pytest.mark.usefixtures("undrawn")
def test_a_question_without_a_figure_says_why(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=MODELS[:1], rows=60)
    store = TableStore(study / "tables")
    rows = store.read("models").to_pydict()
    store.write("models", "small", rows | {"non_embedding_parameters": [None]})
    config = study / "study.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("A made-up study", "<b>"), encoding="utf-8")
    text = write_report(study).read_text(encoding="utf-8")
    assert "<title>&lt;b&gt;</title>" in text
    assert "No rows yet: nothing in the tables answers this." in text
    section = text[text.index('<section id="rate_by_size">') :].split("</section>", maxsplit=1)[0]
    assert "There is no figure: no row has a number in non_embedding_parameters." in section
    assert "<table>" in section
    assert "<details><summary>The numbers" not in section


@pytest.mark.usefixtures("undrawn")
def test_one_model_has_a_report_and_a_broken_table_leaves_it(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=MODELS[:1], rows=60)
    out = tmp_path / "out.html"
    write_report(study, out)
    before = out.read_bytes()
    assert "small (790k parameters outside the embeddings) continued" in before.decode()
    TableStore(study / "tables").file("models", "small").write_bytes(b"broken")
    with pytest.raises(MemindexError, match="not a readable Parquet file"):
        write_report(study, out)
    assert out.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(("count", "domain"), [(1, "one"), (1, None), (0, None), (5, "one")])
def test_one_model_that_memorized_nothing_gives_no_warning(tmp_path: Path, count: int, domain: str | None) -> None:
    # pytest makes warnings errors; here matplotlib's about axes without length.
    study = make_study(tmp_path, models=MODELS[:1], rows=24)
    store = TableStore(study / "tables")
    rows = store.read("continuations").to_pydict()
    store.write("continuations", "small-run", rows | {"memorized": [False] * 24, "score": [0.0] * 24})
    counts = {f"{name}_count": [count] * 24 for name in ("sequence", "prefix", "suffix")}
    store.write("frequencies", "all", store.read("frequencies").to_pydict() | counts)
    if domain:
        store.write("sequences", "all", store.read("sequences").to_pydict() | {"domain": [domain] * 24})
    assert "continued 0\u00a0% of 12 uniformly" in write_report(study).read_text(encoding="utf-8")


def test_an_axis_with_nothing_above_zero_gives_no_warning() -> None:
    # With its margin of a twentieth the axis ends exactly at 0.
    query = load_query("frequency_of_memorized")
    columns = {"run_label": ["m", "m"], "outcome": ["a", "b"], "outcome_rank": [0, 1]}
    numbers = {name: [-21.0, -1.0] for name in ("mean_log2_count", "mean_low", "mean_high")}
    assert inline_svg(query, pa.table(columns | numbers)).startswith("<svg")


@pytest.mark.slow
def test_names_of_any_kind_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ["$x_1$", "a--><b>b</b>", "模型", "line\nbreak\x07", "x" * 150, "&amp;", "_hidden"]
    study = make_study(tmp_path, models=tuple((n, "llama", 1000 + i) for i, n in enumerate(names)), rows=60)
    text = write_report(study).read_text(encoding="utf-8")
    assert "<b>b</b>" not in text
    assert "&amp;amp;" in text
    assert text.count("<section") == len(list_queries()) - len(ABSENT) + 2  # models and corpora
    figure = re.findall(r"<svg.*?</svg>", text, re.DOTALL)[0]
    for shown in ("$x_1$", "a--&gt;&lt;b&gt;b&lt;/b&gt;", "模型", "line break ", "xxxx…xxxx", "_hidden"):
        assert shown in figure


@pytest.mark.slow
def test_many_models_fit_on_a_phone(tmp_path: Path) -> None:
    models = tuple((f"organization/a-long-name-{i}b", f"family-{i % 4}", 10**6 * (i + 1)) for i in range(10))
    study = make_study(tmp_path, models=models, rows=80)
    con = connect(study)
    for name in list_queries():
        query = load_query(name)
        table = run_query(con, name)
        if query.figure.kind != "none" and (table.num_rows or not query.optional):
            assert inline_svg(query, table, NARROW).startswith("<svg")


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_figure_is_saved(study: Path, tmp_path: Path, ending: str) -> None:
    con = connect(study)
    query = load_query("rate_by_size")
    file = save_figure(query, run_query(con, query), tmp_path / f"figure.{ending}")
    again = save_figure(query, run_query(con, query), tmp_path / f"again.{ending}")
    assert file.read_bytes() == again.read_bytes()
    start = file.read_bytes()[:8]
    assert start.startswith(b"<svg" if ending == "svg" else b"\x89PNG")


def test_a_figure_that_cannot_be_drawn_says_why(study: Path, tmp_path: Path) -> None:
    con = connect(study)
    query = load_query("rate_by_size")
    table = run_query(con, query)
    with pytest.raises(MemindexError, match=r"saved as \.svg or \.png"):
        save_figure(query, table, tmp_path / "figure.pdf")
    with pytest.raises(MemindexError, match="directory that exists"):
        save_figure(query, table, tmp_path / "nowhere" / "figure.svg")
    with pytest.raises(MemindexError, match="nothing to draw"):
        save_figure(query, table.slice(0, 0), tmp_path / "figure.svg")
    with pytest.raises(MemindexError, match="nothing to draw"):
        save_figure(load_query("most_memorized_documents"), pa.table({"a": [1]}), tmp_path / "figure.svg")


def test_numbers_are_written_with_three_digits() -> None:
    written = [percent(x).replace("\u00a0", " ") for x in (0, 0.0131, 0.00026, 0.5, 1, 0.9996)]
    assert written == ["0 %", "1.31 %", "0.0260 %", "50.0 %", "100 %", "100.0 %"]
    assert [short(x) for x in (790_000, 25e6, 6.9e9, 999_999, 12)] == ["790k", "25M", "6.9B", "1M", "12"]
    assert [cell("n", x) for x in (None, True, 12345, float("nan"), "a")] == ["—", "yes", "12,345", "—", "a"]
