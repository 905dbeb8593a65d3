"""Files that an index holds are not added to it a second time, unless that is asked for."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from synthetic_corpus import assert_refused, left_in, memindex, sentences, write_jsonl

from memindex.corpus.documents import SourceFile
from memindex.corpus.remote import Facts, RemoteFile
from memindex.corpus.sources import ReadOptions
from memindex.errors import CorruptIndexError, MemindexError
from memindex.index import Index, adopt_index, build_index
from memindex.index.adding import add_documents
from memindex.index.manifest import Manifest
from memindex.index.removing import remove_documents
from memindex.index.source_record import describe

OPTIONS = ReadOptions("text", "d")
ROWS = {name: [{"text": t, "d": "d"} for t in sentences(4, seed=seed)] for seed, name in enumerate("abcd", start=2)}


def build(folder, *names, out="out"):
    """An index of files of these names."""
    files = [write_jsonl(folder / "in" / f"{name}.jsonl", ROWS[name]) for name in names]
    build_index(files, folder / out, tokenizer="bytes", options=OPTIONS)
    return folder / out


def later(folder, *names):
    return [write_jsonl(folder / "in" / f"{name}.jsonl", ROWS[name]) for name in names]


def forget_sources(index):
    """Make an index that an earlier version built."""
    manifest = Manifest.read(index)
    kept = {name: facts for name, facts in manifest.files.items() if name != "sources.parquet"}
    (index / "sources.parquet").unlink()
    replace(manifest, files=kept).write(index)


def sources(index):
    table = pd.read_parquet(index / "sources.parquet")
    return list(zip(table["path"], table["revision"], strict=True))


def documents(index):
    opened = Index.open(index)
    opened.verify()
    return opened.manifest.documents


def test_files_that_the_index_was_built_of_are_refused(tmp_path):
    index = build(tmp_path, "a", "b")
    (new,) = later(tmp_path, "c")
    before = {file.name: file.read_bytes() for file in index.iterdir()}
    for given in ([tmp_path / "in" / "b.jsonl"], [new, tmp_path / "in" / "b.jsonl"]):
        refused = memindex("index", "add", index, *given)
        assert_refused(refused, f"{tmp_path}/in/b.jsonl went into it before: leave out what did", "--again")
    assert_refused(memindex("index", "add", index, tmp_path / "in"), "in/a.jsonl (one of 2 such files of 3) went into")
    assert {file.name: file.read_bytes() for file in index.iterdir()} == before
    assert left_in(tmp_path) == ["in", "out"]
    done = memindex("index", "add", index, new, tmp_path / "in" / "b.jsonl", "--again", "--json")
    assert json.loads(done.stdout)["documents"] == documents(index) == 16, done.stderr
    assert sources(index) == [("a.jsonl", 0), ("b.jsonl", 0), ("c.jsonl", 1), ("b.jsonl", 1)]


def test_some_of_the_files_of_an_earlier_add_are_refused_and_others_with_them(tmp_path):
    index = build(tmp_path, "a")
    two, (other,) = later(tmp_path, "b", "c"), later(tmp_path, "d")
    add_documents(index, two)
    for given in (two[:1], two[::-1], [other, two[1]]):
        with pytest.raises(MemindexError, match="went into it before"):
            add_documents(index, given)
    add_documents(index, [other])
    assert documents(index) == 16
    assert sources(index) == [("a.jsonl", 0), ("b.jsonl", 1), ("c.jsonl", 1), ("d.jsonl", 2)]
    with pytest.raises(MemindexError, match=r"a\.jsonl \(one of 4 such files of 4\)"):
        add_documents(index, [tmp_path / "in"])


def test_a_file_is_known_by_whatever_name_it_is_given(tmp_path, monkeypatch):
    index = build(tmp_path, "a")
    (tmp_path / "link").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    for name in ("in", "in/a.jsonl", "./link", "in/*.jsonl", f"file://{tmp_path}/in/a.jsonl"):
        with pytest.raises(MemindexError, match=r"a\.jsonl went into it before"):
            add_documents(index, [name])
    # A file of the same name, size and time elsewhere is another one.
    (tmp_path / "elsewhere").mkdir()
    shutil.copy2("in/a.jsonl", "elsewhere/a.jsonl")
    add_documents(index, ["elsewhere/a.jsonl"])
    assert documents(index) == 8


def test_a_file_that_changed_is_refused_with_how_to_go_on(tmp_path):
    index = build(tmp_path, "a", "b")
    changed = write_jsonl(tmp_path / "in" / "b.jsonl", ROWS["b"] + ROWS["c"])
    refused = memindex("index", "add", index, changed)
    assert_refused(
        refused, "b.jsonl went into it before, and changed since", "index remove INDEX --path b.jsonl)", "--again"
    )
    assert memindex("index", "remove", index, "--path", "b.jsonl").returncode == 0
    assert_refused(memindex("index", "add", index, changed), "changed since")
    assert memindex("index", "add", index, changed, "--again").returncode == 0
    assert documents(index) == 12
    # Now that version is in, too.
    assert_refused(memindex("index", "add", index, changed), "b.jsonl went into it before: leave out")
    os.utime(changed, (1, 1))
    assert_refused(memindex("index", "add", index, changed), "changed since")


def test_a_path_that_several_files_have_is_no_way_to_take_one_out(tmp_path):
    index = build(tmp_path, "a")
    other = write_jsonl(tmp_path / "other" / "a.jsonl", ROWS["b"])
    add_documents(index, [other])
    write_jsonl(other, ROWS["c"])
    with pytest.raises(MemindexError, match=r"changed since: .*--path a\.jsonl means other files too"):
        add_documents(index, [other])


def test_removed_documents_come_back_when_that_is_asked_for(tmp_path):
    index = build(tmp_path, "a", "b")
    query = list(ROWS["b"][0]["text"].encode())
    kept = sources(index)
    remove_documents(index, paths=["b.jsonl"])
    assert (sources(index), Index.open(index).count_one(query)) == (kept, 0)
    with pytest.raises(MemindexError, match=r"b\.jsonl went into it before: .*after a removal, with --again"):
        add_documents(index, [tmp_path / "in" / "b.jsonl"])
    add_documents(index, [tmp_path / "in" / "b.jsonl"], again=True)
    assert (documents(index), Index.open(index).count_one(query)) == (8, 1)
    assert sources(index) == [*kept, ("b.jsonl", 2)]


def test_an_index_of_an_earlier_version_refuses_only_what_it_can_know(tmp_path):
    index = build(tmp_path, "a")
    two = later(tmp_path, "b", "c")
    add_documents(index, two)
    forget_sources(index)
    with pytest.raises(MemindexError, match="these files were added before; --again"):
        add_documents(index, two)
    remove_documents(index, documents=[(0, 0)])
    assert "sources.parquet" not in Index.open(index).manifest.files
    add_documents(index, two[:1])
    assert documents(index) == 15
    # From then on it knows of what is added, and still which files were added together.
    assert sources(index) == [("b.jsonl", 3)]
    with pytest.raises(MemindexError, match=r"b\.jsonl went into it before"):
        add_documents(index, two)
    os.utime(two[0], (1, 1))
    add_documents(index, [tmp_path / "in" / "a.jsonl"])
    assert documents(index) == 19


@pytest.mark.parametrize("resumed", [False, True])
def test_an_add_that_was_stopped_goes_on_and_leaves_the_same_record(tmp_path, monkeypatch, resumed):
    index, given = build(tmp_path, "a"), later(tmp_path, "b")
    shutil.copytree(index, tmp_path / "straight")
    add_documents(tmp_path / "straight", given)

    def full(*_):
        raise OSError(28, "No space left on device", "index.json")

    if resumed:
        with monkeypatch.context() as patch:
            patch.setattr("memindex.index.revising._take_place", full)
            with pytest.raises(OSError, match="finished units are kept"):
                add_documents(index, given)
        assert sources(index) == [("a.jsonl", 0)]
    assert bool(add_documents(index, given).taken_over) == resumed
    assert documents(index) == 8
    assert (index / "sources.parquet").read_bytes() == (tmp_path / "straight" / "sources.parquet").read_bytes()


def test_a_file_that_grows_while_it_is_read_is_recorded_as_it_was_before(tmp_path):
    (file,) = later(tmp_path, "a")

    def grow(stage, *_):
        if stage == "sort":
            write_jsonl(file, ROWS["a"] + ROWS["b"])

    build_index([file], tmp_path / "out", tokenizer="bytes", options=OPTIONS, progress=grow)
    with pytest.raises(MemindexError, match="changed since"):
        add_documents(tmp_path / "out", [file])


def test_files_at_addresses_are_known_without_their_secrets(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.pipe({"/sources/a.jsonl": b'{"text": "one"}\n', "/sources/b.jsonl": b'{"text": "two"}\n'})
    try:
        build_index(["memory://sources/a.jsonl"], tmp_path / "out", tokenizer="bytes")
        with pytest.raises(MemindexError, match=r"memory://.*a\.jsonl went into it before"):
            add_documents(tmp_path / "out", ["memory://sources/*.jsonl"])
        add_documents(tmp_path / "out", ["memory://sources/b.jsonl"])
    finally:
        system.rm("/sources", recursive=True)
    assert documents(tmp_path / "out") == 2
    signed = [f"https://user:word@host/a.jsonl?signature={number}" for number in range(2)]
    one, other = (RemoteFile(address, address, Facts(5, 7)) for address in signed)
    first, second = describe([SourceFile(file, "a.jsonl", "d", "jsonl") for file in (one, other)])
    assert first == second
    assert first.shown == "https://host/a.jsonl"


def test_a_file_whose_parts_changed_is_another(tmp_path):
    index, part = write_jsonl(tmp_path / "a.idx", [{}]), write_jsonl(tmp_path / "a.bin", [{}])
    source = SourceFile(index, "a.idx", "d", "megatron", (part,))
    (before,) = describe([source])
    write_jsonl(part, [{}, {}])
    (after,) = describe([source])
    assert (before.place, before.bytes, after.bytes) == (after.place, 6, 9)
    assert before.stamp != after.stamp


def test_the_record_tells_nothing_of_the_machine(tmp_path):
    index = build(tmp_path, "a")
    row = pd.read_parquet(index / "sources.parquet").iloc[0].to_dict()
    assert (row["path"], row["bytes"]) == ("a.jsonl", (tmp_path / "in" / "a.jsonl").stat().st_size)
    assert str(tmp_path) not in str(row)
    assert tmp_path.name.encode() not in (index / "sources.parquet").read_bytes()


def test_a_damaged_record_is_found(tmp_path):
    index, given = build(tmp_path, "a"), later(tmp_path, "b")
    whole = (index / "sources.parquet").read_bytes()
    (index / "sources.parquet").write_bytes(b"\0" * len(whole))
    with pytest.raises(CorruptIndexError, match=r"sources\.parquet: .*its BLAKE3 is not that of the build"):
        Index.open(index).verify()
    with pytest.raises(CorruptIndexError, match=r"sources\.parquet: ") as refusal:
        add_documents(index, given)
    assert len(str(refusal.value).splitlines()) == 1
    (index / "sources.parquet").write_bytes(whole)
    add_documents(index, given)
    assert documents(index) == 8


def test_what_is_adopted_has_no_record(tmp_path):
    index = build(tmp_path, "a")
    adopt_index(index, out=tmp_path / "adopted", tokenizer="bytes")
    assert left_in(tmp_path / "adopted").count("sources.parquet") == 0
    assert documents(tmp_path / "adopted") == 4
