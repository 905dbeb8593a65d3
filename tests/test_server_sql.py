"""SQL from strangers: every way out is refused with its reason, nothing is told, and the next query runs unharmed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from served_study import make_served

from memindex.server.refusals import RefusalError, without_folders
from memindex.server.study_limits import StudyLimits
from memindex.server.study_processes import Processes
from memindex.sql.queries import list_queries

LIMITS = StudyLimits(seconds=2.5, rows=500, bytes=4 << 20, memory=192 << 20, beside=768 << 20, workers=1)

NOT_HERE = "is not answered here"
NO_TABLE = "there is no table"
NOT_IN_FROM = "can't stand in FROM here"
ONLY_SELECT = "only SELECT is answered here"

#: What a stranger may try -> what it is told. {} is a file with a secret, {other} the Parquet files of another study,
#: {index} the files of the index.
ESCAPES = {
    # Files to read.
    "FROM read_csv('{secret}')": "read_csv can't stand in FROM",
    "FROM read_csv_auto('{secret}')": "read_csv_auto can't stand in FROM",
    "FROM sniff_csv('{secret}')": "sniff_csv can't stand in FROM",
    "FROM read_text('{secret}')": "read_text can't stand in FROM",
    "FROM read_text('/proc/self/environ')": "read_text can't stand in FROM",
    "FROM read_blob('{index}/tokenized.0')": "read_blob can't stand in FROM",
    "FROM read_json('{secret}')": "read_json can't stand in FROM",
    "FROM read_parquet('{other}/models/*.parquet')": "read_parquet can't stand in FROM",
    "FROM parquet_scan('{link}')": "parquet_scan can't stand in FROM",
    "FROM parquet_metadata('{other}/models/*.parquet')": "parquet_metadata can't stand in FROM",
    "FROM glob('/*')": "glob can't stand in FROM",
    "FROM read_duckdb('{secret}')": "read_duckdb can't stand in FROM",
    "FROM '{secret}'": NO_TABLE,
    'FROM "{other}/models/tiny.parquet"': NO_TABLE,
    "FROM 'https://example.com/a.parquet'": NO_TABLE,
    'FROM "s3://bucket/a.csv"': NO_TABLE,
    "SELECT (SELECT content FROM read_text('{secret}'))": "read_text can't stand in FROM",
    "SELECT * FROM models, LATERAL (SELECT * FROM read_text(source))": "read_text can't stand in FROM",
    'WITH "{secret}" AS (SELECT 1) SELECT * FROM "{secret}"': "WITH can't name a table",
    # Files to write.
    "COPY (SELECT 1) TO '{target}'": f"{ONLY_SELECT}, not COPY",
    "COPY models FROM '{secret}'": f"{ONLY_SELECT}, not COPY",
    "EXPORT DATABASE '{target}'": f"{ONLY_SELECT}, not",
    "IMPORT DATABASE '{target}'": f"{ONLY_SELECT}, not",
    "ATTACH '{target}'": f"{ONLY_SELECT}, not ATTACH",
    "ATTACH '{target}' AS other (TYPE sqlite)": f"{ONLY_SELECT}, not ATTACH",
    "DETACH memory": f"{ONLY_SELECT}, not DETACH",
    "USE memory": f"{ONLY_SELECT}, not",
    # Extensions, settings, secrets.
    "INSTALL httpfs": f"{ONLY_SELECT}, not LOAD",
    "LOAD httpfs": f"{ONLY_SELECT}, not LOAD",
    "LOAD '{target}.duckdb_extension'": f"{ONLY_SELECT}, not LOAD",
    "SET memory_limit = '100GB'": f"{ONLY_SELECT}, not SET",
    "SET enable_external_access = true": f"{ONLY_SELECT}, not SET",
    "RESET lock_configuration": f"{ONLY_SELECT}, not",
    "SET VARIABLE a = 1": f"{ONLY_SELECT}, not",
    "PRAGMA database_list": f"{ONLY_SELECT}, not PRAGMA",
    "PRAGMA memory_limit = '100GB'": f"{ONLY_SELECT}, not SET",
    "CREATE SECRET (TYPE http, BEARER_TOKEN 'a')": f"{ONLY_SELECT}, not",
    "FROM duckdb_secrets()": NOT_IN_FROM,
    "FROM which_secret('a', 'http')": NOT_IN_FROM,
    "FROM duckdb_settings()": NOT_IN_FROM,
    "FROM duckdb_settings": NO_TABLE,
    "SELECT current_setting('allowed_directories')": NOT_HERE,
    "SELECT CURRENT_SETTING('temp_directory')": NOT_HERE,
    "SELECT 'temp_directory'.current_setting()": NOT_HERE,
    "SELECT list_transform(['home_directory'], lambda x: current_setting(x))": NOT_HERE,
    "SELECT getenv('HOME')": NOT_HERE,
    "SELECT getvariable('a')": NOT_HERE,
    # What the connection tells of itself.
    "SELECT sql FROM duckdb_views()": NOT_IN_FROM,
    "SELECT sql FROM duckdb_views": NO_TABLE,
    "SELECT sql FROM sqlite_master": NO_TABLE,
    "SELECT view_definition FROM information_schema.views": NO_TABLE,
    "FROM information_schema.tables": NO_TABLE,
    "FROM pg_catalog.pg_views": NO_TABLE,
    "FROM pg_views": NO_TABLE,
    "FROM main.models": NO_TABLE,
    "FROM _models": NO_TABLE,
    "FROM duckdb_databases()": NOT_IN_FROM,
    "FROM pragma_storage_info('models')": NOT_IN_FROM,
    "FROM duckdb_temporary_files()": NOT_IN_FROM,
    "FROM duckdb_external_file_cache()": NOT_IN_FROM,
    "FROM duckdb_logs()": NOT_IN_FROM,
    "FROM enable_logging(level := 'trace', storage := 'file')": NOT_IN_FROM,
    "FROM add_grammar_extension('a')": NOT_IN_FROM,
    "SELECT pg_get_viewdef(1)": NOT_HERE,
    "SELECT json_serialize_plan('SELECT * FROM models')": NOT_HERE,
    "SELECT write_log('a')": NOT_HERE,
    "SELECT _ngram_count('library', [1])": NOT_HERE,
    "SHOW ALL TABLES": "of SHOW only DESCRIBE and SUMMARIZE",
    "SHOW VARIABLES": "SHOW",
    "EXPLAIN SELECT * FROM models": f"{ONLY_SELECT}, not EXPLAIN",
    "EXPLAIN ANALYZE SELECT * FROM models": f"{ONLY_SELECT}, not EXPLAIN",
    # A name of WITH that stands for a hidden view elsewhere.
    "SELECT (WITH duckdb_views AS (SELECT 1 AS a) SELECT a FROM duckdb_views), * FROM duckdb_views": "WITH can't name",
    "SELECT (WITH _models AS (SELECT 1 AS a) SELECT a FROM _models), * FROM _models": "WITH can't name",
    # SQL inside of SQL.
    "FROM query('SELECT 1')": NOT_IN_FROM,
    "FROM query_table('models')": NOT_IN_FROM,
    "FROM query_table(['{other}/models/tiny.parquet'])": NOT_IN_FROM,
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))": NOT_IN_FROM,
    "SELECT json_serialize_sql('SELECT 1')": NOT_HERE,
    # Several statements, and statements that hide.
    "SELECT 1; SELECT 2": "one statement at a time: there is 2 statements in it",
    "SELECT 1;; COPY (SELECT 1) TO '{target}'": "one statement at a time",
    "/* SELECT */ COPY (SELECT 1) TO '{target}' -- SELECT": f"{ONLY_SELECT}, not COPY",
    "-- a comment\n;SELECT 1;\nDROP VIEW models": "one statement at a time",
    "-- nothing": "there is no statement in it",
    ";": "there is no statement in it",
    "WITH a AS (DELETE FROM models RETURNING *) SELECT * FROM a": f"{ONLY_SELECT}, not DELETE",
    "WITH a AS (INSERT INTO models DEFAULT VALUES RETURNING *) SELECT * FROM a": f"{ONLY_SELECT}, not INSERT",
    # What writes to the database.
    "CREATE TABLE a AS SELECT 1": f"{ONLY_SELECT}, not CREATE",
    "CREATE MACRO a() AS 1": f"{ONLY_SELECT}, not CREATE",
    "CREATE OR REPLACE VIEW models AS SELECT 1": f"{ONLY_SELECT}, not CREATE",
    "CREATE TEMP TABLE a (b INT)": f"{ONLY_SELECT}, not CREATE",
    "CREATE TYPE a AS ENUM ('b')": f"{ONLY_SELECT}, not CREATE",
    "INSERT INTO models VALUES (1)": f"{ONLY_SELECT}, not INSERT",
    "UPDATE models SET model_id = 'a'": f"{ONLY_SELECT}, not UPDATE",
    "DELETE FROM models": f"{ONLY_SELECT}, not DELETE",
    "DROP VIEW models": f"{ONLY_SELECT}, not DROP",
    "ALTER VIEW models RENAME TO a": f"{ONLY_SELECT}, not ALTER",
    "CHECKPOINT": f"{ONLY_SELECT}, not",
    "VACUUM": f"{ONLY_SELECT}, not VACUUM",
    "FROM force_checkpoint()": NOT_IN_FROM,
    "BEGIN TRANSACTION": f"{ONLY_SELECT}, not TRANSACTION",
    "PREPARE a AS SELECT 1": f"{ONLY_SELECT}, not PREPARE",
    "EXECUTE a": f"{ONLY_SELECT}, not EXECUTE",
    "CALL pragma_version()": f"{ONLY_SELECT}, not CALL",
    "SELECT nextval('a')": NOT_HERE,
    "PIVOT models ON family USING count(*)": "write the values of PIVOT out",
    # Memory of the process.
    "SELECT finalize('a'::BLOB)": NOT_HERE,
    "SELECT sleep_ms(100000)": NOT_HERE,
    # Python.
    "FROM study": NO_TABLE,
    "FROM python_map_function()": NOT_IN_FROM,
    "FROM arrow_scan(1, 2, 3)": NOT_IN_FROM,
    # Text that is no SQL.
    "SELECT 'a": "Parser Error",
    "SELECT \x00 1": "Error",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000: "Parser Error",
    "SELECT " + "1+" * 40_000 + "1": "characters; at most",
}

BOMBS = {
    "SELECT length(repeat('x', 3000000000))": (413, "more memory"),
    "SELECT length(repeat('x', 300000000) || i::VARCHAR) FROM range(50) AS r(i)": (413, "more memory"),
    "SELECT len(range(300000000))": (413, "more memory"),
    "SELECT list(i) FROM range(300000000) AS r(i)": (413, "more memory"),
    "SELECT string_agg(i::VARCHAR, ',') FROM range(300000000) AS r(i)": (413, "more memory"),
    "SELECT i, rank() OVER (ORDER BY hash(i)) FROM range(100000000) AS r(i)": (413, "more memory"),
    "SELECT lpad('x', 2000000000, 'y')": (413, "more memory"),
    "SELECT count(*) FROM range(1000000000000) AS a, range(1000000) AS b": (408, "stopped after 2.5 seconds"),
    "SELECT count(*) FROM memorization AS a, memorization AS b, memorization AS c, memorization AS d": (408, "stopped"),
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t": (408, "stopped after"),
    "SELECT repeat('x', 100000) FROM range(400)": (413, "the answer is larger than 4 MiB"),
    "SELECT " + ", ".join(f"repeat('x', 9000) AS c{i}" for i in range(600)): (413, "the answer is larger than 4 MiB"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    make_served(folder)
    (folder / "secret.csv").write_text("a\nSECRET-VALUE\n", encoding="utf-8")
    other = folder / "other" / "models"
    other.mkdir(parents=True)
    (other / "tiny.parquet").write_bytes((folder / "reading" / "tables" / "models" / "tiny.parquet").read_bytes())
    # A link inside of the study's own folder.
    (folder / "reading" / "tables" / "link.parquet").symlink_to(other / "tiny.parquet")
    return folder


@pytest.fixture(scope="module")
def processes(folder: Path) -> Iterator[Processes]:
    made = Processes(folder / "reading", LIMITS)
    yield made
    made.close()


def ask(processes: Processes, text: str, **values: object) -> list[list[object]]:
    body, _ = processes.ask("sql", text=text, values=values, form="json", rows=None)
    return json.loads(body)["rows"]


def refusal(processes: Processes, text: str) -> RefusalError:
    with pytest.raises(RefusalError) as refused:
        ask(processes, text)
    return refused.value


@pytest.mark.parametrize("text", ESCAPES, ids=lambda text: text[:60])
def test_every_way_out_is_refused(processes: Processes, folder: Path, text: str) -> None:
    places = {
        "secret": folder / "secret.csv",
        "other": folder / "other",
        "index": folder / "library",
        "target": folder / "target",
        "link": folder / "reading" / "tables" / "link.parquet",
    }
    filled = text
    for name, place in places.items():
        filled = filled.replace(f"{{{name}}}", str(place))
    before = sorted(folder.rglob("*"))
    error = refusal(processes, filled)
    assert ESCAPES[text] in str(error)
    assert error.status in (400, 413)
    assert "\n" not in str(error)
    assert str(folder) not in str(error)
    assert "SECRET" not in str(error)
    assert sorted(folder.rglob("*")) == before
    assert ask(processes, "SELECT count(*) FROM models") == [[3]]


@pytest.mark.slow
@pytest.mark.parametrize("text", BOMBS, ids=lambda text: text[:60])
def test_bombs_end_in_time_and_harm_nothing(processes: Processes, text: str) -> None:
    error = refusal(processes, text)
    status, words = BOMBS[text]
    # Where a slow machine has not filled its memory yet, time ends it.
    assert error.status == 408 or (error.status, words in str(error)) == (status, True), str(error)
    assert ask(processes, "SELECT count(*), sum(text_count('library', 'The river')) > 0 FROM models") == [[3, True]]


def test_the_lock_holds_without_the_guard(folder: Path) -> None:
    """What the guard refuses would fail in DuckDB, too: two walls."""
    import duckdb

    from memindex.sql.connection import connect

    con = connect(folder / "reading", restricted=True)
    secret, target, index = folder / "secret.csv", folder / "target", folder / "library"
    for text in (
        f"FROM read_csv('{secret}')",
        f"FROM read_text('{secret}')",
        f"FROM '{secret}'",
        f"FROM read_blob('{index}/tokenized.0')",
        f"FROM read_parquet('{folder}/other/models/tiny.parquet')",
        "FROM glob('/*')",
        f"COPY (SELECT 1) TO '{target}'",
        f"COPY (SELECT 1) TO '{folder}/other/x.csv'",
        f"ATTACH '{target}'",
        f"EXPORT DATABASE '{target}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 99",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "RESET enable_external_access",
        "CREATE PERSISTENT SECRET s (TYPE http)",
        "FROM enable_logging(storage := 'file', storage_path := '/tmp')",
    ):
        with pytest.raises(duckdb.Error):
            con.sql(text).fetchall()
    assert not target.exists()


def test_the_process_writes_no_file_even_where_duckdb_would(folder: Path) -> None:
    import subprocess
    import sys

    code = (
        "from memindex.server.study_worker import _confine; from memindex.server.study_limits import StudyLimits; "
        "_confine(StudyLimits()); open('w.txt', 'wb', buffering=0).write(b'a')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    (folder / "w.txt").unlink()
    assert "File too large" in done.stderr


def test_the_process_has_no_secrets_of_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "SECRET-VALUE")
    processes = Processes(folder / "reading", LIMITS)
    try:
        ask(processes, "SELECT 1")
        [process] = processes._idle
        environment = Path(f"/proc/{process._process.pid}/environ")
        if environment.exists():
            assert b"SECRET-VALUE" not in environment.read_bytes()
    finally:
        processes.close()


def test_paths_of_this_machine_are_not_in_answers(folder: Path) -> None:
    from memindex.tables.store import TableStore

    store = TableStore(folder / "reading" / "tables")
    row = store.read("models", ["tiny"]).to_pydict() | {"source": [str(folder / "checkpoints" / "tiny")]}
    store.write("models", "tiny", row)
    processes = Processes(folder / "reading", LIMITS)
    try:
        told = json.dumps([ask(processes, f"FROM {name} LIMIT 3") for name in ("models", "documents", "memorization")])
        assert ask(processes, "SELECT source FROM models WHERE model_id = 'tiny'") == [["tiny"]]
        assert ask(processes, "SELECT DISTINCT path FROM documents") == [["library.jsonl"]]
        assert str(folder) not in told
    finally:
        processes.close()


def test_selects_are_answered(processes: Processes) -> None:
    for text, rows in {
        "SELECT 1 AS a, 2 AS a": [[1, 2]],
        "FROM range(2)": [[0], [1]],
        "VALUES ('a', NULL)": [["a", None]],
        "SELECT 'nan'::DOUBLE, DATE '2020-01-01', 1.50::DECIMAL(3, 2), [1, 2], {'a': 'b'}, '\\x00'::BLOB": [
            ["NaN", "2020-01-01", 1.5, [1, 2], {"a": "b"}, "\\x00"]
        ],
        "WITH t AS (SELECT model_id FROM models) SELECT count(*) FROM t": [[3]],
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT max(n) FROM t": [[5]],
        "SELECT text_count('library', 'The river') = ngram_count('library', tokenize('library', 'The river'))": [
            [True]
        ],
        "SELECT count(*) FROM documents_with('library', 'The river', 3)": [[3]],
        "SELECT count(*) FROM (PIVOT models ON architecture IN ('gpt_neox') USING count(*) GROUP BY model_id)": [[3]],
        "SELECT row_number() OVER (ORDER BY model_id) FROM models LIMIT 1": [[1]],
        "SELECT current_date > DATE '2020-01-01', typeof(random()), count(*) > 2 FROM (DESCRIBE models)": [
            [True, "DOUBLE", True]
        ],
        "SELECT 1 -- ; DROP VIEW models": [[1]],
        "SELECT 1;": [[1]],
    }.items():
        assert ask(processes, text) == rows, text
    assert ask(processes, "SELECT $a + 1, $b || 'c', $c", a=1, b="b", c=None) == [[2, "bc", None]]


def test_parameters_never_become_sql(processes: Processes) -> None:
    assert ask(processes, "SELECT count(*) FROM models WHERE model_id = $a", a="x' OR true --") == [[0]]


def test_rows_are_cut_off_and_told(processes: Processes) -> None:
    for form in ("json", "csv", "arrow"):
        body, truncated = processes.ask("sql", text="FROM range(100000)", values={}, form=form, rows=None)
        assert truncated
        body, truncated = processes.ask("sql", text="FROM range(500)", values={}, form=form, rows=None)
        assert not truncated
        body, truncated = processes.ask("sql", text="FROM range(500)", values={}, form=form, rows=7)
        assert truncated
        if form == "csv":
            assert body.decode().splitlines() == ["range", *map(str, range(7))]
        if form == "arrow":
            import pyarrow as pa

            assert pa.ipc.open_stream(body).read_all().to_pydict() == {"range": list(range(7))}


def test_every_question_passes_the_guard(processes: Processes) -> None:
    from memindex.sql.queries import load_query

    for name in list_queries():
        processes.ask("sql", text=load_query(name).literal_sql(), values={}, form="csv", rows=None)


def test_new_tables_are_seen_at_once(folder: Path) -> None:
    processes = Processes(folder / "reading", LIMITS)
    try:
        before = ask(processes, "SELECT count(*) FROM indexes")
        table = folder / "reading" / "tables" / "indexes"
        state = processes.state()
        [file, *_] = table.glob("*.parquet")
        kept = file.read_bytes()
        file.unlink()
        os.utime(table)
        assert processes.state() != state
        assert ask(processes, "SELECT count(*) FROM indexes") == [[before[0][0] - 1]]
        file.write_bytes(kept)
    finally:
        processes.close()


def test_a_killed_process_is_replaced(processes: Processes) -> None:
    ask(processes, "SELECT 1")
    [process] = processes._idle
    process._process.kill()
    process._process.wait()
    assert ask(processes, "SELECT 1") == [[1]]


def test_too_many_at_a_time_are_told_so(folder: Path) -> None:
    import threading

    limits = StudyLimits(seconds=3, memory=192 << 20, beside=768 << 20, workers=1, waiting=0.2)
    processes = Processes(folder / "reading", limits)
    try:
        ask(processes, "SELECT 1")
        slow = threading.Thread(target=refusal, args=(processes, "SELECT count(*) FROM range(10000000000000)"))
        slow.start()
        while processes._idle:
            time.sleep(0.01)
        assert refusal(processes, "SELECT 1").status == 503
        slow.join()
        assert ask(processes, "SELECT 1") == [[1]]
    finally:
        processes.close()


def test_folders_leave_lines() -> None:
    assert without_folders("can't read /home/a/b/c.parquet: gone") == "can't read c.parquet: gone"
    assert without_folders("at /x y/study/tables", [Path("/x y/study")]) == "at tables"
    assert without_folders("see https://example.com/a/b, 1/2 and a/b/c") == "see https://example.com/a/b, 1/2 and a/b/c"
