"""Recipes and names of indexes: what is in the repository, files of one's own, and builds from them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from synthetic_corpus import assert_refused, memindex, sentences, train_bpe, write_jsonl

from memindex.cli import index_list
from memindex.corpus.remote import is_address
from memindex.corpus.sources import find_files
from memindex.corpus.tokenizer import HUB_NAMES
from memindex.errors import MemindexError
from memindex.index import Index, build_index
from memindex.index.names import index_directory
from memindex.index.recipes import find_recipe, load_recipe, needs, recipe_names, recipes_directory
from memindex.models.families import FAMILIES
from memindex.sql.functions.indexes import Indexes

MINIMAL = 'title = "Mine"\nabout = "It is."\ntokenizer = "bytes"\ntoken_width = 1\ntokens = 100\n'


@pytest.fixture
def recipe(tmp_path):
    def write(text):
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
        return load_recipe(tmp_path / "mine.toml")

    return write


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_complete(name):
    found = find_recipe(name)
    assert (found.name, found.numbers != "", found.note != "") == (name, True, True)
    assert is_address(found.page)
    assert all(is_address(source.removeprefix("@")) for source in found.files)
    family = FAMILIES.get(found.tokenizer)
    assert found.tokenizer in HUB_NAMES
    assert family is None or family.token_width == found.token_width
    size = found.needs()
    # A token takes 6 to 14 bytes of an index, whatever its width.
    assert 6 < size.disk / (found.tokens + (found.documents or 0)) < 14
    assert size.memory < 20e9


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_family_has_the_recipe_it_names(family):
    assert find_recipe(family.index).tokenizer == family.tokenizer


def test_recipes_are_where_the_checkout_has_them():
    assert recipes_directory() == Path(__file__).resolve().parent.parent / "indexes"
    assert {"pile", "dolma", "the-stack", "redpajama", "olmo-mix-1124", "dolma-3", "c4"} <= set(recipe_names())


@pytest.mark.parametrize(
    ("tokens", "documents", "width", "shards", "pointer"),
    [(100, 0, 1, 1, 1), (48_700_000, 9_000, 2, 1, 4), (2_000_000_000, 0, 4, 1, 5), (2_000_000_001, 0, 2, 2, 4)],
)
def test_needs_are_those_of_the_formula(tokens, documents, width, shards, pointer):
    found = needs(tokens, documents, width)
    assert found.shards == shards
    entries = tokens + documents
    assert found.disk == int(entries * (width + pointer + 2.4) + documents * 250)
    assert found.memory == int(4e8 + {1: 5.5, 2: 6.5, 4: 8.5}[width] * -(-entries // shards))


def test_disk_is_about_what_a_build_takes(tmp_path):
    train_bpe(tmp_path / "small" / "tokenizer.json")
    texts = [" ".join(sentences(30, seed=i)) for i in range(400)]
    write_jsonl(tmp_path / "c" / "a.jsonl", [{"text": text, "id": i} for i, text in enumerate(texts)])
    report = build_index([tmp_path / "c"], tmp_path / "out", tokenizer=tmp_path / "small")
    taken = sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert 0.7 < needs(report.manifest.tokens, 400, 2).disk / taken < 1.4


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (MINIMAL + 'domain_feild = "a"\n', "unknown key domain_feild; did you mean domain_field?"),
        (MINIMAL + "zzz = 1\n", "unknown key zzz; known: title"),
        (MINIMAL + 'name = "other"\n', "unknown key name"),
        (MINIMAL.replace("tokens = 100", ""), "the key tokens is missing"),
        (MINIMAL + 'files = "a.jsonl"\n', "files must be a list of texts"),
        (MINIMAL + "files = [1]\n", "files must be a list of texts"),
        (MINIMAL + "documents = -1\n", "documents must be a whole number above 0"),
        (MINIMAL + "rows_per_step = true\n", "rows_per_step must be a whole number"),
        (MINIMAL + "text_field = 5\n", "text_field must be text in quotes"),
        (MINIMAL.replace("token_width = 1", "token_width = 3"), "token_width must be 1, 2 or 4"),
        (MINIMAL + "[domains]\na = 1\n", "[domains]: a: write each domain as"),
        (MINIMAL + "domains = 'x'\n", "[domains]"),
        ("title", "not TOML"),
    ],
)
def test_a_bad_recipe_is_one_clear_line(recipe, text, part):
    with pytest.raises(MemindexError, match=re.escape(part)) as caught:
        recipe(text)
    assert "mine.toml: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there(tmp_path):
    assert find_recipe("nothing") is None
    with pytest.raises(MemindexError, match="no such recipe; known: c4, dolma"):
        find_recipe(str(tmp_path / "nothing.toml"))


def test_paths_of_a_recipe_are_seen_from_its_folder(recipe, tmp_path):
    (tmp_path / "tok").mkdir()
    files = 'files = ["a/*.jsonl", "/absolute", "s3://b/c", "@list.txt", "@https://h/l.txt"]\n'
    found = recipe(MINIMAL.replace('"bytes"', '"tok"') + files)
    assert found.files == (
        f"{tmp_path}/a/*.jsonl",
        "/absolute",
        "s3://b/c",
        f"@{tmp_path}/list.txt",
        "@https://h/l.txt",
    )
    assert found.tokenizer == f"{tmp_path}/tok"


def corpus(folder, count=40):
    rows = [{"body": f"text {i}", "meta": {"set": "ab"[i % 2]}} for i in range(count)]
    return write_jsonl(folder / "data" / "a.jsonl", rows)


OWN = MINIMAL + 'files = ["data"]\ntext_field = "body"\ndomain_field = "meta.set"\n[domains]\na = "A"\n'


def test_an_index_is_built_from_a_recipe_and_found_by_its_name(tmp_path):
    corpus(tmp_path)
    (tmp_path / "mine.toml").write_text(OWN)
    done = memindex("index", "build", "mine.toml", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["index"], facts["documents"]) == (0, "indexes/mine", 40)
    assert facts["domains"]["A"]["documents"] == facts["domains"]["b"]["documents"] == 20
    manifest = Index.open(tmp_path / "indexes" / "mine").manifest
    assert (manifest.text_field, manifest.domain_field, manifest.domain_map) == ("body", "meta.set", {"a": "A"})
    count = memindex("count", "-i", "mine", "text", "--json", cwd=tmp_path)
    assert json.loads(count.stdout)["count"] == 40
    assert memindex("index", "verify", "mine", cwd=tmp_path).returncode == 0
    elsewhere = {"MEMINDEX_INDEXES": str(tmp_path / "indexes")}
    count = memindex("count", "-i", "mine", "text", "--json", cwd=tmp_path / "data", env=elsewhere)
    assert json.loads(count.stdout)["count"] == 40
    listed = json.loads(memindex("index", "list", "--json", cwd=tmp_path).stdout)
    (index,) = listed["indexes"]
    assert (index["name"], index["documents"], index["tokenizer"]) == ("mine", 40, "bytes")
    assert [entry["name"] for entry in listed["recipes"]] == recipe_names()
    made = memindex("study", "init", "study", "-i", "mine", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert 'index = "../indexes/mine"' in (tmp_path / "study" / "study.toml").read_text()


def test_options_override_a_recipe(tmp_path, monkeypatch):
    corpus(tmp_path)
    (tmp_path / "mine.toml").write_text(OWN.replace("data", "nowhere"))
    write_jsonl(tmp_path / "b.jsonl", [{"text": "other", "lang": "x"}])
    (tmp_path / "map.toml").write_text('x = "X"')
    given = ["--files", "b.jsonl", "--text-field", "text", "--domain-field", "lang", "--domain-map", "map.toml"]
    done = memindex("index", "build", "mine.toml", *given, "--out", "out", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["domains"] == {"X": {"documents": 1, "tokens": 5}}
    assert not (tmp_path / "indexes").exists()


def test_a_recipe_of_the_repository_reads_files_given(tmp_path):
    rows = [{"text": f"page {i}", "meta": {"pile_set_name": "Pile-CC"}} for i in range(5)]
    write_jsonl(tmp_path / "00.jsonl", rows)
    done = memindex("index", "build", "pile", "--files", "*.jsonl", "--tokenizer", "bytes", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert (facts["index"], facts["domains"]["Pile-CC"]["documents"]) == ("indexes/pile", 5)
    assert Index.open(tmp_path / "indexes" / "pile").count("page").item() == 5


def test_refusals_around_recipes(tmp_path):
    corpus(tmp_path)
    (tmp_path / "c4").mkdir()
    (tmp_path / "bad.toml").write_text(MINIMAL + "x = 1\n")
    (tmp_path / "empty.toml").write_text(MINIMAL + 'note = "Ask."\n')

    def refused(*arguments, part):
        assert_refused(memindex(*arguments, cwd=tmp_path), part)
        assert not (tmp_path / "indexes").exists()

    refused("index", "build", "pile", part="pile: give its files by --files")
    refused("index", "build", "empty.toml", part="empty: give its files by --files. Ask.")
    refused("index", "build", "bad.toml", part="unknown key x")
    refused("index", "build", "pile", "data", part="pile is a recipe: name its files by --files")
    refused("index", "build", "c4", part="c4 is a recipe, and a folder here: write ./c4")
    refused("index", "build", "data", "--files", "x", "--out", "o", "--tokenizer", "bytes", part="data is none")
    refused("index", "build", "data", "--out", "o", part="Missing option '--tokenizer'")
    refused("index", "build", "data", "--tokenizer", "bytes", part="Missing option '--out'")
    refused("count", "-i", "pile", "x", part="pile is a recipe that is not built yet: memindex index build pile")
    refused("count", "-i", "nothing", "x", part="no such folder")


def test_a_path_is_meant_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("indexes/one", "indexes/two", "one"):
        (tmp_path / folder).mkdir(parents=True)
    assert index_directory("one") == Path("one")
    assert index_directory("two") == Path("indexes/two")
    assert index_directory("./two") == Path("two")
    assert index_directory("three") == Path("three")


def test_sql_knows_an_index_by_its_name(tmp_path, monkeypatch):
    corpus(tmp_path)
    build_index([tmp_path / "data"], tmp_path / "indexes" / "mine", tokenizer="bytes",
                options=load_recipe(_write(tmp_path, OWN)).options())  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert Indexes({})["mine"].count(Indexes({})["mine"].tokenize(["text"])).tolist() == [40]


def test_a_damaged_index_is_listed_as_such(tmp_path, monkeypatch, capsys):
    corpus(tmp_path)
    build_index([tmp_path / "data"], tmp_path / "indexes" / "good", tokenizer="bytes",
                options=load_recipe(_write(tmp_path, OWN)).options())  # fmt: skip
    (tmp_path / "indexes" / "bad").mkdir()
    (tmp_path / "indexes" / "bad" / "index.json").write_text("{")
    built, damaged = index_list._built(tmp_path / "indexes")
    assert [entry["name"] for entry in built] == ["good"]
    assert len(damaged) == 1
    assert "bad/index.json: not JSON" in damaged[0]


def _write(folder, text):
    (folder / "mine.toml").write_text(text)
    return folder / "mine.toml"


def test_what_was_skipped_is_listed_in_the_index(tmp_path):
    lines = ['{"text": "good"}\n' if i % 3 else '{"text": 1}\n' for i in range(90)]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    build = ["index", "build", "a.jsonl", "--out", "out", "--tokenizer", "bytes", "--skip-bad"]
    done = memindex(*build, cwd=tmp_path)
    assert "left out 30 malformed documents" in done.stderr
    assert "all of them in out/skipped.txt" in done.stderr
    listed = (tmp_path / "out" / "skipped.txt").read_text().splitlines()
    assert [int(line.split(":")[1]) for line in listed] == list(range(1, 91, 3))
    index = Index.open(tmp_path / "out")
    assert index.manifest.skipped_documents == 30
    index.verify()
    assert index.count("good").item() == 60


def test_sources_of_published_recipes_are_understood(monkeypatch):
    # What find_files would ask for, without asking.
    asked = []

    def listed(source):
        asked.append(source)
        raise MemindexError("not asked")

    monkeypatch.setattr("memindex.corpus.listing.list_remote", listed)
    monkeypatch.setattr("memindex.corpus.listing.read_list", listed)
    for name in recipe_names():
        found = find_recipe(name)
        for source in found.files:
            with pytest.raises(MemindexError, match="not asked"):
                find_files([source], found.options())
    assert len(asked) == sum(len(find_recipe(name).files) for name in recipe_names()) >= 7


def test_the_recipe_of_the_page_is_one(recipe):
    page = (recipes_directory() / "README.md").read_text(encoding="utf-8")
    found = recipe(page.split("```toml\n")[1].split("```")[0])
    assert found.domain_sql
    assert found.domains == {"cc-head": "Common Crawl", "*": "all others"}


def test_a_whole_corpus_needs_room_and_is_compared_with_what_was_published(tmp_path):
    corpus(tmp_path)
    file = _write(tmp_path, "documents = 41\n" + OWN.replace("tokens = 100", f"tokens = {10**17}"))
    done = memindex("index", "build", file, "--out", tmp_path / "out")
    assert_refused(done, "mine: an index of all of it takes about", "free at", "--files")
    _write(tmp_path, "documents = 41\n" + OWN)
    done = memindex("index", "build", file, "--out", tmp_path / "out")
    assert done.returncode == 0
    assert "mine was published with 41 documents, these are 40" in done.stderr
    done = memindex("index", "build", file, "--out", tmp_path / "part", "--files", tmp_path / "data" / "a.jsonl")
    assert done.returncode == 0
    assert "published" not in done.stderr
