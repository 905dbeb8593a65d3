"""Many queries at once have the answers that they have one by one, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from synthetic_study import make_study

from memindex.errors import MemindexError
from memindex.sql import query_pool as running_queries
from memindex.sql.connection import connect
from memindex.sql.queries import Query, list_queries, load_query, parse_query, run_query
from memindex.sql.query_pool import run_queries


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study"), rows=300)


@pytest.mark.slow
def test_answers_are_those_of_one_query_at_a_time_to_the_last_bit(study: Path) -> None:
    queries = [load_query(name) for name in list_queries()]
    one_by_one, at_once = connect(study), connect(study)
    one_by_one.execute("SET threads = 1")
    expected = [run_query(one_by_one, query) for query in queries]
    answers = list(run_queries(at_once, [(query, {}) for query in queries]))
    assert sum(answer.num_rows > 0 for answer in expected) > 10
    for query, answer, wanted in zip(queries, answers, expected, strict=True):
        assert isinstance(answer, pa.Table)
        # NaN is no equal of itself in a table; its text is.
        assert str(answer.to_pylist()) == str(wanted.to_pylist()), query.name


def test_what_goes_wrong_stands_in_its_place(study: Path) -> None:
    good = load_query("rate_by_size")
    head = "-- title: Wrong\n-- question: What?\n-- note: Nothing.\n-- figure: none\n\n"
    wrong = parse_query("wrong", f"{head}SELECT no_such_column FROM runs")
    asked = [(good, {}), (wrong, {}), (good, {"no_such_parameter": 1}), (good, {})]
    first, error, refused, last = run_queries(connect(study), asked)
    assert isinstance(error, MemindexError)
    assert "no_such_column" in str(error)
    assert "has no parameter 'no_such_parameter'" in str(refused)
    assert first.num_rows and first.equals(last)


def test_whoever_stops_early_waits_for_no_more(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[str] = []

    def counted(con: Any, query: Query, **values: Any) -> pa.Table:
        run.append(query.name)
        return run_query(con, query, **values)

    monkeypatch.setattr(running_queries, "run_query", counted)
    con, asked = connect(study), [(load_query("rate_by_size"), {})] * 1000
    answers = run_queries(con, asked)
    assert next(answers).num_rows
    answers.close()
    con.close()
    assert len(run) < len(asked)


def test_a_table_that_is_gone_is_named(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=20)
    con = connect(study)
    for file in (study / "tables" / "continuations").iterdir():
        file.unlink()
    with pytest.raises(MemindexError, match="was removed after this connection was made"):
        list(run_queries(con, [(load_query("rate_by_size"), {})]))
