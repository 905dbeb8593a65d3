"""What is said about names that are nearly right (row E1) and paths with nothing at them (E1, E10)."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest
from outputs_world import *  # noqa: F403  (fixtures)
from outputs_world import printed

from memindex import MemindexError
from memindex.corpus.tokenizer import load_tokenizer


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (["cout"], "No such command 'cout'. Did you mean count?"),
        (["index", "biuld"], "Did you mean build?"),
        (["index", "statistics"], "Did you mean stats"),
        (["study", "chekc"], "Did you mean check?"),
        (["import", "jsnol"], "Did you mean jsonl?"),
        (["count", "--jsn"], "--json"),
        (["sql", "rate_by_freq"], "did you mean rate_by_frequency?"),
        (["sql", "-s", "{study}", "rate_by_freq"], "did you mean rate_by_frequency?"),
        (["sql", "-s", "{study}", "rate_by_size", "-p", "smaple=x"], "did you mean sample?"),
        (["sql", "-s", "{study}", "FROM memorisation"], "Did you mean memorization"),
        (["sql", "-s", "{study}", "SELECT scor FROM memorization"], "score"),
        (["sql", "-s", "{study}", ".schema sequnces"], "did you mean sequences"),
        (["sql", "-s", "{study}", ".tabels"], "did you mean .tables?"),
        (["sql", "-s", "{study}", "SELECT ngram_count('pil', [1])"], "did you mean pile?"),
        (["report", "-s", "{study}", "--figure", "rate_by_freq"], "did you mean rate_by_frequency?"),
        (["models", "pythai"], "did you mean pythia?"),
        (["probe", "compresion", "-s", "{study}"], "Did you mean compression?"),
        (["export", "-s", "{study}", "--sample", "unifrm"], "Did you mean uniform?"),
        (["index", "build", "piel"], "did you mean pile?"),
        (["index", "pull", "v4_pileval_lama"], "did you mean v4_pileval_llama"),
        (
            ["index", "build", "{pile}/../a.jsonl", "--tokenizer", "pythai", "--out", "{study}/x"],
            "did you mean pythia?",
        ),
        (["count", "-i", "{pile}s", "x"], "did you mean pile?"),
        (["study", "check", "{study}y"], "did you mean study?"),
    ],
    ids=str,
)
def test_e1_the_near_name_is_said(folder, study, command, meant):
    said = printed(*[word.format(pile=folder / "pile", study=study) for word in command])
    assert meant in said
    assert len(said) < 400


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("indx = 'a'\nindex = 'x'", "unknown key indx; did you mean index?"),
        ("index = 'x'\n[sequences]\nprefx = 3", "did you mean prefix?"),
        ("index = 'x'\n[scoring]\ncontrols = ['untrainned']", "did you mean untrained?"),
        ("index = 'x'\n[probes]\nrun = ['compresion']", "did you mean compression?"),
    ],
)
def test_e1_the_near_key_and_value_of_a_study_is_said(tmp_path, text, meant):
    (tmp_path / "study.toml").write_text(text)
    assert meant in printed("study", "check", tmp_path)


def test_e1_what_is_unlike_every_name_lists_them_or_says_where(study):
    assert "memindex sql --list" in printed("sql", "zzzzzz")
    assert "count" in printed("zzzzzz")
    assert "pythia" in printed("models", "zzzzzz")


def test_e1_a_path_says_what_is_there(folder, study, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / ".building.partial").mkdir()
    for place, as_index, as_study in (
        ("nowhere", "no such folder: ", "no such folder: "),
        ("building", "its build is not finished", ""),
        ("empty", "is an empty folder, not an index", "is an empty folder, not a study"),
        ("file", "is a file, not an index", "is a file, not a study"),
        (study, "is a study, not an index: pass it with -s", ""),
        (folder / "pile", "", "is an index, not a study: pass it with -i"),
        (folder / "pile" / "index.json", f"give {folder / 'pile'}", "is a file"),
        (study / "study.toml", "is a file", f"give {study}"),
    ):
        if as_index:
            for command in (["count", "x", "-i"], ["index", "info"], ["index", "verify"], ["index", "stats"]):
                assert as_index in printed(*command, tmp_path / place)
        if as_study:
            for command in (["study", "status"], ["study", "run"], ["sql", "SELECT 1", "-s"], ["report", "-s"]):
                assert as_study in printed(*command, tmp_path / place)


STUDY = """
index = "index"
[build]
tokenizer = {tokenizer}
[[corpus]]
sources = ["corpora/pile"]
"""


@pytest.mark.parametrize("name", ["tokenizers/pythia", "./here", "../beside/tokenizer.json", "a/b/c", "/no/where"])
def test_e10_a_path_of_a_study_is_never_a_name_on_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.setattr("memindex.corpus.tokenizer._from_hub", lambda name: pytest.fail("asked the hub"))
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text(STUDY.format(tokenizer=json.dumps(name)))
    said = printed("study", "check", tmp_path / "study")
    full = os.path.normpath(tmp_path / "study" / name)
    assert f"no such file or folder: {full}; put a tokenizer.json, or a folder with one, there" in said


def test_e10_what_is_missing_and_where_it_is_described(tmp_path):
    place = tmp_path / "studies" / "mine"
    place.mkdir(parents=True)
    (place / "study.toml").write_text(STUDY.format(tokenizer='"bytes"'))
    said = printed("study", "check", place)
    assert f"no such file or folder: {place}/corpora/pile; put the corpus, or a link to it, there" in said
    assert "README" not in said
    (place.parent / "README.md").write_text("# Texts")
    assert f"({place.parent}/README.md says which)" in printed("study", "check", place)


def test_e10_a_folder_without_tokenizer_says_what_it_has(tmp_path, folder):
    (tmp_path / "tok").mkdir()
    (tmp_path / "tok" / "vocab.json").write_text("{}")
    said = printed("index", "build", folder / "a.jsonl", "--out", tmp_path / "o", "--tokenizer", tmp_path / "tok")
    assert "the folder has no tokenizer.json; it has vocab.json" in said


def test_e10_a_name_that_may_be_a_folder_says_both(tmp_path, monkeypatch):
    import huggingface_hub

    def unreachable(url, timeout):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MemindexError, match=r"mine/small: not on the model hub .*; there is no folder .*/mine/small"):
        load_tokenizer("mine/small")


def test_e10_a_missing_model_folder_is_not_a_name_on_the_hub(study):
    text = (study / "study.toml").read_text()
    other = study.parent / "other"
    other.mkdir()
    more = '\n[[models]]\nid = "mine"\nsource = "models/mine"\n'
    (other / "study.toml").write_text(text + more)
    assert f"there is no model folder {other}/models/mine" in printed("study", "check", other)


def test_e10_the_studies_say_what_to_put_where():
    root = Path(__file__).parents[1] / "studies"
    readme = (root / "README.md").read_text()
    for file in root.glob("*/study.toml"):
        config = tomllib.loads(file.read_text())
        assert f"({file.parent.name}/study.toml)" in readme
        needed = [config["build"].get("tokenizer", "")]
        for part in (*config.get("corpus", []), *config.get("other", [])):
            needed += [path for path in (*part.get("sources", []), *part.get("heldout", [])) if path[0] != "."]
        assert all(path in readme for path in needed)
