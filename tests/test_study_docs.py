"""docs/study.md says what the exported answers of the study say, and its machinery refuses what would be forgotten."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest
from families_study import make_families_study

from memindex.errors import MemindexError
from memindex.report.markdown_tables import markdown_table, value_text
from memindex.sql.export import export_study

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("study_page", DOCS / "study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(folder: Path) -> dict[str, bytes]:
    files = [folder / "study.md", *sorted((folder / "images" / "study").glob("*"))]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("world")
    made = export_study(make_families_study(world), world / "results")
    # Answers of other studies, beside its own.
    small = ("models", "rate_by_size", "rate_by_copies", "noise_output", "head_depth")
    for other, names in (("passages", ("rate_by_passage",)), ("small", small)):
        (made / other).mkdir()
        for name in names:
            shutil.copy(made / f"{name}.parquet", made / other)
    return made


@pytest.fixture
def page(tmp_path, monkeypatch) -> ModuleType:
    """The script, with a copy of studies/families that a test may change."""
    module = script()
    copy = tmp_path / "families"
    copy.mkdir()
    for file in (*module.STUDY.glob("*.sql"), module.TEMPLATE):
        shutil.copy(file, copy)
    monkeypatch.setattr(module, "STUDY", copy)
    monkeypatch.setattr(module, "TEMPLATE", copy / "study.md.in")
    (tmp_path / "out").mkdir()
    return module


def refused(page: ModuleType, results: Path, match: str, **options) -> None:
    with pytest.raises(MemindexError, match=match) as error:
        page.build(results, page.STUDY.parent / "out", **options)
    assert "\n" not in str(error.value)
    assert not (page.STUDY.parent / "out" / "study.md").exists()


def test_the_page_is_up_to_date(tmp_path):
    module = script()
    module.build(module.RESULTS, tmp_path, final=True)
    assert written(tmp_path) == written(DOCS), "run: python docs/study.py"


def draws_one_of_each_kind(module: ModuleType, drawn: Path, tables: dict[str, pa.Table]) -> None:
    """Let the script take figures that it drew before, of equal tables, where it draws another one of their kind."""
    kinds, draw = set(), module.save_figure

    def save(query, table, file, families):
        assert table.equals(tables[query.name])
        if query.figure.kind in kinds:
            return Path(shutil.copy(drawn / file.name, file))
        kinds.add(query.figure.kind)
        return draw(query, table, file, families)

    module.save_figure = save


def keeps_tables(module: ModuleType) -> dict[str, pa.Table]:
    """The tables of the figures that the script will draw, by the names of their questions."""
    tables, draw = {}, module.save_figure

    def save(query, table, file, families):
        tables[query.name] = table
        return draw(query, table, file, families)

    module.save_figure = save
    return tables


@pytest.mark.slow
def test_the_whole_page_renders_and_equal_results_give_equal_bytes(results, tmp_path):
    for name in ("one", "two"):
        module, folder = script(), tmp_path / name / "images" / "study"
        folder.mkdir(parents=True)
        (folder / "gone.svg").write_text("of a question that is gone")
        if name == "one":
            tables = keeps_tables(module)
        else:
            draws_one_of_each_kind(module, tmp_path / "one" / "images" / "study", tables)
        module.build(results, tmp_path / name)
    made = written(tmp_path / "one")
    assert made == written(tmp_path / "two")
    text = made.pop("study.md").decode()
    assert {f"({name})" for name in made} == {part for name in made if (part := f"({name})") in text}
    assert text.count("](images/study/") == len(made)
    assert "{{" not in text
    assert "nan" not in text.split()
    assert all(b"prefers-color-scheme: dark" in svg for svg in made.values())


def test_the_halves_lie_between_the_copies_around_them(results, tmp_path):
    module = script()
    con = module.connect(results)
    con.execute(f"CREATE VIEW halves AS {(module.STUDY / 'half_dose.sql').read_text(encoding='utf-8')}")
    curves: dict = {}
    rates = "SELECT architecture || size, sequence_count, rate FROM rate_by_copies JOIN grid USING (run_label)"
    for label, *point in con.sql(f"{rates} ORDER BY ALL").fetchall():
        curves.setdefault(label, []).append(point)
    halves = con.sql("SELECT architecture || size, copies, copies_low, copies_high FROM halves").fetchall()
    assert len(halves) > 12
    for label, copies, low, high in halves:
        after = next(i for i, (planted, rate) in enumerate(curves[label]) if planted and rate >= 0.5)
        least = curves[label][after - 1][0] or 1
        assert least <= copies <= curves[label][after][0]
        assert (low or 1) <= copies <= (high or 1e9)


def test_a_directive_that_names_nothing_is_refused(page, results):
    for line, match in (
        ("<!-- figure: no_such -->", r"no no_such\.sql"),
        ("<!-- table: rates by colour -->", "no column colour"),
        ("<!-- figre: rates -->", "is no directive"),
        ("{{facts.colour}}", "no single row with colour"),
        ("{{rates.rate}}", "no single row"),
        ("{{facts}}", "is no directive"),
    ):
        page.TEMPLATE.write_text(f"{line}\n", encoding="utf-8")
        refused(page, results, match)


def test_a_question_that_nothing_asks_is_refused(page, results):
    for file in page.STUDY.glob("*.sql"):
        if file.name not in {"views.sql", "rates.sql", "slopes.sql"}:
            file.unlink()
    shutil.copy(page.STUDY / "rates.sql", page.STUDY / "unasked.sql")
    page.TEMPLATE.write_text("<!-- table: rates -->\n<!-- table: slopes -->\n", encoding="utf-8")
    refused(page, results, r"uses unasked\.sql")


def test_a_sentence_that_waits_is_no_final_page(page, results):
    page.TEMPLATE.write_text(f"{page.TODO}: what it means\n", encoding="utf-8")
    refused(page, results, "1 × TODO-INTERPRET", final=True)


PART = """before
<!-- with: score_histogram rate_by_copies -->
<!-- table: planted_each -->
Of {{planted_facts.kinds}} kinds. TODO-INTERPRET
<!-- end -->
after
<!-- table: slopes -->
"""


def test_a_part_without_results_is_left_out(page, results, tmp_path):
    for file in page.STUDY.glob("*.sql"):
        if file.stem not in {"views", "slopes", "planted_each", "planted_facts"}:
            file.unlink()
    page.TEMPLATE.write_text(PART, encoding="utf-8")
    out = page.STUDY.parent / "out"
    whole = page.build(results, out).read_text(encoding="utf-8")
    assert "| copies |" in whole and "kinds. TODO" in whole and page.ABSENT not in whole and "<!-- end" not in whole
    some = tmp_path / "results"
    shutil.copytree(results, some)
    (some / "score_histogram.parquet").unlink()
    less = page.build(some, out, final=True).read_text(encoding="utf-8")
    assert less.split("-->\n\n", 1)[1].startswith(f"before\n{page.ABSENT}\nafter\n| architecture |")
    assert "kinds" not in less and "TODO" not in less


def test_parts_begin_and_end(page, results):
    begin = "<!-- with: rate_by_copies -->"
    for text, match in (
        (f"{begin}\n", "no <!-- end -->"),
        ("<!-- end -->\n", "without a beginning"),
        (f"{begin}\n{begin}\n<!-- end -->\n", "inside another"),
        (f"{begin}\n<!-- figre: rates -->\n<!-- end -->\n", "no directive"),
    ):
        page.TEMPLATE.write_text(text, encoding="utf-8")
        refused(page, results, match)


def test_results_that_lack_something_are_refused(page, results, tmp_path):
    some = tmp_path / "results"
    shutil.copytree(results, some)
    (some / "rate_by_copies.parquet").unlink()
    page.TEMPLATE.write_text("<!-- table: planted_each -->\n", encoding="utf-8")
    refused(page, some, r"\.sql: .*rate_by_copies does not exist")
    (some / "models.parquet").unlink()
    refused(page, some, r"views\.sql: .*models does not exist.*export the study again")


def test_no_results_is_one_line_and_exit_code_2(tmp_path):
    done = subprocess.run(
        [sys.executable, DOCS / "study.py", "--results", tmp_path / "none", "--out", tmp_path],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "memindex study export" in done.stderr


def test_tables_write_intervals_into_the_cells():
    table = pa.table(
        {
            "model": ["a|b", "c"],
            "size": ["1M", "2M"],
            "rate": [0.0131, None],
            "rate_low": [0.0112, None],
            "rate_high": [0.015, None],
            "sequences": [1500, 2],
        }
    )
    lines = markdown_table(table).splitlines()
    assert lines[0] == "| model | size | rate | sequences |"
    assert lines[1] == "| --- | --- | ---: | ---: |"
    assert lines[2].replace("\N{NO-BREAK SPACE}", " ") == "| a\\|b | 1M | 1.31 % (1.12–1.50) | 1,500 |"
    assert lines[3] == "| c | 2M | — | 2 |"
    crossed = markdown_table(table, "size").splitlines()
    assert crossed[0] == "| model | 1M | 2M |"
    assert crossed[3] == "| c | — | — |"


def test_values_have_the_decimals_that_their_interval_deserves():
    def text(value, low, high, name="correlation"):
        row = {name: value, f"{name}_low": low, f"{name}_high": high}
        return value_text(row, name).replace("\N{NO-BREAK SPACE}", " ")

    assert text(0.5, -0.1, 0.9) == "0.5 (−0.1 to 0.9)"
    assert text(21.3, 12.9, 41.7) == "21 (13–42)"
    assert text(0.321, 0.2, 0.45, "rate") == "32 % (20–45)"
    assert text(0.0, 0.0, 0.0004, "rate") == "0.000 % (0.000–0.040)"
    assert text(1.0, 1.0, 1.0, "rate") == "100.0 % (100.0–100.0)"
    assert text(0.25, None, 0.5, "rate") == "25.0 %"
