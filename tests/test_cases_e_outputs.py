"""What commands print (rows E3 and E4): tables, CSV, TSV and JSON; single texts (E5) are one text."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from infini_gram_folder import write_folder
from outputs_world import *  # noqa: F403  (fixtures)
from outputs_world import TEXTS, printed
from synthetic_corpus import sentences, write_jsonl

from memindex import QueryError
from memindex.cli import cli
from memindex.corpus.sources import ReadOptions, find_files
from memindex.index.choosing import choose_documents


def ids_of(slow, text):
    return slow.encode(text, add_special_tokens=False).ids


#: A text, in every form that means one text.
ONE_TEXT = {
    "a text": lambda text: text,
    "a NumPy text": np.str_,
    "a list": lambda text: [text],
    "a tuple": lambda text: (text,),
    "an array": lambda text: np.array([text]),
    "an array of objects": lambda text: np.array([text], dtype=object),
    "Arrow": lambda text: pa.array([text]),
    "Arrow in chunks": lambda text: pa.chunked_array([[text]]),
    "Arrow in a dictionary": lambda text: pa.array([text]).dictionary_encode(),
    "an iterator": lambda text: iter([text]),
}


@pytest.mark.parametrize("form", ONE_TEXT.values(), ids=ONE_TEXT)
def test_e5_one_text_is_one_text_in_every_form(index, slow, form):
    text = " the lazy"
    batch = index.tokenize(form(text))
    assert (batch.values.tolist(), batch.offsets.tolist()) == (ids_of(slow, text), [0, len(ids_of(slow, text))])
    expected = sum(
        ids_of(slow, one)[at : at + len(batch.values)] == batch.values.tolist()
        for one in TEXTS
        for at in range(len(one))
    )
    assert expected > 0
    assert index.count(form(text)).tolist() == [expected]
    assert index.count_by_domain(form(text)).sum() == expected
    assert len(index.positions(form(text), None).position) == expected
    assert index.documents(form(text), None).num_rows == expected
    assert index.next_tokens(form(text)).counts.sum() + index.next_tokens(form(text)).ends.sum() == expected
    assert index.prob(form(text), 3).prompt_counts.tolist() == [expected]
    assert index.find_cnf(form(text)).total.low == expected


@pytest.mark.parametrize(
    "wrong",
    [b" the", 3, None, {" the"}, {" the": 1}, [" the", 3], [[3]], [3], [None], pa.array([[3]]), pa.array([" a", None])],
    ids=lambda wrong: repr(wrong).splitlines()[0].partition(" object at")[0],
)
def test_e5_anything_but_texts_is_one_clear_error(index, wrong):
    with pytest.raises(QueryError, match=r"text|NULL") as caught:
        index.tokenize(wrong)
    assert "\n" not in str(caught.value)


def test_e5_no_texts_are_no_rows(index):
    assert index.tokenize([]).rows == 0


def test_e5_tokenizers_take_one_text_and_one_list_of_ids(index, slow):
    ids = ids_of(slow, " quick brown")
    assert index.tokenizer.encode_texts(" quick brown").values.tolist() == ids
    assert index.tokenizer.decode_batch(ids) == [slow.decode(ids, skip_special_tokens=False)]
    assert index.tokenizer.decode_batch([]) == []


def test_e5_one_source_pattern_or_path_is_not_a_list_of_letters(folder, index):
    assert [file.name for file in find_files(str(folder / "a.jsonl"), ReadOptions())] == ["a.jsonl"]
    assert [file.name for file in find_files(folder, ReadOptions(include="a*.jsonl"))] == ["a.jsonl"]
    every = choose_documents(folder / "pile", paths="a.jsonl")
    assert sum(map(len, every.values())) == len(TEXTS)


def in_tree(group, path=()):
    """Every command with the words that call it."""
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if hasattr(command, "list_commands"):
            yield from in_tree(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(in_tree(cli))

#: Commands with --json that print one object and no table.
REPORTS = {
    ("index", "build"): "what was built",
    ("index", "add"): "what was built",
    ("index", "remove"): "what was removed",
    ("index", "open"): "what was written",
    ("index", "verify"): "whether the files are as built",
    ("import", "pythia"): "what came in",
    ("import", "mynlp"): "what came in",
    ("import", "lm-extraction"): "what came in",
    ("import", "jsonl"): "what came in",
    ("train",): "the record of the training",
}


def has(command, option):
    return any(option in parameter.opts for parameter in command.params)


def test_e3_every_table_has_csv_tsv_and_json():
    with_json = {words for words, command in COMMANDS.items() if has(command, "--json")}
    with_both = {words for words, command in COMMANDS.items() if has(command, "--csv") and has(command, "--tsv")}
    assert with_json - with_both == set(REPORTS)
    assert with_both <= with_json
    assert {("count",), ("sql",), ("study", "status"), ("models",), ("index", "list"), ("trace",)} <= with_both


#: Command -> arguments that print rows; {…} stand for the places of the fixtures.
ROWS_OF = {
    "count": ["count", "-i", "{pile}", " the lazy", ' "quoted", the', "a\tb\nc", " fox"],
    "count by domain": ["count", "-i", "{pile}", " the lazy", " fox", "--by-domain"],
    "cnf": ["count", "-i", "{pile}", "--cnf", " the AND  fox"],
    "documents": ["documents", "-i", "{pile}", " the lazy", "--limit", "3", "--max-tokens", "5"],
    "next": ["next", "-i", "{pile}", " the", "--top", "3"],
    "info": ["index", "info", "{pile}"],
    "list": ["index", "list"],
    "stats": ["index", "stats", "{pile}", "--window", "4"],
    "pull": ["index", "pull", "--list"],
    "trace": ["trace", "-i", "{pile}", " the lazy fox jumps", "--min-tokens", "2", "--sources", "2"],
    "models": ["models"],
    "checkpoints": ["models", "pythia"],
    "check": ["study", "check", "{study}"],
    "status": ["study", "status", "{study}"],
    "sql": [
        "sql",
        "-s",
        "{study}",
        "SELECT 'a,\"b' AS t, '' AS e, NULL AS n, [1, 2] AS l, true AS b, 1.5 AS f, 7 AS i",
    ],
    "sql of plain values": [
        "sql",
        "-s",
        "{study}",
        "SELECT i, 'a' || i AS t, i / 4 AS f, i > 1 AS b, NULL AS n FROM range(3) AS t(i)",
    ],
    "queries": ["sql", "--list"],
    "tables": ["sql", "-s", "{study}", ".tables"],
    "schema": ["sql", "-s", "{study}", ".schema"],
    "commands": ["sql", "-s", "{study}", ".help"],
}


@pytest.fixture
def rows(folder, study):
    def run(name, *options, **environment):
        places = {"pile": folder / "pile", "study": study}
        return printed(*[str(word).format(**places) for word in ROWS_OF[name]], *options, **environment)

    return run


def parsed(text, separator):
    """The header and the rows, read by Python's csv, which has no NULL."""
    header, *lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    assert all(len(line) == len(header) for line in lines)
    return [dict(zip(header, line, strict=True)) for line in lines]


@pytest.mark.parametrize("name", ROWS_OF)
def test_e3_csv_and_tsv_hold_the_same_rows_under_a_header(rows, name):
    as_csv, as_tsv = parsed(rows(name, "--csv"), ","), parsed(rows(name, "--tsv"), "\t")
    assert as_csv
    assert as_csv == as_tsv
    assert len({tuple(row) for row in as_csv}) == 1


def test_e3_no_rows_are_a_header(study):
    assert printed("sql", "-s", study, "SELECT 1 AS a, '' AS b WHERE false", "--csv") == "a,b\n"
    assert printed("sql", "-s", study, "SELECT 1 AS a, '' AS b WHERE false", "--tsv") == "a\tb\n"


#: Where the objects of --json are that have the rows of --csv.
INSIDE = {"trace": "spans", "pull": "indexes", "models": "families", "checkpoints": "checkpoints"}


@pytest.mark.parametrize(
    "name",
    ["count", "cnf", "documents", "trace", "pull", "models", "checkpoints", "status", "sql", "sql of plain values"],
)
def test_e3_csv_has_what_json_has(rows, name):
    objects = [json.loads(line) for line in rows(name, "--json").splitlines()]
    if name in INSIDE:
        objects = objects[0][INSIDE[name]]
    for got, wanted in zip(parsed(rows(name, "--csv"), ","), objects, strict=True):
        assert list(got) == list(wanted)
        for key, value in wanted.items():
            if value is None:
                assert got[key] == ""
            elif isinstance(value, str):
                assert got[key] == value
            else:
                assert json.loads(got[key]) == value


def test_e3_domains_are_columns(rows):
    objects = [json.loads(line) for line in rows("count by domain", "--json").splitlines()]
    for got, wanted in zip(parsed(rows("count by domain", "--csv"), ","), objects, strict=True):
        assert {name: int(got[name]) for name in ("b", "é")} == {"b": 0, "é": 0} | wanted["domains"]


def test_e3_next_tokens_and_ends_sum_to_the_count(folder):
    text = printed("next", "-i", folder / "pile", " the", "--top", 1000, "--by-domain", "--csv")
    lines = parsed(text, ",")
    (answer,) = [json.loads(line) for line in printed("count", "-i", folder / "pile", " the", "--json").splitlines()]
    assert sum(int(line["count"]) for line in lines) == answer["count"]
    assert [line["token"] for line in lines if line["end_of_document"] == "true"] == [""]


@pytest.mark.parametrize("name", [name for name in ROWS_OF if name != "documents"])
def test_e3_a_pipe_gets_plain_columns(rows, name):
    text = rows(name)
    assert not re.search("[\u2500-\u257f\x1b]", text)
    assert all(line == line.rstrip() for line in text.splitlines())


def test_e3_nothing_is_cut_in_a_pipe(folder):
    long = " the lazy fox" * 60
    text = printed("count", "-i", folder / "pile", long, " fox")
    assert long.strip() in text
    assert "…" not in text


def test_e3_columns_are_respected(folder):
    command = ["count", "-i", folder / "pile", " the lazy fox" * 60, " fox"]
    wide, narrow = printed(*command), printed(*command, COLUMNS="60")
    assert max(map(len, wide.splitlines())) > 200
    assert max(map(len, narrow.splitlines())) <= 60
    assert sorted(re.sub(r"\s", "", wide)) == sorted(re.sub(r"\s", "", narrow))


def test_e3_more_than_one_form_is_refused(folder):
    for options in (["--csv", "--json"], ["--csv", "--tsv"], ["--tsv", "--json"]):
        assert "choose one of" in printed("count", "-i", folder / "pile", " fox", *options)


def test_e3_many_queries_come_as_tsv(folder, monkeypatch):
    monkeypatch.setattr("memindex.cli.count.MOST_TABLE_ROWS", 2)
    queries = [" the", " fox", ' a "b"\\', " lazy"]
    options = ["count", "-i", folder / "pile", *queries]
    assert printed(*options) == printed(*options, "--tsv")


#: Objects whose keys are names of domains, files and other data.
BY_NAME = {"domains", "files", "parameters", "also_in", "metadata", "domain_map"}

#: Commands that this test does not run: what they need is tested with the models and imports.
NOT_RUN = {("run",), ("probe",), ("train",), *(words for words in COMMANDS if words[0] == "import")}


@pytest.fixture(scope="module")
def json_of(folder, study, tmp_path_factory):
    """Command -> all objects that it prints with --json."""
    out = tmp_path_factory.mktemp("more")
    write_jsonl(out / "more.jsonl", [{"text": text, "d": "more"} for text in sentences(9)[4:]])
    pile, build = folder / "pile", ["--tokenizer", "bytes", "--domain-field", "d"]
    commands = {
        "build": ["index", "build", folder / "a.jsonl", "--out", out / "built", *build],
        "build --dry-run": ["index", "build", folder / "a.jsonl", "--out", out / "x", *build, "--dry-run"],
        "add": ["index", "add", out / "built", out / "more.jsonl"],
        "remove --dry-run": ["index", "remove", out / "built", "--document", "0:1", "--dry-run"],
        "remove": ["index", "remove", out / "built", "--document", "0:1"],
        "verify": ["index", "verify", pile],
        "open": ["index", "open", out / "plain"],
        "plant": ["plant", out / "unseen.jsonl", "-i", out / "built", "--out", out / "planted", "--length", "4"],
    }
    commands["plant"] += ["--copies", "0,2", "--sequences", "2"]
    write_jsonl(out / "unseen.jsonl", [{"text": f"{digit * 20}#{digit}"} for digit in "ABCDEFGH"])
    write_folder(out / "plain", [[[1, 2, 3], [4, 5]]], 2)
    places = {"pile": pile, "study": study}
    for name, words in ROWS_OF.items():
        if not name.startswith("sql"):  # whose keys are those of the query
            commands[name] = [str(word).format(**places) for word in words]
    found, run = {}, set()
    for name, command in commands.items():
        words = [str(word) for word in command]
        run.add(tuple(words[:2]) if tuple(words[:2]) in COMMANDS else tuple(words[:1]))
        found[name] = [json.loads(line) for line in printed(*command, "--json").splitlines()]
        assert found[name], name
    assert {words for words, command in COMMANDS.items() if has(command, "--json")} == run | NOT_RUN
    return found


def walked(value, path=()):
    """Every (path of keys, value) inside a value; keys that are data are left out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            by_name = bool(path) and path[-1] in BY_NAME
            yield from walked(inner, path if by_name else (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from walked(inner, path)
    else:
        yield path, value


def test_e4_keys_are_names_and_quantities_are_numbers(json_of):
    quantity = re.compile(r"[\d.,]+ ?(%|[kMGT]?i?B|bytes|tokens|documents|texts|seconds|s)?")
    for name, objects in json_of.items():
        for path, value in walked(objects):
            assert all(re.fullmatch("[a-z][a-z0-9_]*", key) for key in path), (name, path)
            text = isinstance(value, str) and path[-1] not in {"text", "query", "memindex_version", "domain"}
            assert not (text and quantity.fullmatch(value)), (name, path, value)


def test_e4_a_study_says_what_it_lacks_and_holds_in_numbers(json_of):
    assert [(one["kind"], one["state"]) for one in json_of["status"]][:2] == [
        ("sequences", "missing"),
        ("frequencies", "missing"),
    ]
    plan = {one["kind"]: one for one in json_of["check"]}
    assert plan["index"]["documents"] == len(TEXTS)
    assert (plan["sequences"]["prefix"], plan["sequences"]["suffix"], plan["runs"]["runs"]) == (4, 4, 0)


def test_e4_revisions_are_listed(json_of):
    families = {one["family"]: one for one in json_of["models"][0]["families"]}
    steps = [0, *(2**n for n in range(10)), *range(1000, 143_001, 1000)]
    assert families["pythia"]["revisions"] == [f"step{step}" for step in steps]
    assert families["olmo-2"]["revision_patterns"] == ["stage{stage}-step{step}-tokens{billions}B"]
    assert families["starcoder"]["revisions"] == families["starcoder"]["revision_patterns"] == []


@pytest.mark.parametrize("text", [" the lazy fox jumps over xyz", "nowhere 日本 😀", TEXTS[3] + TEXTS[4]])
def test_e4_trace_says_how_much_is_covered(folder, index, slow, text):
    answer = json.loads(printed("trace", "-i", folder / "pile", text, "--min-tokens", 2, "--json"))
    encoded = slow.encode(text, add_special_tokens=False)
    inside = np.zeros(len(encoded.ids), dtype=bool)
    letters = np.zeros(len(text), dtype=bool)
    for span in answer["spans"]:
        end = span["start"] + span["length"]
        inside[span["start"] : end] = True
        letters[encoded.offsets[span["start"]][0] : encoded.offsets[end - 1][1]] = True
    assert answer["tokens"] == encoded.ids
    assert (answer["covered"], answer["coverage"]) == (inside.sum(), inside.mean())
    assert (answer["characters"], answer["covered_characters"]) == (len(text), letters.sum())
    assert answer["character_coverage"] == letters.mean()


def test_e4_an_excerpt_has_the_names_of_python(json_of, index):
    names = set(index.documents(" the lazy", 3).column_names)
    assert names <= set(json_of["documents"][0])
    assert json_of["documents"][0]["tokens"] == index.documents(" the lazy", 3, max_tokens=5)["tokens"][0].as_py()


def test_e4_every_key_is_documented(json_of):
    documented = set(re.findall(r"`(\w+)`", (Path(__file__).parents[1] / "docs" / "json.md").read_text("utf-8")))
    keys = {key for objects in json_of.values() for path, _ in walked(objects) for key in path}
    assert keys <= documented
