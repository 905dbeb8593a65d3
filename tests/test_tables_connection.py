from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from synthetic_study import HOSTILE, add_exposures, add_probes, make_study

import memindex
from memindex.errors import MemindexError, QueryError
from memindex.ragged import Ragged, from_lists
from memindex.sql.connection import connect, require
from memindex.sql.functions import readable
from memindex.tables.schema import TABLES, VIEWS
from memindex.tables.store import TableStore


class FakeIndex:
    """Counts a query as its sum of ids; remembers what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[int] = []

    def count(self, queries: Ragged) -> np.ndarray:
        self.asked.append(queries.rows)
        return np.add.reduceat(queries.values.astype(np.uint64), queries.offsets[:-1])

    def tokenize(self, texts: list[str]) -> Ragged:
        return from_lists([list(text.encode()) for text in texts])


class Opener:
    """Opens fake indexes and counts how often."""

    def __init__(self) -> None:
        self.opened: list[FakeIndex] = []

    def __call__(self, path: Path) -> FakeIndex:
        self.opened.append(FakeIndex(path))
        return self.opened[-1]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = make_study(tmp_path_factory.mktemp("a study [1] it's") / "key=value", rows=200)
    add_probes(study)
    add_exposures(study)
    return study


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def con(study: Path, opener: Opener) -> duckdb.DuckDBPyConnection:
    return connect(study, opener=opener)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text('index = "nowhere"\n', encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", [*TABLES, *VIEWS])
@pytest.mark.parametrize("filled", [True, False])
def test_views_have_the_documented_columns_and_types(study: Path, empty: Path, name: str, filled: bool) -> None:
    con = connect(study if filled else empty)
    # The documents of an index that is not there can't be read; their columns can.
    few = "" if filled or name not in {"documents", "corpora"} else " LIMIT 0"
    table = con.sql(f'SELECT * FROM "{name}"{few}').to_arrow_table()
    documented = (TABLES | VIEWS)[name].columns
    assert table.column_names == [c.name for c in documented]
    assert [_plain(t) for t in table.schema.types] == [_plain(c.type) for c in documented]
    assert bool(table.num_rows) == filled
    for column in documented:
        assert column.nullable or table[column.name].null_count == 0


def _plain(type_: object) -> str:
    return str(type_).replace("l: ", "").replace("item: ", "").replace("element: ", "").replace("child: ", "")


def test_memorization_joins_every_run_with_every_sequence(con: duckdb.DuckDBPyConnection, study: Path) -> None:
    rows = con.execute("SELECT count(*), count(DISTINCT run_id), count(DISTINCT sequence_id) FROM memorization")
    assert rows.fetchall() == [(1000, 5, 200)]
    # Held-out sequences were drawn elsewhere.
    elsewhere = "SELECT count(*) FROM memorization WHERE duplicates + (sample <> 'heldout')::INT <> sequence_count"
    assert con.execute(elsewhere).fetchall() == [(0,)]
    con.execute("SELECT frequency_bucket, sequence_count, suffix_count, unseen, sample FROM memorization")
    for bucket, count, suffix_count, unseen, sample in con.fetchall():
        assert bucket == (count.bit_length() - 1 if count else None)
        assert unseen == (sample == "heldout" and suffix_count == 0)


def test_runs_without_frequencies_or_models_are_handled(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=40)
    (study / "tables" / "frequencies" / "all.parquet").unlink()
    con = connect(study)
    answer = con.execute(
        "SELECT count(*), count(sequence_count), count(frequency_bucket), count_if(unseen) FROM memorization"
    )
    assert answer.fetchall() == [(200, 0, 0, 0)]


def test_a_model_with_two_runs_is_labelled_by_run(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=40)
    store = TableStore(study / "tables")
    run = store.read("runs").to_pylist()[0] | {"run_id": "second"}
    store.write("runs", "second", {key: [value] for key, value in run.items()})
    again = store.read("continuations").slice(0, 40).to_pydict()
    store.write("continuations", "second", again | {"run_id": ["second"] * 40})
    con = connect(study)
    labels = con.sql("SELECT DISTINCT run_label FROM memorization ORDER BY 1").fetchall()
    model = run["model_id"]
    assert {f"{model} ({model}-run)", f"{model} (second)"} <= {label for (label,) in labels}


def test_counts_in_another_index_double_no_row(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=40)
    before = connect(study).sql("SELECT * FROM memorization ORDER BY ALL").fetchall()
    store = TableStore(study / "tables")
    other = store.read("frequencies").to_pydict()
    store.write("frequencies", "other", other | {"index": ["other"] * 40, "sequence_count": [9] * 40})
    assert connect(study).sql("SELECT * FROM memorization ORDER BY ALL").fetchall() == before


def test_counts_left_by_another_sample_are_an_error(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=40)
    store = TableStore(study / "tables")
    store.write("frequencies", "left over", store.read("frequencies").slice(0, 3))
    with pytest.raises(MemindexError, match="some sequences are counted twice in mini: a file is left over"):
        connect(study)


def test_counts_that_only_another_index_has_are_an_error(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=40)
    text = (study / "study.toml").read_text(encoding="utf-8").replace('"../mini"', '"../renamed"')
    (study / "study.toml").write_text(text, encoding="utf-8")
    with pytest.raises(MemindexError, match=r"has counts in mini, but the index of study\.toml is called renamed"):
        connect(study)


def test_documents_and_corpora_come_from_the_indexes(con: duckdb.DuckDBPyConnection) -> None:
    indexes = con.sql('SELECT "index", count(*) FROM documents GROUP BY ALL ORDER BY ALL').fetchall()
    assert indexes == [("mini", 60), ("mini-heldout", 60)]
    totals = con.execute("SELECT sum(documents), sum(tokens) = (SELECT sum(tokens) FROM documents) FROM corpora")
    assert totals.fetchall() == [(120, True)]
    assert (HOSTILE,) in con.sql("SELECT domain FROM corpora").fetchall()


def test_times_need_no_further_package(con: duckdb.DuckDBPyConnection) -> None:
    [(created,)] = con.sql("SELECT DISTINCT created FROM runs").fetchall()
    assert created.isoformat() == "2026-01-02T03:04:05"


def test_no_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MemindexError, match="memindex study init"):
        memindex.connect(tmp_path)


def test_require_names_the_command(empty: Path, con: duckdb.DuckDBPyConnection) -> None:
    require(con, "models")
    with pytest.raises(MemindexError, match="the table models is still empty; fill it with: memindex study run"):
        require(connect(empty), "models")


def test_ngram_count_counts(con: duckdb.DuckDBPyConnection, opener: Opener) -> None:
    answer = con.execute("SELECT ngram_count('mini', [1, 2, 3]), text_count('mini', 'ab'), tokenize('mini', 'ab')")
    assert answer.fetchall() == [(6, 97 + 98, [97, 98])]
    assert [index.path.name for index in opener.opened] == ["mini"]


def test_ngram_count_takes_every_integer_list(con: duckdb.DuckDBPyConnection) -> None:
    answer = con.execute(
        "SELECT ngram_count('mini', [1, 2]::BIGINT[]), ngram_count('mini', [1, 2]::UINTEGER[]),"
        " ngram_count('mini', [1, 2]::INTEGER[2]), ngram_count(\"index\" := 'mini', tokens := [1, 2])"
    )
    assert answer.fetchall() == [(3, 3, 3, 3)]


def test_null_in_gives_null_out(con: duckdb.DuckDBPyConnection, opener: Opener) -> None:
    answer = con.execute(
        "SELECT ngram_count(i, t) FROM (VALUES (1, 'mini', [1]), (2, NULL, [1]), (3, 'mini', NULL),"
        " (4, NULL, NULL), (5, 'mini', [5, 5])) AS rows(n, i, t) ORDER BY n"
    )
    assert answer.fetchall() == [(1,), (None,), (None,), (None,), (10,)]
    assert con.execute(
        "SELECT ngram_count(NULL, [1]), text_count('mini', NULL), tokenize('mini', NULL)"
    ).fetchall() == [(None, None, None)]


def test_only_nulls_never_open_an_index(con: duckdb.DuckDBPyConnection, opener: Opener) -> None:
    rows = con.execute("SELECT ngram_count(NULL, [i::INTEGER]) FROM range(3000) AS t(i)").fetchall()
    assert set(rows) == {(None,)}
    assert opener.opened == []


def test_several_indexes_in_one_chunk_keep_their_rows(con: duckdb.DuckDBPyConnection, opener: Opener) -> None:
    answer = con.execute(
        "SELECT i, CASE WHEN i % 7 <> 0 THEN i::BIGINT END,"
        " ngram_count(['mini', 'mini-heldout'][1 + i % 2], CASE WHEN i % 7 <> 0 THEN [i::INTEGER] END)"
        " FROM range(5000) AS t(i) ORDER BY i"
    ).fetchall()
    assert all(expected == counted for _, expected, counted in answer)
    assert sorted(index.path.name for index in opener.opened) == ["mini", "mini-heldout"]


def test_rows_are_asked_in_batches(con: duckdb.DuckDBPyConnection, opener: Opener) -> None:
    con.sql("SELECT sum(ngram_count('mini', [1 + i::INTEGER % 10])) FROM range(50000) AS t(i)").fetchall()
    [index] = opener.opened
    assert sum(index.asked) == 50000
    assert len(index.asked) < 100


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("ngram_count('mini', [1, -2])", "token id -2 is negative"),
        ("ngram_count('mini', []::INTEGER[])", "a list of tokens is empty"),
        ("ngram_count('mini', [])", "a list of tokens is empty"),
        ("text_count('mini', '')", "a list of tokens is empty"),
        ("ngram_count('mini', [1, NULL])", "NULL token id"),
        ("ngram_count('nowhere', [1])", "there is no index 'nowhere'; the study's indexes: mini, mini-heldout"),
        ("ngram_count('', [1])", "there is no index ''"),
        ("ngram_count('mini', [1::BIGINT << 40])", "out of range for the destination type INT32"),
        ("nothing_such(1)", "nothing_such"),
    ],
)
def test_errors_are_one_readable_line(con: duckdb.DuckDBPyConnection, sql: str, message: str) -> None:
    with pytest.raises(duckdb.Error) as caught:
        con.sql(f"SELECT {sql}").fetchall()
    error = readable(caught.value)
    assert message in str(error)
    assert "UDF" not in str(error)
    assert "\n" not in str(error)


def test_an_index_may_be_given_by_its_path(con: duckdb.DuckDBPyConnection, study: Path, opener: Opener) -> None:
    path = str(study.parent / "mini")
    assert con.execute("SELECT ngram_count($path, [4])", {"path": path}).fetchall() == [(4,)]
    con.execute("SELECT ngram_count('mini', [4])").fetchall()
    assert len(opener.opened) == 1


def test_cursors_in_threads_share_one_open_index(con: duckdb.DuckDBPyConnection, opener: Opener) -> None:
    con.execute("SET threads = 4")
    started = threading.Barrier(4)

    def ask(offset: int) -> int:
        cursor = con.cursor()
        started.wait(10)
        sql = f"SELECT sum(ngram_count('mini', [i::INTEGER + {offset}])) FROM range(300000) AS t(i)"
        [(total,)] = cursor.execute(sql).fetchall()
        return int(total)

    with ThreadPoolExecutor(4) as pool:
        totals = list(pool.map(ask, range(4)))
    assert totals == [300000 * 299999 // 2 + 300000 * offset for offset in range(4)]
    assert len(opener.opened) == 1


def test_a_restricted_connection_reads_only_the_study(study: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n", encoding="utf-8")
    con = connect(study, restricted=True)
    assert con.execute("SELECT count(*) FROM memorization").fetchall() == [(1000,)]
    assert con.execute("SELECT count(*) FROM documents").fetchall() == [(120,)]
    for sql in (f"FROM read_csv('{secret}')", "SET enable_external_access = true", "FROM secret"):
        with pytest.raises(duckdb.Error):
            con.sql(sql).fetchall()


@pytest.mark.parametrize("keep", ["con", "con.cursor()", "con.sql('SELECT ngram_count(NULL, [1])')"])
def test_an_open_connection_at_exit_is_silent(study: Path, keep: str) -> None:
    code = f"import sys, memindex\ncon = memindex.connect(sys.argv[1])\nkept = {keep}\n"
    done = subprocess.run([sys.executable, "-c", code, str(study)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_real_index_answers_sql(tmp_path: Path) -> None:
    index = pytest.importorskip("memindex.index")
    texts = ["the cat sat on the mat", "the cat ran"]
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts), encoding="utf-8")
    index.build_index([source], tmp_path / "mini", tokenizer="bytes")
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.toml").write_text('index = "../mini"\n', encoding="utf-8")
    con = connect(study)
    answer = con.execute(
        "SELECT text_count('mini', 'the '), text_count('mini', 'dog'), ngram_count('mini', tokenize('mini', 'cat'))"
    )
    assert answer.fetchall() == [(3, 0, 2)]
    assert con.sql("SELECT documents, tokens FROM corpora").fetchall() == [(2, sum(map(len, texts)))]
    with pytest.raises(duckdb.Error) as caught:
        con.sql("SELECT ngram_count('mini', [-1])").fetchall()
    assert isinstance(readable(caught.value), MemindexError)
    assert issubclass(QueryError, MemindexError)


def test_a_study_of_the_version_before_opens_beside_new_files(tmp_path: Path) -> None:
    """Version 4 did not write the lengths of prefix and suffix: they are told by the lists."""
    study = make_study(tmp_path, rows=200)
    asked = "SELECT * FROM memorization ORDER BY run_id, sequence_id"
    before = connect(study).sql(asked).to_arrow_table()
    store = TableStore(study / "tables")
    whole = store.read("sequences")
    for unit, rows in (("all", whole.slice(0, 150)), ("more", whole.slice(150))):
        store.write("sequences", unit, rows)
    for file in (study / "tables").rglob("*.parquet"):
        if file.name != "more.parquet":
            old = pq.read_table(file)
            metadata = old.schema.metadata | {b"memindex.schema_version": b"4"}
            names = [name for name in old.column_names if not name.endswith("fix_tokens")]
            pq.write_table(old.select(names).replace_schema_metadata(metadata), file)
    assert "prefix_tokens" not in pq.read_schema(store.file("sequences", "all")).names
    assert connect(study).sql(asked).to_arrow_table().equals(before)
    assert store.read("sequences").equals(whole)
    assert whole["prefix_tokens"].to_pylist() == [len(prefix) for prefix in whole["prefix"].to_pylist()]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_a_connection_takes_only_the_processors_it_may_use(study: Path) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert connect(study).sql("SELECT current_setting('threads')").fetchall() == [(1,)]
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_file_that_a_run_removes_meanwhile_is_left_out(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = TableStore.readable

    def listed_before(store: TableStore, name: str) -> list[Path]:
        return [*listed(store, name), store.file(name, "stale")]

    monkeypatch.setattr(TableStore, "readable", listed_before)
    con = connect(study)
    assert con.sql("SELECT count(*) FROM continuations").fetchall() != [(0,)]
    assert con.sql("SELECT count(*) FROM spans WHERE run_id = 'stale'").fetchall() == [(0,)]
