"""`memindex index …` as a user runs it: what it prints, and one clear line for every kind of bad input."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from click.testing import CliRunner
from synthetic_corpus import assert_refused, left_in, memindex, train_bpe, write_jsonl

from memindex.cli import cli, main
from memindex.corpus import tokenizer as tokenizer_module
from memindex.errors import MemindexError
from memindex.index import engines as engines_module

GOOD = b'{"text": "a good line", "d": "x"}\n'


class Result:
    """What a run in this process gave, in the form `assert_refused` takes."""

    def __init__(self, code, stdout, stderr):
        self.returncode, self.stdout, self.stderr = code, stdout, stderr


@pytest.fixture
def run(monkeypatch, capfd):
    """Run a command in this process through `main`, as the console script does."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["memindex", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", None)
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def refused(run, tmp_path):
    """Run a build that must fail: exit 2, one line, nothing left beside what was there."""

    def refused(source, *parts, tokenizer="bytes", options=()):
        before = left_in(tmp_path)
        result = run("index", "build", source, "--out", tmp_path / "out", "--tokenizer", tokenizer, *options)
        assert_refused(result, *parts)
        assert left_in(tmp_path) == before
        return result

    return refused


PACKED = b"".join(GOOD.replace(b"good", str(i).encode()) for i in range(500))

BAD_FILES = {
    "cut.jsonl": (GOOD + b'{"text": "cut', ["cut.jsonl:2: ", "ends too early"]),
    "nojson.jsonl": (GOOD * 3 + b"nonsense\n" + GOOD, ["nojson.jsonl:4: "]),
    "nofield.jsonl": (GOOD + b'{"body": "x"}\n', ["nofield.jsonl:2: ", '"text"']),
    "number.jsonl": (b'{"text": 5}\n', ["number.jsonl:1: ", '"text"']),
    "null.jsonl": (b'\n\n{"text": null}\n', ["null.jsonl:3: "]),
    "latin1.jsonl": (GOOD + b'{"text": "caf\xe9"}\n', ["latin1.jsonl:2: "]),
    "surrogate.jsonl": (b'{"text": "\\ud800"}\n', ["surrogate.jsonl:1: "]),
    "utf16.jsonl": ('{"text": "a"}'.encode("utf-16"), ["utf16.jsonl: UTF-16 text: convert it"]),
    "cut.jsonl.gz": (gzip.compress(PACKED)[:-9], ["cut.jsonl.gz: ", "decompressed"]),
    "cut.jsonl.zst": (zstandard.compress(PACKED)[:-1], ["cut.jsonl.zst: ", "decompressed"]),
    "empty.json.gz": (b"", ["empty.json.gz: ", "decompressed"]),
    "other.jsonl.zst": (b"\0" + GOOD, ["other.jsonl.zst: ", "decompressed"]),
    "nothing.parquet": (b"", ["nothing.parquet: ", "not a readable Parquet file"]),
    "text.parquet": (b"hello " * 100, ["text.parquet: ", "not a readable Parquet file"]),
    "empty.jsonl": (b"", ["no documents in", "empty.jsonl"]),
    "blank.jsonl": (b"\n\n  \n", ["no documents in", "blank.jsonl"]),
    "bytes.txt": (b"abc\xff\xfe", ["bytes.txt: ", "not UTF-8", "byte 3"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(refused, tmp_path, name):
    data, parts = BAD_FILES[name]
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, *parts)


def test_the_same_refusals_in_a_process_of_its_own(tmp_path):
    for name in ("cut.jsonl", "cut.jsonl.gz", "text.parquet"):
        data, parts = BAD_FILES[name]
        (tmp_path / name).write_bytes(data)
        before = left_in(tmp_path)
        build = ["index", "build", tmp_path / name, "--out", tmp_path / "out", "--tokenizer", "bytes"]
        assert_refused(memindex(*build), *parts)
        assert left_in(tmp_path) == before


def test_a_cut_parquet_file_is_named(refused, tmp_path):
    file = tmp_path / "cut.parquet"
    pq.write_table(pa.table({"text": ["hello world"] * 1000}), file)
    file.write_bytes(file.read_bytes()[:-20])
    refused(file, "cut.parquet: ", "not a readable Parquet file")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--domain-field", "d"], '"d"'),
        (["--domain-field", "meta.d"], '"meta.d"'),
        (["--text-field", "body"], '"body"'),
        (["--text-field", "text.x"], '"text.x"'),
    ],
)
def test_a_missing_field_is_named(refused, tmp_path, options, part):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "meta": {"c": 1}}])
    refused(tmp_path / "a.jsonl", "a.jsonl:1: ", part, options=options)
    pq.write_table(pa.table({"text": ["a"], "meta": [{"c": 1}]}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "a.parquet: no column", part.strip('"'), options=options)


def test_sources_that_are_missing_or_empty(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "nowhere", "nowhere: no such file or folder")
    refused(tmp_path / "empty", "empty: no files to read")
    write_jsonl(tmp_path / "a" / "a.jsonl", [{"text": "a"}])
    refused(tmp_path / "a", "match --include", options=["--include", "*.py"])


def test_a_misspelt_recipe_is_told_with_those_that_there_are(tmp_path):
    assert_refused(
        memindex("index", "build", "pil", "--files", tmp_path), "pil: no such file, folder or recipe", "pile"
    )


@pytest.mark.parametrize(
    ("out", "part"),
    [("/", "/ exists already"), ("s3://bucket/x", "on the disk"), (b"\xff\xfe", "not UTF-8")],
    ids=["root", "address", "no UTF-8"],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["build", "dry run"])
def test_where_no_index_can_be_is_refused_before_anything_is_written(tmp_path, out, part, more):
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"text": "a"}])
    command = ["index", "build", "in", "--tokenizer", "bytes", "--out", out, *more]
    assert_refused(memindex(*command, cwd=tmp_path), part)
    assert left_in(tmp_path) == ["in"]


def test_a_file_that_may_not_be_read(refused, tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}]).chmod(0)
    if os.access(tmp_path / "a.jsonl", os.R_OK):
        pytest.skip("root may read everything")
    refused(tmp_path / "a.jsonl", "a.jsonl", "Permission denied")


def test_tokenizers_that_are_unknown_or_broken(refused, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    (tmp_path / "broken.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": 3}}')
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "a.jsonl", "unknown tokenizer nothing", tokenizer="nothing")
    refused(tmp_path / "a.jsonl", "tokenizer broken: not a usable tokenizer.json", tokenizer=tmp_path / "broken.json")
    refused(tmp_path / "a.jsonl", "unknown tokenizer", tokenizer=tmp_path / "empty")
    refused(tmp_path / "a.jsonl", "not a tokenizer.json", tokenizer=tmp_path / "a.jsonl")

    def unreachable(repository):
        raise MemindexError(f"tokenizer {repository}: not on the model hub or not reachable:\nsecond line")

    monkeypatch.setattr(tokenizer_module, "_from_hub", unreachable)
    refused(tmp_path / "a.jsonl", "no-such-org/no-such-model", tokenizer="no-such-org/no-such-model")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--shards", "0"], "at least 1 shard"),
        (["--shards", "-3"], "at least 1 shard"),
        (["--shards", "many"], "--shards"),
        (["--shards", "1000000"], "documents can't fill 1000000 shards"),
        (["--workers", "0"], "at least 1 worker"),
        (["--workers", "-2"], "at least 1 worker"),
        (["--workers", "many"], "--workers"),
        (["--token-width", "3"], "1, 2 or 4"),
        (["--token-width", "x"], "--token-width"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_options_out_of_range(refused, tmp_path, options, part):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    refused(tmp_path / "a.jsonl", part, options=options)


def test_a_token_width_too_small_for_the_tokenizer(refused, tmp_path):
    train_bpe(tmp_path / "small.json")
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    parts = ["--token-width 1", "small", "0 to 399", "use 2"]
    refused(tmp_path / "a.jsonl", *parts, tokenizer=tmp_path / "small.json", options=["--token-width", "1"])


def test_missing_arguments_are_one_line_with_where_to_look(run):
    assert_refused(run("index", "build"), "SRC", "memindex index build --help")
    assert_refused(run("index", "build", "./x", "--out", "y"), "--tokenizer")
    assert_refused(run("index", "bild"), "bild")
    assert_refused(run("nonsense"), "nonsense")


def test_skip_bad_leaves_out_and_tells_each_bad_line(run, tmp_path):
    lines = [GOOD.strip() if i % 3 else b"bad %d" % i for i in range(100)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    command = ["index", "build", tmp_path / "a.jsonl", "--out", tmp_path / "out", "--tokenizer", "bytes", "--skip-bad"]
    result = run(*command, "--json")
    assert result.returncode == 0
    told = json.loads(result.stdout)
    assert (told["documents"], told["skipped_documents"]) == (66, 34)
    notes = result.stderr.splitlines()
    assert "34" in notes[0]
    assert notes[-1].endswith(f"all of them in {tmp_path / 'out' / 'skipped.txt'}")
    numbers = [int(line.split("a.jsonl:")[1].split(":")[0]) for line in notes[1:-1]]
    assert numbers == list(range(1, 100, 3))[:20]
    assert json.loads((tmp_path / "out" / "index.json").read_text())["skipped_documents"] == 34


def test_a_corpus_of_bad_lines_only_is_no_corpus(refused, tmp_path):
    (tmp_path / "a.jsonl").write_text("bad\nworse\n")
    refused(tmp_path / "a.jsonl", "no documents in", "a.jsonl:1", options=["--skip-bad"])


def test_what_was_built_is_told_as_json_or_text(run, tmp_path):
    rows = [{"text": "ab", "d": "é"}, {"text": "c", "d": "é"}, {"text": "", "d": "z"}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    build = ["index", "build", tmp_path / "a.jsonl", "--tokenizer", "bytes", "--domain-field", "d"]
    result = run(*build, "--out", tmp_path / "out", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert {name: told[name] for name in ("index", "documents", "tokens", "skipped_documents", "domains")} == {
        "index": str(tmp_path / "out"),
        "documents": 3,
        "tokens": 3,
        "skipped_documents": 0,
        "domains": {"é": {"documents": 2, "tokens": 3}, "z": {"documents": 1, "tokens": 0}},
    }
    result = run(*build, "--out", tmp_path / "text")
    assert result.stdout == f"{tmp_path / 'text'}: 3 tokens in 3 documents\n"
    assert "memindex count -i" in result.stderr


def test_workers_sort_the_shards(run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(engines_module, "sort_here", lambda jobs, count, done: asked.append((len(jobs), count)))
    write_jsonl(tmp_path / "a.jsonl", [{"text": "ab"}, {"text": "cd"}, {"text": "ef"}])
    build = ["index", "build", tmp_path / "a.jsonl", "--tokenizer", "bytes", "--shards", "3"]
    # Nobody sorted, so the marks of the shards are missing.
    assert run(*build, "--out", tmp_path / "out", "--workers", "2").returncode != 0
    assert asked == [(3, 2)]


def test_a_folder_of_corpus_and_text_files_is_refused(refused, run, tmp_path):
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"text": "a"}])
    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / "in" / name).write_text("x = 1")
    refused(tmp_path / "in", "3 text files beside 1 corpus files in", "in: choose with --include")
    build = ["index", "build", tmp_path / "in", "--out", tmp_path / "out", "--tokenizer", "bytes"]
    assert run(*build, "--include", "*.py").stdout == f"{tmp_path / 'out'}: 15 tokens in 3 documents\n"


def test_a_slow_tokenizer_is_told_in_one_line(tmp_path):
    from synthetic_corpus import word_level

    word_level(tmp_path / "words.json", ["a"])
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    build = ["index", "build", tmp_path / "a.jsonl", "--out", tmp_path / "out", "--tokenizer", tmp_path / "words.json"]
    result = memindex(*build, "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["tokens"] == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("memindex: gigatoken can't read words")


@pytest.fixture
def built(tmp_path, run):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "hello world", "d": "x"}, {"text": "hello", "d": "y"}])
    build = ["index", "build", tmp_path / "a.jsonl", "--out", tmp_path / "out", "--tokenizer", "bytes"]
    assert run(*build, "--domain-field", "d").returncode == 0
    return tmp_path / "out"


def test_info_gives_the_manifest(run, built):
    result = run("index", "info", built, "--json")
    assert json.loads(result.stdout) == json.loads((built / "index.json").read_text())
    text = run("index", "info", built)
    assert (text.returncode, text.stderr) == (0, "")
    for part in ("16", "bytes", "x", "y"):
        assert part in text.stdout


def test_verify_says_well_or_where_the_damage_is(run, built):
    result = run("index", "verify", built, "--json")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"index": str(built), "ok": True})
    for name in ("table.0", "domain.0", "documents.parquet", "metadata.0"):
        data = (built / name).read_bytes()
        (built / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        result = run("index", "verify", built, "--json")
        assert result.returncode == 2
        told = json.loads(result.stdout)
        assert (told["ok"], name in told["error"]) == (False, True)
        assert name in result.stderr.splitlines()[-1]
        (built / name).write_bytes(data)
    assert run("index", "verify", built).returncode == 0


@pytest.mark.parametrize("command", ["info", "verify"])
def test_what_is_no_index_is_refused(run, tmp_path, command):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    assert_refused(run("index", command, tmp_path / "empty"), "is an empty folder, not an index")
    assert_refused(run("index", command, tmp_path / "nowhere"), "no such folder")
    assert_refused(run("index", command, tmp_path / "file"))


def commands(group, path=()):
    """Every command and group, as the words that call it."""
    yield list(path)
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if hasattr(command, "list_commands"):
            yield from commands(command, (*path, name))
        else:
            yield [*path, name]


COMMANDS = list(commands(cli))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_runnable_examples_on_lines_of_their_own(command):
    result = CliRunner().invoke(cli, [*command, "--help"], prog_name="memindex")
    assert result.exit_code == 0
    assert "\\b" not in result.output
    if len(command) != 1 or not hasattr(cli.get_command(None, command[0]), "list_commands"):
        lines = result.output.splitlines()
        at = next(i for i, line in enumerate(lines) if line.strip() in ("Example:", "Examples:"))
        assert lines[at + 1].strip().startswith(" ".join(["memindex", *command]))


HEAVY = [
    "torch",
    "transformers",
    "pyarrow",
    "duckdb",
    "pandas",
    "matplotlib",
    "gigatoken",
    "awkward",
    "tokenizers",
    "rich",
]


@pytest.mark.parametrize("command", [[], ["count"], ["index", "build"], ["train"], ["demo"]], ids=" ".join)
def test_help_imports_nothing_heavy(command):
    # Not sql: its help lists the tables from their schemas, which are Arrow's.
    script = (
        "import sys; sys.argv = ['memindex', *sys.argv[1:], '--help']\n"
        "from memindex.cli import main\n"
        "try: main()\n"
        "finally: print('HEAVY', [m for m in " + repr([*HEAVY, "numpy"]) + " if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[-1] == "HEAVY []"


def test_no_arguments_show_the_help(run):
    result = run()
    assert result.returncode in (0, 2)
    assert "index build" in result.stdout + result.stderr
