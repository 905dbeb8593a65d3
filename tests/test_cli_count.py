"""`memindex count` as a user runs it: answers against a plain search, and one clear line for every bad question."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from synthetic_corpus import assert_refused, memindex, sentences, train_bpe, write_jsonl
from test_cli_build import run  # noqa: F401  (a fixture)

from memindex.corpus.sources import ReadOptions
from memindex.index import build_index
from memindex.index.manifest import sealed

ROWS = [{"text": text, "d": ["é", "b", "c 3"][i % 3]} for i, text in enumerate(sentences(90))]
DOMAINS = ["é", "b", "c 3"]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("count")
    train_bpe(folder / "small.json")
    write_jsonl(folder / "a.jsonl", ROWS)
    options = ReadOptions("text", "d")
    build_index([folder / "a.jsonl"], folder / "pile", tokenizer=folder / "small.json", options=options, shards=2)
    return folder / "pile"


@pytest.fixture(scope="module")
def slow(index):
    return tokenizers.Tokenizer.from_file(str(index / "tokenizer.json"))


def expected(slow, query, ids=None):
    """The object `--json --by-domain` must print for a text, or for ids."""
    tokens = ids or slow.encode(query, add_special_tokens=False).ids
    domains = dict.fromkeys(DOMAINS, 0)
    for row in ROWS:
        document = slow.encode(row["text"], add_special_tokens=False).ids
        width = len(tokens)
        domains[row["d"]] += sum(document[i : i + width] == tokens for i in range(len(document) - width + 1))
    found = {name: number for name, number in domains.items() if number}
    return {"query": query, "tokens": tokens, "count": sum(found.values()), "domains": found}


def without_domains(answer):
    return {key: value for key, value in answer.items() if key != "domains"}


def answers(result):
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    # Not splitlines: JSON strings may hold line separators of Unicode.
    assert result.stdout.endswith("\n")
    return [json.loads(line) for line in result.stdout[:-1].split("\n")]


TEXTS = [" the", "quick", " quick brown", "é", "nowhere 日本 😀", " fox 1", "<|endoftext|>"]


def test_json_gives_query_tokens_count_and_domains_in_that_order(run, index, slow):  # noqa: F811
    result = run("count", "-i", index, *TEXTS, "--by-domain", "--json")
    assert answers(result) == [expected(slow, text) for text in TEXTS]
    for line in result.stdout.splitlines():
        assert list(json.loads(line)) == ["query", "tokens", "count", "domains"]
        assert list(json.loads(line)["domains"]) == [name for name in DOMAINS if name in json.loads(line)["domains"]]
    assert '"é"' in result.stdout


def test_json_without_domains(run, index, slow):  # noqa: F811
    result = run("count", "-i", index, *TEXTS, "--json")
    assert answers(result) == [without_domains(expected(slow, text)) for text in TEXTS]


def test_ids_are_counted_as_they_are(run, index, slow):  # noqa: F811
    ids = slow.encode(" quick brown").ids
    query = " ".join(map(str, ids))
    assert answers(run("count", "-i", index, "--ids", query, "--by-domain", "--json")) == [expected(slow, query, ids)]
    spaced = f"  {ids[0]}\t{ids[1]}\n"
    (answer,) = answers(run("count", "-i", index, "--ids", spaced, "--json"))
    assert (answer["query"], answer["tokens"]) == (spaced, ids[:2])
    assert answer["count"] == expected(slow, query, ids[:2])["count"]


def test_a_file_of_texts_gives_what_single_texts_give(run, index, slow, tmp_path):  # noqa: F811
    lines = [*TEXTS, " line\u2028separator\x0bkept\x85\x1c whole", " the \t", " the\r "]
    (tmp_path / "q.txt").write_bytes("\n".join(lines).encode("utf-8"))
    for options in ([], ["--by-domain"]):
        got = answers(run("count", "-i", index, "--file", tmp_path / "q.txt", "--json", *options))
        want = [expected(slow, text) for text in lines]
        assert got == (want if options else [without_domains(answer) for answer in want])


def test_files_of_windows_programs_give_the_same(run, index, tmp_path):  # noqa: F811
    (tmp_path / "unix.txt").write_bytes("\n".join(TEXTS).encode("utf-8"))
    (tmp_path / "dos.txt").write_bytes(b"\xef\xbb\xbf" + "".join(f"{t}\r\n" for t in TEXTS).encode("utf-8"))
    outputs = [run("count", "-i", index, "--file", tmp_path / f"{name}.txt", "--json") for name in ("unix", "dos")]
    assert answers(outputs[0]) == answers(outputs[1])


def test_a_file_of_ids(run, index, slow, tmp_path):  # noqa: F811
    ids = [slow.encode(text).ids for text in TEXTS]
    lines = [" ".join(map(str, row)) for row in ids]
    (tmp_path / "q.txt").write_text("\n".join(lines) + "\n")
    got = answers(run("count", "-i", index, "--file", tmp_path / "q.txt", "--ids", "--by-domain", "--json"))
    assert got == [expected(slow, line, row) for line, row in zip(lines, ids, strict=True)]


@pytest.mark.parametrize("locale", ["C.UTF-8", "C", "POSIX"])
def test_standard_input_is_utf8_in_every_locale(index, slow, locale):
    environment = {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    result = memindex("count", "-i", index, "--file", "-", "--json", input=" the\né\n", env=environment)
    assert answers(result) == [without_domains(expected(slow, text)) for text in (" the", "é")]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int32()),
        pa.large_list(pa.int64()),
        pa.list_(pa.uint16()),
        pa.list_(pa.int32(), 2),
    ],
    ids=str,
)
def test_a_parquet_column_of_ids(run, index, slow, tmp_path, kind):  # noqa: F811
    ids = [slow.encode(text).ids[:2] for text in (" quick brown", " brown fox", " the quick")]
    pq.write_table(pa.table({"suffix": pa.array(ids, kind), "n": [1, 2, 3]}), tmp_path / "q.parquet", row_group_size=2)
    command = ["count", "-i", index, "--file", tmp_path / "q.parquet", "--column", "suffix", "--json"]
    want = [without_domains(expected(slow, " ".join(map(str, row)), row)) for row in ids]
    assert answers(run(*command)) == want


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_a_parquet_column_of_text(run, index, slow, tmp_path, kind):  # noqa: F811
    column = pa.array(TEXTS).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(TEXTS, kind)
    pq.write_table(pa.table({"q": column}), tmp_path / "q.parquet")
    result = run("count", "-i", index, "--file", tmp_path / "q.parquet", "--column", "q", "--json")
    assert answers(result) == [without_domains(expected(slow, text)) for text in TEXTS]


def test_people_see_the_same_numbers(run, index, slow):  # noqa: F811
    one = expected(slow, " quick brown")
    result = run("count", "-i", index, " quick brown", "--by-domain")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{one['count']} times ({len(one['tokens'])} tokens: ")
    for name, count in one["domains"].items():
        (line,) = [line for line in result.stdout.splitlines() if line.startswith(f"{name} ")]
        assert line.split()[-2:] == [str(count), f"{count / one['count']:.1%}"]
    many = run("count", "-i", index, *TEXTS).stdout.splitlines()
    for text in TEXTS:
        want = [str(len(expected(slow, text)["tokens"])), str(expected(slow, text)["count"])]
        assert any(line.strip().startswith(text.strip()) and line.split()[-2:] == want for line in many), text


def test_the_largest_ids_of_the_vocabulary_are_counted(run, index, tmp_path):  # noqa: F811
    assert answers(run("count", "-i", index, "--ids", "399", "--json"))[0]["tokens"] == [399]
    write_jsonl(tmp_path / "a.jsonl", [{"text": "ab"}])
    build_index([tmp_path / "a.jsonl"], tmp_path / "bytes", tokenizer="bytes")
    assert answers(run("count", "-i", tmp_path / "bytes", "--ids", "254", "--json"))[0]["count"] == 0
    assert_refused(run("count", "-i", tmp_path / "bytes", "--ids", "255"), "run from 0 to 254")


def test_people_see_the_ids_of_every_query(run, index, slow):  # noqa: F811
    texts = [" quick brown", " the fox jumps" * 9]
    lines = run("count", "-i", index, *texts).stdout.splitlines()
    short, long = (expected(slow, text) for text in texts)
    ids = " ".join(map(str, short["tokens"]))
    assert any(
        line.split() == ["quick", "brown", *ids.split(), str(len(short["tokens"])), str(short["count"])]
        for line in lines
    )
    shown = " ".join(map(str, long["tokens"]))
    assert any(f" {shown} " in line and line.split()[-2] == str(len(long["tokens"])) for line in lines)
    many = run("count", "-i", index, *texts, "--by-domain").stdout.splitlines()
    columns = [name for name in DOMAINS if name in short["domains"] or name in long["domains"]]
    numbers = [str(n) for n in (short["count"], *(short["domains"].get(name, 0) for name in columns))]
    assert any(line.split()[-len(numbers) :] == numbers and f" {ids} " in line for line in many)


@pytest.mark.parametrize("by_domain", [False, True])
def test_many_queries_are_answered_in_plain_lines(run, index, tmp_path, monkeypatch, by_domain):  # noqa: F811
    monkeypatch.setattr("memindex.cli.count.MOST_TABLE_ROWS", 5)
    queries = ["a\tb", "c\\t", " the", "é", " the quick\rbrown " * 5, " fox"]
    (tmp_path / "q.txt").write_bytes("\n".join(queries).encode())
    options = ["--by-domain"] if by_domain else []
    want = answers(run("count", "-i", index, "--file", tmp_path / "q.txt", "--json", *options))
    result = run("count", "-i", index, "--file", tmp_path / "q.txt", *options)
    assert (result.returncode, result.stderr) == (0, "")
    names, *rows = csv.reader(io.StringIO(result.stdout, newline=""), delimiter="\t")
    assert names == ["query", "tokens", "count", *(DOMAINS if by_domain else [])]
    assert [row[0] for row in rows] == queries
    assert [json.loads(row[1]) for row in rows] == [answer["tokens"] for answer in want]
    columns = DOMAINS if by_domain else []
    numbers = [[a["count"], *(a["domains"].get(name, 0) for name in columns)] for a in want]
    assert [[int(n) for n in row[2:]] for row in rows] == numbers
    (tmp_path / "q.txt").write_bytes("\n".join(queries[1:]).encode())
    assert "\t" not in run("count", "-i", index, "--file", tmp_path / "q.txt", *options).stdout


def test_thirty_thousand_queries_are_printed(run, index, tmp_path):  # noqa: F811
    (tmp_path / "q.txt").write_text("".join(f" the {i}\n" for i in range(30_000)))
    before = time.process_time()
    result = run("count", "-i", index, "--file", tmp_path / "q.txt")
    assert len(result.stdout.splitlines()) == 30_001
    # Of this process's own time, whatever runs beside it; work for each pair of queries would take many minutes.
    assert time.process_time() - before < 30


def test_a_count_of_nothing_has_no_shares(run, index):  # noqa: F811
    result = run("count", "-i", index, "zzz 日本", "--by-domain")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("0 times")


def test_the_index_may_come_from_the_environment(index):
    result = memindex("count", " the", "--json", env={"MEMINDEX_INDEX": str(index)})
    assert len(answers(result)) == 1


BAD_QUESTIONS = {
    "nothing asked": ([], "give TEXT"),
    "text and file": (["a", "--file", "q.txt"], "give TEXT"),
    "empty text": ([""], "empty"),
    "one empty text of several": (["a", ""], "empty"),
    "no ids": (["--ids", ""], "empty"),
    "blank ids": (["--ids", "  "], "empty"),
    "ids that are words": (["--ids", "1 two 3"], "not a list of token ids"),
    "ids with commas": (["--ids", "1,2"], "not a list of token ids"),
    "fractions": (["--ids", "1.5"], "not a list of token ids"),
    "negative ids": (["--ids", "--", "-1"], "run from 0 to 399"),
    "ids beyond the vocabulary": (["--ids", "1 400"], "run from 0 to 399"),
    "ids beyond 32 bits": (["--ids", "4294967296"], "run from 0 to 399"),
    "ids beyond everything": (["--ids", "9" * 30], "run from 0 to 399"),
    "ids beyond reading": (["--ids", "9" * 5000], "not a list of token ids"),
    "the separator": (["--ids", "65535"], "run from 0 to 399"),
    "ids beyond the width": (["--ids", "1 70000"], "run from 0 to 399"),
    "text that is not UTF-8": ([os.fsdecode(b"caf\xe9")], "not valid Unicode"),
    "a missing file": (["--file", "missing.txt"], "missing.txt"),
    "a missing Parquet file": (["--file", "missing.parquet"], "missing.parquet"),
    "a folder": (["--file", "."], "."),
    "an unknown option": (["a", "--by-domains"], "--by-domain"),
}


@pytest.mark.parametrize(("arguments", "part"), BAD_QUESTIONS.values(), ids=BAD_QUESTIONS)
def test_a_bad_question_is_refused(run, index, tmp_path, monkeypatch, arguments, part):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    assert_refused(run("count", "-i", index, *arguments), part)
    assert_refused(run("count", "-i", index, "--by-domain", "--json", *arguments), part)


BAD_FILES = {
    "empty file": (b"", [], "no queries"),
    "an empty line": (b"a\n\nb\n", [], "line 2"),
    "an empty line at the end": (b"a\n\n", [], "line 2"),
    "only a line end": (b"\n", [], "line 1"),
    "not UTF-8": (b"a\ncaf\xe9\n", [], "not UTF-8 text (byte 5)"),
    "UTF-16": ("a\nb".encode("utf-16"), [], "not UTF-8"),
    "words for ids": (b"1 2\n3 x\n", ["--ids"], "line 2: '3 x'"),
    "an empty line of ids": (b"1 2\n \n", ["--ids"], "line 2"),
    "ids out of range": (b"1 2\n65535\n", ["--ids"], "line 2: '65535': the token ids of this index run from 0 to 399"),
    "ids beyond the vocabulary": (b"1 2\n3\n4 400\n", ["--ids"], "line 3: '4 400': the token ids"),
    "negative ids": (b"-5\n", ["--ids"], "line 1"),
}


@pytest.mark.parametrize(("data", "options", "part"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_line_of_a_file_is_named(run, index, tmp_path, data, options, part):  # noqa: F811
    (tmp_path / "q.txt").write_bytes(data)
    assert_refused(run("count", "-i", index, "--file", tmp_path / "q.txt", "--json", *options), part)


def test_bad_standard_input_is_named(index):
    result = memindex("count", "-i", index, "--file", "-", input=b"\xff", text=False, encoding=None)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == b"memindex: standard input: not UTF-8 text (byte 0)\n"


def forged_text():
    raw = pa.array([b"ok", b"\xff\xfe"], pa.binary())
    return pa.Array.from_buffers(pa.string(), 2, raw.buffers())


BAD_COLUMNS = {
    "null text": (lambda: pa.array(["a", None]), "NULL"),
    "empty text": (lambda: pa.array(["a", ""]), "row 2"),
    "text that is not UTF-8": (forged_text, "UTF-8"),
    "null list": (lambda: pa.array([[1], None]), "NULL"),
    "null id": (lambda: pa.array([[1], [2, None]]), "NULL"),
    "empty list": (lambda: pa.array([[1], [], [2]]), "row 2"),
    "negative id": (lambda: pa.array([[1], [-2]]), "-2 is out of range"),
    "large id": (
        lambda: pa.array([[1], [70_000]]),
        "row 2: token id 70000: the token ids of this index run from 0 to 399",
    ),
    "id beyond the vocabulary": (lambda: pa.array([[1], [2, 3], [4, 400]]), "row 3: token id 400: "),
    "numbers": (lambda: pa.array([1, 2]), "int64"),
    "fractions": (lambda: pa.array([[1.5]]), "double"),
    "lists of text": (lambda: pa.array([["a"]]), "string"),
    "lists of lists": (lambda: pa.array([[[1]]]), "list"),
    "structs": (lambda: pa.array([{"a": 1}]), "struct"),
    "maps": (lambda: pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "map"),
    "no rows": (lambda: pa.array([], pa.list_(pa.int32())), "no queries"),
    "no rows of text": (lambda: pa.array([], pa.string()), "no queries"),
    "nothing but nulls": (lambda: pa.nulls(2), "NULL"),
}


@pytest.mark.parametrize(("make", "part"), BAD_COLUMNS.values(), ids=BAD_COLUMNS)
def test_a_bad_parquet_column_is_refused(run, index, tmp_path, make, part):  # noqa: F811
    pq.write_table(pa.table({"tokens": make()}), tmp_path / "q.parquet")
    assert_refused(run("count", "-i", index, "--file", tmp_path / "q.parquet"), part)


def test_a_bad_parquet_file_is_refused(run, index, tmp_path):  # noqa: F811
    file = tmp_path / "q.parquet"
    pq.write_table(pa.table({"text": ["a"]}), file)
    assert_refused(run("count", "-i", index, "--file", file), "no column tokens", "text")
    for data in (b"", b"not Parquet", file.read_bytes()[:-10]):
        file.write_bytes(data)
        assert_refused(run("count", "-i", index, "--file", file), "not a readable Parquet file")


@pytest.fixture
def copied(index, tmp_path):
    (tmp_path / "copy").mkdir()
    for file in index.iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "copy"


def test_what_is_no_index_is_refused(run, tmp_path):  # noqa: F811
    (tmp_path / "empty").mkdir()
    assert_refused(run("count", "-i", tmp_path / "empty", "a"), "not an index", "memindex index build")
    assert_refused(run("count", "-i", tmp_path / "missing", "a"), "no such folder")
    assert_refused(run("count", "a"), "--index")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not JSON"),
        ("[]", "format"),
        ('{"format": "memindex-1"}', "index.json"),
        ("\0" * 100, "not JSON"),
        ("", "not JSON"),
    ],
)
def test_a_damaged_manifest_is_named(run, copied, content, part):  # noqa: F811
    (copied / "index.json").write_text(content)
    assert_refused(run("count", "-i", copied, "a"), "index.json", part)


def test_a_manifest_that_leads_outside_is_refused(run, copied, tmp_path):  # noqa: F811
    (tmp_path / "secret").write_text("x")
    manifest = json.loads((copied / "index.json").read_text())
    manifest["files"]["../secret"] = {"bytes": 1, "blake3": "0"}
    (copied / "index.json").write_bytes(sealed(manifest))
    assert_refused(run("count", "-i", copied, "a"), "leads out of the index")


@pytest.mark.parametrize(
    "name", ["table.0", "tokenized.1", "domain.0", "domainsum.1", "documents.parquet", "tokenizer.json"]
)
def test_missing_and_resized_files_are_named(run, copied, name):  # noqa: F811
    data = (copied / name).read_bytes()
    for changed in (data[:-1], data + b"\0", b""):
        (copied / name).write_bytes(changed)
        assert_refused(run("count", "-i", copied, "a"), name, f"{len(changed)} bytes")
    (copied / name).unlink()
    assert_refused(run("count", "-i", copied, "a"), name, "missing")


def test_a_reader_that_leaves_early_ends_the_command_quietly(index, tmp_path):
    (tmp_path / "q.txt").write_text((" the" * 200 + "\n") * 400)
    for options in (["--json"], []):
        command = [sys.executable, "-m", "memindex.cli", "count", "-i", index, "--file", tmp_path / "q.txt", *options]
        with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.read(10)
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode in (0, 1)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which this system has not")  # noqa: PTH110
@pytest.mark.parametrize("options", [["--json"], [], ["--by-domain"]])
def test_a_full_disk_for_the_output_is_an_error(index, tmp_path, options):
    (tmp_path / "q.txt").write_text(" the\n" * 3000)
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = ["count", "-i", index, "--file", tmp_path / "q.txt", *options]
        result = memindex(*command, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "No space left on device" in result.stderr


def test_one_text_needs_nothing_heavy(index):
    heavy = ["torch", "transformers", "pyarrow", "duckdb", "numpy", "pandas", "gigatoken", "awkward"]
    script = f"import sys\nfrom memindex.cli import main\nmain()\nprint([m for m in {heavy!r} if m in sys.modules])"
    command = [sys.executable, "-c", script, "count", "-i", str(index), " the", "--by-domain", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "environment", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "", "TERM": "xterm-256color"}, {"TERM": "dumb"}], ids=str
)
def test_pipes_get_no_escape_codes(index, environment):
    for options in (["--by-domain"], ["a", "b"]):
        result = memindex("count", "-i", index, " the", *options, env=environment)
        assert result.returncode == 0
        assert "\x1b" not in result.stdout + result.stderr


def test_pipes_get_a_row_per_query_however_long(run, index):  # noqa: F811
    texts = [f" the {'quick ' * 200}{i}" for i in range(3)]
    lines = [line for line in run("count", "-i", index, *texts).stdout.splitlines() if "quick" in line]
    assert [line.split()[0] for line in lines] == ["the"] * 3
    assert all(line.strip().startswith(text.strip()) for line, text in zip(lines, texts, strict=True))


def test_brackets_in_queries_are_no_markup(run, index):  # noqa: F811
    result = run("count", "-i", index, "[bold]x[/bold]", "[/nothing]", "[red")
    assert result.returncode == 0
    for text in ("[bold]x[/bold]", "[/nothing]", "[red"):
        assert text in result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell):
    source = memindex(env={"_MEMINDEX_COMPLETE": f"{shell}_source"})
    assert source.returncode == 0, source.stderr
    assert "_MEMINDEX_COMPLETE" in source.stdout
    words = {"COMP_WORDS": "memindex co", "COMP_CWORD": "1" if shell != "fish" else "co"}
    completed = memindex(env={"_MEMINDEX_COMPLETE": f"{shell}_complete", **words})
    assert "count" in completed.stdout
    assert "sql" not in completed.stdout
