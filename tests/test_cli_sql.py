"""`memindex sql` and `memindex report` on a made-up study: no index and no model needed."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import here
from synthetic_study import MODELS, make_study

TWICE = "SELECT a.sequence_id, b.sequence_id FROM sequences a JOIN sequences b ON b.sequence_id = a.sequence_id + 1"
PAIR = f"{TWICE} ORDER BY ALL LIMIT 1"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("sql"), rows=60, models=MODELS[:1])


def memindex(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "memindex.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, input=stdin, check=False)


def ok(*arguments: object, stdin: bytes = b"") -> str:
    done = here(*arguments, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(*arguments: object, stdin: bytes = b"") -> str:
    done = here(*arguments, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_columns_of_one_name_stand_side_by_side_in_tables_and_csv(study: Path) -> None:
    assert ok("sql", "-s", study, PAIR).split()[-2:] == ["0", "1"]
    rows = list(csv.reader(io.StringIO(ok("sql", "-s", study, PAIR, "--csv"))))
    assert rows == [["sequence_id", "sequence_id"], ["0", "1"]]


def test_columns_of_one_name_are_refused_as_json(study: Path) -> None:
    line = refused("sql", "-s", study, PAIR, "--json")
    assert "several columns are called sequence_id: name them apart with AS" in line


def test_csv_writes_lists_as_json(study: Path) -> None:
    query = "SELECT [1, 2] AS n, 'a' AS text"
    rows = list(csv.DictReader(io.StringIO(ok("sql", "-s", study, query, "--csv"))))
    assert [(json.loads(row["n"]), row["text"]) for row in rows] == [([1, 2], "a")]


def test_a_file_holds_sql_of_any_layout(study: Path, tmp_path: Path) -> None:
    file = tmp_path / "question.sql"
    file.write_text("SELECT\n1\tAS\tn", encoding="utf-8")
    assert json.loads(ok("sql", "-s", study, "-f", file, "--json")) == {"n": 1}
    assert json.loads(ok("sql", "-s", study, "SELECT\n1\tAS\tn", "--json")) == {"n": 1}
    assert json.loads(ok("sql", "-s", study, "-f", "-", "--json", stdin=b"VALUES('\xc3\xa4')")) == {"col0": "ä"}


def test_stdin_is_sql_where_nothing_is_given(study: Path) -> None:
    assert json.loads(ok("sql", "-s", study, "--json", stdin=b"SELECT 1;\nSELECT 2 AS n;")) == {"n": 2}
    assert "give a QUERY, or a file with -f" in refused("sql", "-s", study, stdin=b" \n")


def test_the_current_directory_is_the_study_where_it_holds_one(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    monkeypatch.delenv("MEMINDEX_STUDY", raising=False)
    assert json.loads(ok("sql", "SELECT count(*) AS n FROM models", "--json")) == {"n": 1}
    monkeypatch.chdir(study.parent)
    assert "no study is named: give -s/--study" in refused("sql", "SELECT 1")


def test_dot_commands_need_no_prompt(study: Path) -> None:
    tables = [json.loads(line)["table"] for line in ok("sql", "-s", study, ".tables", "--json").splitlines()]
    assert tables[:2] == ["models", "runs"]
    assert "write it as .run NAME" in refused("sql", "-s", study, ".run")


def test_parquet_is_written_where_it_can_be(study: Path, tmp_path: Path) -> None:
    file = tmp_path / "answer.parquet"
    assert ok("sql", "-s", study, "score_histogram", "--parquet", file).strip() == str(file)
    answer = pq.read_table(file).to_pylist()
    assert answer == [json.loads(line) for line in ok("sql", "-s", study, "score_histogram", "--json").splitlines()]
    assert "in a directory that exists" in refused("sql", "-s", study, "SELECT 1", "--parquet", tmp_path / "no" / "a")
    assert "choose one of" in refused("sql", "-s", study, "SELECT 1", "--json", "--parquet", file)


def test_an_empty_table_is_told_with_the_command_that_fills_it(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('index = "nowhere"\n', encoding="utf-8")
    line = "the table runs is still empty; fill it with: memindex study run STUDY"
    assert line in refused("sql", "-s", tmp_path, "FROM runs")
    assert "is still empty; fill it with:" in refused("sql", "-s", tmp_path, "rate_by_frequency")
    done = memindex("sql", "-s", tmp_path, "SELECT count(*) AS n FROM runs", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"n": 0})
    assert line in done.stderr.decode()


def test_parameters_have_a_name_and_a_query(study: Path) -> None:
    assert "write the parameter sample as NAME=VALUE" in refused("sql", "-s", study, "domain_shares", "-p", "sample")
    assert "has no parameter 'simple'" in refused("sql", "-s", study, "domain_shares", "-p", "simple=1")
    assert "belongs to a named query" in refused("sql", "-s", study, "SELECT 1", "-p", "sample=1")


def test_a_file_never_means_a_named_query(study: Path) -> None:
    assert "syntax error" in refused("sql", "-s", study, "-f", "-", stdin=b"rate_by_size\n")


def test_a_file_that_is_no_text_is_one_line(study: Path, tmp_path: Path) -> None:
    file = tmp_path / "question.sql"
    file.write_bytes(b"SELECT '\xff'")
    assert f"{file}: not UTF-8 text (byte 8)" in refused("sql", "-s", study, "-f", file)
    assert "-: not UTF-8 text (byte 8)" in refused("sql", "-s", study, "-f", "-", stdin=file.read_bytes())


def test_the_list_needs_no_study_but_a_query_does() -> None:
    names = [json.loads(line)["query"] for line in ok("sql", "--list", "--json").splitlines()]
    assert "corpus_by_frequency" in names
    assert "--study" in refused("sql", "SELECT 1")
    assert "--study" in refused("report")


def test_maps_are_objects(study: Path) -> None:
    query = "SELECT 1 AS n, MAP {'C++': 3, 'Python': 4} AS domains UNION ALL SELECT 2, NULL"
    lines = [json.loads(line) for line in ok("sql", "-s", study, query, "--json").splitlines()]
    assert lines == [{"n": 1, "domains": {"C++": 3, "Python": 4}}, {"n": 2, "domains": None}]
    rows = list(csv.DictReader(io.StringIO(ok("sql", "-s", study, query, "--csv"))))
    assert [row["domains"] and json.loads(row["domains"]) for row in rows] == [{"C++": 3, "Python": 4}, ""]


def test_a_report_prints_its_path_and_nothing_else(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    done = memindex("report")  # its progress is on stderr
    assert (done.returncode, done.stdout.decode().strip()) == (0, str(study / "report.html")), done.stderr
