"""What goes wrong with studies, their indexes and their files: one line that says what to do, through the command line
and from Python."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import duckdb
import pytest
from scored_study import make_indexes, make_study
from synthetic_study import MODELS
from synthetic_study import make_study as make_scored

import memindex
from memindex.cli import main
from memindex.cli.output import print_json
from memindex.errors import MemindexError
from memindex.index import build_index
from memindex.sql.connection import connect, require
from memindex.sql.functions import FUNCTIONS, readable
from memindex.sql.queries import parse_query, run_query
from memindex.study.config import StudyConfig, load_study
from memindex.study.running import run_study
from memindex.tables.schema import TABLES, VIEWS
from memindex.tables.store import TableStore

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two indexes and a study whose sequences are sampled and counted."""
    root = tmp_path_factory.mktemp("made")
    study = make_study(root / "study", make_indexes(root))
    run_study(study, only="sequences")
    run_study(study, only="frequencies")
    return root


@pytest.fixture(scope="module")
def con(made: Path) -> duckdb.DuckDBPyConnection:
    return connect(made / "study")


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "world"))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text('index = "nowhere"\n', encoding="utf-8")
    return tmp_path


def refused(monkeypatch: pytest.MonkeyPatch, capfd: Capture, *arguments: object) -> str:
    """The one line that the command line says, with the exit code 2 and nothing on stdout."""
    code, out, err = called(monkeypatch, capfd, *arguments)
    assert (code, out) == (2, ""), err
    assert err.startswith("memindex: ")
    assert err.count("\n") == 1, err
    return err


def called(monkeypatch: pytest.MonkeyPatch, capfd: Capture, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["memindex", *map(str, arguments)])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    code = 0
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    out, err = capfd.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("nowhere", "no such folder: "),
        ("folder", "is an empty folder, not a study; make a study with: memindex study init"),
        ("file", "is a file, not a study; give a folder"),
    ],
)
def test_what_is_no_study_is_told_how_to_become_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture, place: str, wanted: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    for command in (["sql", "SELECT 1"], ["report"], ["export"]):
        assert wanted in refused(monkeypatch, capfd, *command, "-s", tmp_path / place)
    with pytest.raises(MemindexError, match=wanted):
        connect(tmp_path / place)


@pytest.mark.parametrize("name", [*TABLES, *VIEWS])
def test_an_empty_table_names_the_command_that_fills_it(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture, name: str
) -> None:
    line = refused(monkeypatch, capfd, "sql", "-s", empty, f"SELECT * FROM {name}")
    if name in ("documents", "corpora"):
        assert line.startswith("memindex: the index nowhere is not at ")
        return
    first = (*VIEWS[name].made_of, name)[0] if name in VIEWS else name
    filled_by = (TABLES | VIEWS)[first].filled_by
    assert line == f"memindex: the table {first} is still empty; fill it with: {filled_by}\n"
    with pytest.raises(MemindexError) as caught:
        require(connect(empty), name)
    assert f"memindex: {caught.value}\n" == line


def test_every_command_that_fills_a_table_exists(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    for table in (TABLES | VIEWS).values():
        if not table.made_of:
            words = (
                table.filled_by.split(",")[0].split(" or ")[0].split(" STUDY")[0].split(" -s")[0].split(" (")[0].split()
            )
            assert words[0] == "memindex"
            assert called(monkeypatch, capfd, *words[1:], "--help")[0] == 0


def test_a_table_that_is_filled_names_no_command(root: Path) -> None:
    con = connect(root / "study")
    for name in ("sequences", "frequencies", "ngram_statistics", "domain_counts", "buckets", "indexes", "corpora"):
        require(con, name)
    with pytest.raises(MemindexError, match="the table models is still empty"):
        require(con, "memorization")


def test_an_index_that_moved_is_asked_for_and_the_rest_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    (root / "train-index").rename(root / "elsewhere")
    study = root / "study"
    wanted = f"the index train-index is not at {root / 'train-index'}: write where it is now as index into "
    asked = "SELECT ngram_count('train-index', [101])"
    for command in (
        *(["sql", asked, "-s", study], ["study", "run", study], ["study", "status", study]),
        *(["run", "-s", study, "--model", "a/b"], ["export", "-s", study]),
    ):
        assert wanted + str(study / "study.toml") in refused(monkeypatch, capfd, *command)
    assert called(monkeypatch, capfd, "sql", "-s", study, "SELECT count(*) FROM frequencies", "--csv")[0] == 0
    with pytest.raises(duckdb.Error, match="train-index is not at") as caught:
        connect(study).sql(asked).fetchall()
    assert "\n" not in str(readable(caught.value))
    # What the line says helps.
    (root / "moved").mkdir()
    (root / "elsewhere").rename(root / "moved" / "train-index")
    text = (study / "study.toml").read_text(encoding="utf-8")
    (study / "study.toml").write_text(text.replace('"../train-index"', '"../moved/train-index"'), encoding="utf-8")
    assert connect(study).sql(asked).fetchall()[0][0] > 0
    run_study(load_study(study), only="frequencies")


def changed(root: Path) -> StudyConfig:
    """The study, after one document was added to its index."""
    shutil.rmtree(root / "train-index")
    (root / "train" / "more.txt").write_text("one more document\n", encoding="utf-8")
    build_index([root / "train"], root / "train-index", tokenizer="bytes")
    return load_study(root / "study")


def test_an_index_that_changed_is_warned_of_and_not_mixed_in(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    before = connect(root / "study").sql("FROM frequencies ORDER BY ALL").fetchall()
    study = changed(root)
    wanted = "the index train-index changed since the study's tables were made from it: put the old one back at "
    for command in (["study", "run", root / "study"], ["study", "run", root / "study", "--only", "frequencies"]):
        assert wanted in called(monkeypatch, capfd, *command)[2]
    files = {file: file.stat().st_mtime_ns for file in study.tables.rglob("*")}
    for only in (None, "sequences", "frequencies", "spans"):
        with pytest.raises(MemindexError, match="train-index changed since"):
            run_study(study, only=only)
    assert {file: file.stat().st_mtime_ns for file in study.tables.rglob("*")} == files

    with pytest.warns(UserWarning, match=wanted):
        con = connect(root / "study")
    assert con.sql("FROM frequencies ORDER BY ALL").fetchall() == before
    others = 'SELECT DISTINCT "index" FROM documents WHERE "index" = \'heldout-index\''
    assert con.sql(others).fetchall() == [("heldout-index",)]
    with pytest.raises(duckdb.Error, match="train-index changed since"):
        con.sql("FROM documents").fetchall()
    for function in FUNCTIONS:
        given = "'a'" if function.argument_type == "VARCHAR" else "[101]"
        call = f"{function.name}('train-index', {given})"
        with pytest.raises(duckdb.Error, match="changed since"):
            con.sql(f"FROM {call}" if function.is_table else f"SELECT {call}").fetchall()
    path = root / "train-index"
    assert con.execute("SELECT text_count($path, 'one more document')", {"path": str(path)}).fetchall() == [(1,)]

    code, out, err = called(monkeypatch, capfd, "sql", "-s", root / "study", "SELECT 1 AS n", "--json")
    assert (code, json.loads(out)) == (0, {"n": 1})
    assert wanted in err


def test_an_index_built_again_from_the_same_files_is_the_same(root: Path) -> None:
    shutil.rmtree(root / "train-index")
    build_index([root / "train"], root / "train-index", tokenizer="bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connect(root / "study")
    run_study(load_study(root / "study"), only="frequencies")


def test_an_import_is_not_counted_in_an_index_that_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    changed(root)
    line = {"prefix": [101] * 4, "suffix": [102] * 4, "continuation": [102] * 4}
    (root / "lines.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    arguments = ["import", "jsonl", root / "lines.jsonl", "-s", root / "study", "--model-id", "m"]
    assert "train-index changed since" in refused(monkeypatch, capfd, *arguments)
    assert TableStore(root / "study" / "tables").units("runs") == []
    assert called(monkeypatch, capfd, *arguments, "--no-lookup")[0] == 0


def _zeros_inside(file: Path) -> None:
    content = bytearray(file.read_bytes())
    third = len(content) // 3
    content[third : third + 400] = bytes(400)
    file.write_bytes(content)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("harm", [_zeros_inside, _cut, _folder])
def test_a_damaged_file_is_named_with_what_mends_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture, harm: object
) -> None:
    study = load_study(root / "study")
    store = TableStore(study.tables)
    before = store.read("sequences")
    [unit] = store.units("sequences")
    file = store.file("sequences", unit)
    assert callable(harm)
    harm(file)
    wanted = f"{file} is not a readable Parquet file: delete it, then fill the table again with: memindex study run"
    query = "SELECT sum(list_sum(prefix) + list_sum(suffix)) FROM sequences"
    assert wanted in refused(monkeypatch, capfd, "sql", "-s", root / "study", query)
    assert wanted in refused(monkeypatch, capfd, "study", "run", root / "study", "--only", "sequences")
    assert wanted in refused(monkeypatch, capfd, "export", "-s", root / "study", "--out", root / "out.jsonl")
    assert not (root / "out.jsonl").exists()
    with pytest.raises(MemindexError) as caught:
        run_query(connect(root / "study"), parse_query("q", f"-- title: t\n-- question: q\n{query}"))
    assert wanted in str(caught.value)
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    run_study(study, only="sequences")
    assert store.read("sequences").equals(before)


def test_damaged_continuations_are_named_with_the_row_of_their_run(tmp_path: Path) -> None:
    study = make_scored(tmp_path, rows=40, models=(("a/b", "llama", 1000),))
    tables = study / "tables"
    store = TableStore(tables)
    whole = store.file("continuations", "a/b-run")
    damaged = store.file("continuations", "a/b-run 0123abcd 000000000")
    whole.rename(damaged)
    _cut(damaged)
    with pytest.raises(MemindexError) as caught:
        connect(study)
    assert f"delete it and {store.file('runs', 'a/b-run')}, then fill the table again with: " in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="needs limits of processes")
def test_a_full_disk_is_one_line_and_leaves_nothing(root: Path) -> None:
    code = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "from memindex.cli import main\nsys.argv[0] = 'memindex'\nmain()\n"
    )
    other = root / "other"
    other.mkdir()
    shutil.copy(root / "study" / "study.toml", other)
    answer = root / "answer.parquet"
    for target, arguments in (
        (answer, ["sql", "-s", str(other), "SELECT random() FROM range(100000)", "--parquet", str(answer)]),
        (other / "tables" / "sequences", ["study", "run", str(other), "--only", "sequences"]),
        (root / "out.jsonl", ["export", "-s", str(root / "study"), "--out", str(root / "out.jsonl")]),
    ):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert done.stderr.startswith(f"memindex: can't write {target}")
        assert done.stderr.endswith("File too large\n")
        assert done.stderr.count("\n") == 1
        assert not target.is_file()
    assert not [file for file in root.rglob("*") if file.suffix in {".tmp", ".jsonl"} or "answer" in file.name]
    run_study(load_study(other), only="sequences")


def test_an_answer_takes_no_place_but_a_files(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    def ask(target: object) -> str:
        return refused(monkeypatch, capfd, "sql", "-s", empty, "SELECT 1", "--parquet", target)

    assert "give the name of a file in a directory that exists" in ask(tmp_path)
    assert "give the name of a file in a directory that exists" in ask(tmp_path / "no" / "a.parquet")
    assert "File name too long" in ask(tmp_path / ("a" * 300))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert f"can't write {pipe}: it is no file; choose another name" in ask(pipe)
    assert pipe.is_fifo()
    with monkeypatch.context() as patched:
        # For root everything may be written.
        patched.setattr(os, "access", lambda path, mode: mode != os.W_OK)
        assert "nothing may be written there; choose another directory" in ask(tmp_path / "a.parquet")


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
@pytest.mark.parametrize(
    "wrong",
    ["3", "true", "DATE '2026-01-02'", "[true]", "['1']", "[[1]]", "[1.5]", "{'a': 1}", "MAP {1: 2}", "'x'::BLOB"],
)
def test_arguments_of_wrong_types_are_refused(con: duckdb.DuckDBPyConnection, function: object, wrong: str) -> None:
    """Without a word, casts would make a text of a list, ids of fractions, texts and truth values."""
    name, is_table = function.name, function.is_table  # type: ignore[attr-defined]
    call = f"{name}('train-index', {wrong})"
    with pytest.raises(duckdb.Error, match=r"whole numbers, not |a text is VARCHAR, not ") as caught:
        con.sql(f"FROM {call}" if is_table else f"SELECT {call}").fetchall()
    assert "\n" not in str(readable(caught.value))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "SELECT ngram_count('train-index', 'word')",
            "not VARCHAR: cast it to INTEGER[], or ask tokenize(index, text)",
        ),
        ("SELECT text_count('train-index', [1])", "not INTEGER[]: ask a function of tokens, or cast it to VARCHAR"),
        ("SELECT ngram_count(3)", "It is called as ngram_count(index, tokens)"),
        ("SELECT ngram_count('train-index', [101], 'a')", "It is called as ngram_count(index, tokens)"),
        ("FROM documents_with('train-index')", "It is called as documents_with("),
        ("SELECT ngram_count('train-index', [5000000000])", "out of range"),
        ("SELECT rate_interval(true)", "It is called as rate_interval(value, cluster)"),
        ("SELECT rate_interval('a', 1)", "Could not convert string 'a' to DOUBLE"),
        ("SELECT discoverable_n('a', 0.5)", "Could not convert string 'a' to DOUBLE"),
        ("SELECT sum(1, 2, 'a')", "It is called as sum(arg DECIMAL) -> DECIMAL or sum("),
        ("SELECT 1 FORM models", '"models" (line 1: SELECT 1 FORM ^models); Did you mean FROM?'),
        ("SELECT 1,\n  2 FROM models WERE 1", "(line 2: 2 FROM models WERE ^1); Did you mean WHERE?"),
        ("SELEC 1", '"SELEC" (line 1: ^SELEC 1); Did you mean SELECT?'),
        ("SELECT 'a", "unterminated string literal (line 1: SELECT ^'a)"),
        ("FROM memorisation", "Did you mean memorization"),
        ("SELECT modl_id FROM models", "Did you mean model_id"),
    ],
)
def test_sql_that_can_not_be_answered_is_one_line_with_a_hint(
    made: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture, query: str, said: str
) -> None:
    assert said in refused(monkeypatch, capfd, "sql", "-s", made / "study", query)


def test_right_types_of_any_width_are_answered(con: duckdb.DuckDBPyConnection) -> None:
    calls = [f"ngram_count('train-index', [101]::{kind}[])" for kind in ("UTINYINT", "HUGEINT", "UINTEGER", "BIGINT")]
    calls += ["ngram_count('train-index', [101]::INTEGER[1])", "text_count('train-index', 'e'::ENUM('e', 'f'))"]
    calls += ["text_count('train-index', to_json('e')->>'$')", "text_count('train-index', $text)"]
    [answer] = con.execute(f"SELECT {', '.join(calls)}", {"text": "e"}).fetchall()
    assert len(set(answer)) == 1
    assert answer[0] > 0


def test_json_has_a_text_for_what_is_no_number(capfd: Capture) -> None:
    print_json({"loss": float("nan"), "more": [float("-inf"), {"n": float("inf")}], "n": 1.5})

    def no_number(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    answer = json.loads(capfd.readouterr().out, parse_constant=no_number)
    assert answer == {"loss": "NaN", "more": ["-Infinity", {"n": "Infinity"}], "n": 1.5}


def test_the_help_of_sql_names_every_table_and_function(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    code, out, _ = called(monkeypatch, capfd, "sql", "--help")
    assert code == 0
    words = out.replace(",", " ").replace(".", " ").replace("(", " ").split()
    assert set(words) >= {*TABLES, *VIEWS, *(function.name for function in FUNCTIONS)}


_LIVES = {
    "cursors that are gone": """
for _ in range(20):
    cursor = con.cursor()
    relation = cursor.sql("SELECT ngram_count('train-index', [101])")
    assert relation.fetchall()[0][0] > 0
    cursor.execute("SELECT tokenize('train-index', 'a') FROM range(10000)")
    del cursor
    gc.collect()
print(con.sql("SELECT ngram_count('train-index', [101]) > 0").fetchall())
""",
    "closed while rows are fetched": """
con.execute("SELECT ngram_count('train-index', [101]) FROM range(100000)")
con.fetchone()
con.close()
try:
    con.fetchone()
except duckdb.Error as error:
    print("refused")
""",
    "closed while a query runs": """
def ask():
    try:
        cursor.execute("SELECT sum(ngram_count('train-index', [1 + (i % 200)::INTEGER])) FROM range(1000000) t(i)")
        print("answered")
    except duckdb.Error as error:
        print("refused")
cursor = con.cursor()
thread = threading.Thread(target=ask)
thread.start()
time.sleep(0.2)
try:
    con.close()
except duckdb.Error as error:
    assert "busy" in str(error)
thread.join()
""",
    "fork": """
pid = os.fork()
if pid == 0:
    mine = memindex.connect(sys.argv[1])
    print(mine.sql("SELECT ngram_count('train-index', [101]) > 0, count(*) FROM range(1000000)").fetchall(), flush=True)
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(con.sql("SELECT ngram_count('train-index', [101]) > 0").fetchall())
""",
    "pickle": """
for thing in (con, con.sql("SELECT 1")):
    try:
        pickle.dumps(thing)
    except TypeError as error:
        print("refused")
""",
}


@pytest.mark.skipif(os.name != "posix", reason="forks")
@pytest.mark.parametrize("name", _LIVES)
def test_connections_end_without_a_crash(made: Path, name: str) -> None:
    head = "import gc, os, pickle, sys, threading, time\nimport duckdb\nimport memindex\n"
    code = f"{head}con = memindex.connect(sys.argv[1])\nassert con.sql('SELECT 1').fetchall()\n{_LIVES[name]}"
    command = [sys.executable, "-c", code, str(made / "study")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()


def test_a_cursor_whose_connection_is_gone_says_so(made: Path) -> None:
    """DuckDB itself would call functions that are gone."""
    cursor = memindex.connect(made / "study").cursor()
    gc.collect()
    with pytest.raises(duckdb.Error, match="the connection of this cursor is gone: keep what"):
        cursor.execute("SELECT ngram_count('train-index', [101])").fetchall()
    ends = cursor.execute("SELECT rate_interval(i % 2 = 0, i).low FROM range(100) t(i)").fetchall()
    assert 0.3 < ends[0][0] < 0.5


def test_synthetic_studies_warn_of_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connect(make_scored(tmp_path, rows=20, models=MODELS[:1]))
