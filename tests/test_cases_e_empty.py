"""Row E9: a report on a study without results says why and what to run; so do the export, SQL and `study export`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest
from importing_world import make_world, run, store, windows
from synthetic_corpus import assert_refused, memindex
from synthetic_study import MODELS, make_study

from memindex.errors import MemindexError
from memindex.report import write_report
from memindex.sql.connection import connect
from memindex.sql.empty_tables import still_empty, why_empty
from memindex.sql.export import export_study
from memindex.tables.store import TableStore


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("sampled"))


@pytest.fixture
def world(sampled: Path, tmp_path: Path) -> Path:
    """A study with sequences and without scores; its index is the shared one."""
    shutil.copytree(sampled, tmp_path / "world")
    return tmp_path / "world"


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_e9_report_on_a_study_without_sequences(world):
    shutil.rmtree(world / "study" / "tables")
    before = files(world / "study")
    done = memindex("report", "-s", world / "study")
    assert_refused(done, "the study study has no results: it has no sequences yet: memindex study run " + str(world))
    assert files(world / "study") == before


def test_e9_report_on_sequences_without_scores(world):
    # An earlier report stays as it is.
    (world / "study" / "report.html").write_text("before", encoding="utf-8")
    before = files(world / "study")
    # Nor is a folder made for what is not written.
    with pytest.raises(MemindexError, match=r"no model is scored on its sequences yet, and study\.toml lists none"):
        write_report(world / "study")
    assert files(world / "study") == before
    with pytest.raises(MemindexError, match="has no results"):
        write_report(world / "study", world / "new" / "report.html")
    assert not (world / "new").exists()


def test_e9_report_names_the_run_that_scores_the_models_of_study_toml(world):
    with (world / "study" / "study.toml").open("a", encoding="utf-8") as file:
        file.write('\n[[models]]\nid = "m"\nsource = "nowhere/m"\n')
    with pytest.raises(MemindexError) as refused:
        write_report(world / "study")
    assert str(refused.value).endswith(f"yet: memindex study run {world / 'study'}")


def test_e9_report_without_scores_and_without_the_index(world):
    shutil.move(world / "index", world / "elsewhere")
    for write in (write_report, lambda study: export_study(study, world / "results")):
        with pytest.raises(MemindexError, match="no model is scored on its sequences yet"):
            write(world / "study")
    assert not (world / "study" / "report.html").exists()
    assert not (world / "results").exists()


def test_e9_report_of_a_run_that_was_stopped(world):
    store(world).write("continuations", "m 000000", continuations(world, "m"))
    with pytest.raises(MemindexError, match="the run m is not finished; resume with: memindex study run"):
        write_report(world / "study")
    assert not (world / "study" / "report.html").exists()


def continuations(world: Path, run_id: str) -> dict[str, list]:
    """Rows of a run that wrote no row of the table runs yet."""
    from memindex.tables.schema import CONTINUATIONS

    ids = store(world).read("sequences").column("sequence_id").to_pylist()[:3]
    columns = {column.name: [None] * 3 for column in CONTINUATIONS.columns}
    known = {"run_id": [run_id] * 3, "sequence_id": ids, "score": [0.0] * 3, "memorized": [False] * 3}
    return columns | known | {"matched": [0] * 3}


@pytest.mark.usefixtures("undrawn")
def test_e9_report_beside_an_unfinished_run_names_it(tmp_path):
    study = make_study(tmp_path, rows=60, models=MODELS[:1])
    rows = TableStore(study / "tables").read("continuations").to_pydict()
    TableStore(study / "tables").write(
        "continuations", "late 000000", rows | {"run_id": ["late"] * len(rows["run_id"])}
    )
    said: list[str] = []
    # A folder that is missing is made.
    assert write_report(study, tmp_path / "a" / "b" / "r.html", tell=said.append).is_file()
    export_study(study, tmp_path / "results", tell=said.append)
    lines = [line for line in said if "lacks runs" in line]
    assert len(lines) == 2
    for line in lines:
        assert "the run late is not finished" in line
        assert "\n" not in line
    # The oracle: DuckDB alone on the files.
    tables = study / "tables"
    unfinished = duckdb.sql(
        f"SELECT DISTINCT run_id FROM read_parquet('{tables}/continuations/*.parquet') "
        f"WHERE run_id NOT IN (SELECT run_id FROM read_parquet('{tables}/runs/*.parquet'))"
    )
    assert unfinished.fetchall() == [("late",)]


@pytest.mark.usefixtures("undrawn")
def test_e9_report_of_an_import_alone_is_written(world):
    ids = windows(world, 3).tolist()
    lines = [{"prefix": i[:6], "suffix": i[6:], "continuation": i[6:]} for i in ids]
    made = world / "made.jsonl"
    made.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    run(world, "import", "jsonl", made, "--model-id", "m")
    assert write_report(world / "study").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_e9_report_into_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    study = make_study(tmp_path, rows=60, models=MODELS[:1])
    monkeypatch.setattr("memindex.report.page._query_section", lambda *_: "")
    with pytest.raises(MemindexError, match=r"can't write .*r\.html: .*study\.toml: "):
        write_report(study, study / "study.toml" / "r.html")


def test_e9_study_export_of_a_study_without_results(world):
    done = memindex("study", "export", world / "study", "--out", world / "results")
    assert_refused(done, "the study study has no results: no model is scored")
    assert not (world / "results").exists()
    assert not list(world.glob("*results*"))


def test_e9_export_of_an_empty_study(world):
    with pytest.raises(MemindexError, match="no sequences of the sample heldout; it has: uniform"):
        run(world, "export", "--sample", "heldout", "--out", world / "x.jsonl")
    missing = world / "no" / "x.jsonl"
    with pytest.raises(MemindexError, match=f"can't write {missing}: there is no folder {missing.parent}"):
        run(world, "export", "--out", missing)
    shutil.rmtree(world / "study" / "tables")
    (world / "x.jsonl").write_text("before", encoding="utf-8")
    with pytest.raises(MemindexError, match="no sequences yet: memindex study run STUDY --only sequences"):
        run(world, "export", "--out", world / "x.jsonl")
    assert (world / "x.jsonl").read_text(encoding="utf-8") == "before"


def test_e9_export_of_sequences_without_tokens(world):
    shutil.rmtree(world / "study" / "tables")
    scores = world / "scores.csv"
    scores.write_text("index,accuracy\n3,0.5\n", encoding="utf-8")
    run(world, "import", "pythia", scores, "--model-id", "m", "--suffix", "4")
    with pytest.raises(MemindexError, match="imported without their tokens"):
        run(world, "export", "--out", world / "x.jsonl")


@pytest.mark.parametrize("query", ["rate_by_size", "FROM memorization", "domain_shares"])
def test_e9_sql_says_the_same_reason_as_the_report(world, query):
    con = connect(world / "study")
    reason = still_empty(con, "models")
    assert reason == why_empty(con, "SELECT * FROM sequences JOIN Models USING (x)")
    con.close()
    from memindex.cli.sql_shell import Shell

    con = connect(world / "study")
    shell = Shell(con, "table")
    answer = shell.ask(query) if " " in query else shell.named(query)
    assert answer.num_rows == 0
    assert shell.unfilled() == reason
    con.close()
