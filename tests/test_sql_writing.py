"""Each form of output of `memindex sql`, read back by pandas and DuckDB."""

from __future__ import annotations

import datetime
import io
import json
import math
import re
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from synthetic_study import MODELS, make_study

from memindex.cli import sql_writing
from memindex.cli.sql_writing import write, write_parquet
from memindex.errors import MemindexError
from memindex.sql.connection import connect
from memindex.sql.statements import ask

#: Column -> (SQL of its first row, SQL of its second row).
ROWS = {
    "whole": ("1::BIGINT << 60", "NULL"),
    "large": ("170141183460469231731687303715884105727::HUGEINT", "-1::HUGEINT"),
    "part": ("0.1::DOUBLE", "'nan'::DOUBLE"),
    "endless": ("'-inf'::DOUBLE", "'inf'::DOUBLE"),
    "exact": ("12.25::DECIMAL(6, 2)", "NULL"),
    "flag": ("true", "false"),
    "words": ("'say \"a,b\"\n\tä\x1b[31m \u0085'", "''"),
    "moment": ("TIMESTAMP '2026-01-02 03:04:05.678901'", "NULL"),
    "day": ("DATE '2026-01-02'", "DATE '1066-10-14'"),
    "span": ("INTERVAL 3 DAY", "NULL"),
    "bytes": ("'\\x00a\\xFF'::BLOB", "''::BLOB"),
    "list": ("[1, NULL, 3]", "[]::INTEGER[]"),
    "numbers": ("['nan'::DOUBLE, 1.5]", "NULL"),
    "map": ("MAP {'a': 1, 'b': NULL}", "MAP {}::MAP(VARCHAR, INTEGER)"),
    "keyed": ("MAP {7: 'x'}", "NULL"),
    "struct": ("{'low': 0.5::DOUBLE, 'at': DATE '2026-01-02', 'DATE': [1]}", "NULL"),
}
QUERY = " UNION ALL ".join(
    "SELECT " + ", ".join(f"{pair[row]} AS {name}" for name, pair in ROWS.items()) for row in (0, 1)
)


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    return connect(make_study(tmp_path_factory.mktemp("writing"), rows=60, models=MODELS[:1]))


def answer(con: duckdb.DuckDBPyConnection, query: str = QUERY, *, for_file: bool = False) -> pa.Table:
    found = ask(con, query, for_file=for_file)
    assert found is not None
    return found


def printed(capfdbinary: pytest.CaptureFixture[bytes], table: pa.Table, form: str) -> str:
    write(table, form)
    return capfdbinary.readouterr().out.decode()


def test_json_keeps_every_value(con: duckdb.DuckDBPyConnection, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    text = printed(capfdbinary, answer(con), "json")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    first, second = (json.loads(line, parse_constant=refuse) for line in text.splitlines())
    assert first == {
        "whole": 1 << 60,
        "large": 2**127 - 1,
        "part": 0.1,
        "endless": "-Infinity",
        "exact": 12.25,
        "flag": True,
        "words": 'say "a,b"\n\tä\x1b[31m \u0085',
        "moment": "2026-01-02 03:04:05.678901",
        "day": "2026-01-02",
        "span": "3 days",
        "bytes": "\\x00a\\xFF",
        "list": [1, None, 3],
        "numbers": ["NaN", 1.5],
        "map": {"a": 1, "b": None},
        "keyed": {"7": "x"},
        "struct": {"low": 0.5, "at": "2026-01-02", "DATE": [1]},
    }
    assert [second[name] for name in ("part", "endless", "words", "list", "map")] == ["NaN", "Infinity", "", [], {}]
    assert [name for name in second if second[name] is None] == [
        *("whole", "exact", "moment", "span", "numbers", "keyed", "struct")
    ]


def test_duckdb_reads_the_json_as_the_types_it_was(
    con: duckdb.DuckDBPyConnection, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    file = tmp_path / "answer.json"
    file.write_text(printed(capfdbinary, answer(con), "json"), encoding="utf-8")
    names = ["part", "endless", "moment", "bytes", "map", "list"]
    types = {str(name): str(kind) for name, kind in zip(con.sql(QUERY).columns, con.sql(QUERY).types, strict=True)}
    types["bytes"] = "VARCHAR"
    columns = ", ".join(f"{name}: '{types[name]}'" for name in names)
    source = f"read_json('{file}', format = 'newline_delimited', columns = {{{columns}}})"
    read = f"SELECT {', '.join(names).replace('bytes', 'bytes::BLOB')} FROM {source}"
    expected = con.sql(f"SELECT {', '.join(names)} FROM ({QUERY})").fetchall()
    for got, wanted in zip(duckdb.sql(read).fetchall(), expected, strict=True):
        assert math.isnan(got[0]) == math.isnan(wanted[0])
        assert got[1:] == wanted[1:]


def test_pandas_reads_the_csv(con: duckdb.DuckDBPyConnection, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    text = printed(capfdbinary, answer(con), "csv")
    frame = pd.read_csv(io.StringIO(text), parse_dates=["moment"], keep_default_na=False, na_values={"whole": [""]})
    assert list(frame.columns) == list(ROWS)
    assert frame["words"].tolist() == ['say "a,b"\n\tä\x1b[31m \u0085', ""]
    assert frame["part"].astype(float).isna().tolist() == [False, True]
    assert frame["endless"].astype(float).tolist() == [-np.inf, np.inf]
    assert frame["moment"][0] == datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
    assert frame["bytes"].tolist() == ["\\x00a\\xFF", ""]
    assert [json.loads(value) for value in frame["list"]] == [[1, None, 3], []]
    assert [json.loads(value) for value in frame["map"]] == [{"a": 1, "b": None}, {}]
    assert json.loads(frame["struct"][0])["low"] == 0.5
    assert frame["struct"][1] == ""


def test_parquet_keeps_the_types(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    file = tmp_path / "answer.parquet"
    write_parquet(answer(con, for_file=True), file)
    assert [path.name for path in tmp_path.iterdir()] == ["answer.parquet"]
    kept = [name for name in ROWS if name not in {"large", "span", "part", "numbers"}]
    expected = con.sql(f"SELECT {', '.join(kept)} FROM ({QUERY})")
    read = duckdb.sql(f"SELECT {', '.join(kept)} FROM '{file}'")
    assert read.fetchall() == expected.fetchall()
    assert [str(kind) for kind in read.types] == [str(kind) for kind in expected.types]
    frame = pd.read_parquet(file)
    assert frame["span"][0] == "3 days"
    assert [int(value) for value in frame["large"]] == [2**127 - 1, -1]
    assert np.isnan(frame["part"][1])


def test_a_file_is_there_whole_or_not_at_all(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    file = tmp_path / "answer.parquet"
    write_parquet(answer(con, "SELECT 1 AS a"), file)
    before = file.read_bytes()
    with pytest.raises(MemindexError, match="several columns are called a: name them apart with AS for Parquet"):
        write_parquet(pa.table([[1], [2]], names=["a", "a"]), file)
    with pytest.raises(MemindexError, match="cast the column with ::VARCHAR"):
        write_parquet(pa.table({"a": pa.array([None], pa.month_day_nano_interval())}), file)
    assert file.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("form", ["table", "csv"])
def test_no_text_rules_the_terminal(
    con: duckdb.DuckDBPyConnection,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(
        capfdbinary, answer(con, "SELECT chr(27) || ']0;title' || chr(7) || chr(155) AS \"[red]\x1bc\""), form
    )
    text = re.sub("\x1b\\[[01]m", "", text)  # a table's heading is bold
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert "[red]␛c" in text
    assert "␛]0;title␇" in text


def test_a_terminal_gets_the_first_rows_and_is_told(
    con: duckdb.DuckDBPyConnection, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = answer(con, "FROM range(1000) AS t(n)")
    write(rows, "table")
    assert "999" in capfd.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    write(rows, "table")
    shown = capfd.readouterr()
    assert f" {sql_writing.MOST_ROWS - 1} " in shown.out
    assert f" {sql_writing.MOST_ROWS} " not in shown.out
    assert "The first 200 of 1,000 rows" in shown.err


def test_a_plan_keeps_its_lines(con: duckdb.DuckDBPyConnection, capfd: pytest.CaptureFixture[str]) -> None:
    write(answer(con, "EXPLAIN SELECT count(*) FROM models"), "table")
    assert len(capfd.readouterr().out.splitlines()) > 3
