"""What `memindex sql` says to bad input, one line each, and what it offers to complete."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import duckdb
import pytest
from synthetic_study import MODELS, make_study

from memindex.cli.sql_completion import Words, is_whole
from memindex.cli.sql_shell import Shell
from memindex.errors import MemindexError
from memindex.sql.connection import connect
from memindex.sql.empty_tables import why_empty
from memindex.sql.statements import ask


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    connection = connect(make_study(tmp_path_factory.mktemp("asking"), rows=60, models=MODELS[:1]))
    connection.execute("SET threads = 2")
    Shell(connection)
    return connection


@pytest.fixture
def empty(tmp_path: Path) -> duckdb.DuckDBPyConnection:
    (tmp_path / "study.toml").write_text('index = "nowhere"\n', encoding="utf-8")
    return connect(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM modles", "Table with name modles does not exist! Did you mean models"),
        ("FROM zzz", "does not exist! The tables: models, runs, sequences"),
        ("FROM text", "does not exist! The tables: models"),  # a variable's name is no table
        ("SELECT modelid FROM models", 'column "modelid" not found in FROM clause! Did you mean model_id'),
        ("SELECT score FROM models", "It is a column of continuations, memorization, memorization_runs"),
        ("SELECT m.qqqqqq FROM models m", 'a column named "qqqqqq"; A text stands in single quotes'),
        ("SELECT 1 FROM models JOIN continuations USING (run_id)", "left side of join! It is a column of runs, contin"),
        ("SELECT * EXCLUDE modl_id FROM models", "not found in FROM clause; Did you mean model_id"),
        ("SELECT ngram_cont(1)", "ngram_cont does not exist! Did you mean ngram_count"),
        ("SELECT zzzzzz(1)", "memindex's own functions: d"),
        ("SELECT ngram_count(1)", "It is called as ngram_count(index, tokens)"),
        ("SELECT 1\nFROM", 'syntax error at or near "FROM" (line 2: ^FROM)'),
        ("SELECT $x", "Values were not provided for the following parameters: x"),
        ("SELECT 'a'::INT", "Could not convert string 'a' to INT32"),
        ("SELECT '\udcff'", "the query is not UTF-8 text"),
        ("-- nothing", "there is no statement in it"),
    ],
)
def test_an_error_is_one_line_with_a_hint(con: duckdb.DuckDBPyConnection, text: str, message: str) -> None:
    with pytest.raises(MemindexError) as caught:
        ask(con, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_last_statement_gives_rows(con: duckdb.DuckDBPyConnection) -> None:
    last = ask(con, "CREATE OR REPLACE TEMP TABLE made AS SELECT 3 AS n; SELECT 1; FROM made;")
    assert last is not None
    assert last.to_pylist() == [{"n": 3}]
    assert ask(con, "SET threads = 1") is None
    assert ask(con, "CREATE OR REPLACE TEMP TABLE made AS SELECT 3 AS n") is None
    turned = ask(con, "PIVOT (SELECT 'a' AS k, 1 AS n) ON k USING sum(n)")
    assert turned is not None
    assert turned.to_pylist() == [{"a": 1}]


@pytest.mark.parametrize("text", ["FROM memorization", "select 1 from models join memorization_runs using (run_id)"])
def test_an_empty_table_is_named_with_its_command(
    con: duckdb.DuckDBPyConnection, empty: duckdb.DuckDBPyConnection, text: str
) -> None:
    assert why_empty(con, text) == ""
    assert "is still empty; fill it with: memindex " in why_empty(empty, text)


@pytest.mark.usefixtures("sigint")
@pytest.mark.parametrize("ours", [True, False])
def test_ctrl_c_stops_a_query_and_nothing_else(con: duckdb.DuckDBPyConnection, ours: bool) -> None:
    text = "SELECT sum(sqrt(a.range * b.range)) FROM range(1000000) a, range(1000000) b"
    if ours:
        text = (
            "SELECT max(r.low) FROM (SELECT rate_interval(i % 2 = 0, i) AS r FROM (SELECT i, i // 50 AS g "
            "FROM range(20000000) t(i)) GROUP BY g)"
        )
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ask(con, text)
    timer.join()
    after = ask(con, "SELECT 1 AS n")
    assert after is not None
    assert after.to_pylist() == [{"n": 1}]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", True),
        (".tables", True),
        ("SELECT 1", False),
        ("SELECT 1;", True),
        ("SELECT 1;  -- done", True),
        ("SELECT 1; /* a;", False),
        ("SELECT 'a;", False),
        ("SELECT 'a;';", True),
        ("SELECT 'it''s;", False),
        ("SELECT e'\\';", False),
        ('SELECT 1 AS "a;', False),
        ("SELECT $$a;", False),
        ("SELECT 1 LIKE'a\\';", True),
        ("SELECT $$a'$$;", True),
        ("SELECT '--';", True),
        ("SELECT 1 -- it's;", False),
        ("SELECT 1 -- it's\n;", True),
    ],
)
def test_a_statement_ends_with_a_semicolon_of_its_own(text: str, whole: bool) -> None:
    assert is_whole(text) == whole


@pytest.mark.parametrize(
    ("before", "offered"),
    [
        ("SELECT * FROM memori", ["memorization", "memorization_runs"]),
        ("SELECT ngram_c", ["ngram_count("]),
        ("SELECT a FROM mode", ["models"]),
        ("SELECT a FROM ", ["models", "runs"]),
        ("SELECT ", []),
        ("FROM models SELECT hidd", ["hidden_size"]),
        ("SELECT x.arch FROM models AS x WHERE x.arch", ["architecture"]),
        ("SELECT models.hea", ["heads"]),
        ("SELECT 'memori", []),
        ("SELECT 1 -- memori", []),
        (".sch", [".schema"]),
        (".schema memori", ["memorization", "memorization_runs"]),
        (".run rate_by_s", ["rate_by_size"]),
        (".run domain_shares sam", ["sample="]),
        (".mode j", ["json"]),
        (".help x", []),
        ("QUALI", ["QUALIFY"]),
    ],
)
def test_tab_offers_names(con: duckdb.DuckDBPyConnection, before: str, offered: list[str]) -> None:
    length, words = Words.of(con).after(before)
    assert words[: len(offered)] == offered
    assert bool(words) == bool(offered)
    assert all(word.lower().startswith(before[len(before) - length :].lower()) for word in words)
