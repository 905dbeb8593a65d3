"""From sources to files: what is read, in which order, under which domain and name."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_corpus import AWKWARD, write_jsonl
from test_corpus_jsonl import texts

from memindex.corpus import text as text_reader
from memindex.corpus.documents import BadDocuments
from memindex.corpus.sources import ReadOptions, find_files, read_documents
from memindex.errors import CorpusError


def read(sources, bad=None, **options):
    options = ReadOptions(**options)
    batches = read_documents(find_files(sources, options), options, bad or BadDocuments())
    return [row for batch in batches for row in batch.to_pylist()]


def tree(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return root


def test_a_text_folder_is_a_document_per_file_with_its_top_folder_as_domain(tmp_path):
    root = tree(tmp_path / "code", {"b/two.py": "2", "a/deep/er/one.py": "1", "top.md": "0", "b/a.txt": ""})
    rows = read([root])
    assert [(r["path"], r["domain"], r["text"], r["line"], r["metadata"]) for r in rows] == [
        ("a/deep/er/one.py", "a", b"1", 1, "{}"),
        ("b/a.txt", "b", b"", 1, "{}"),
        ("b/two.py", "b", b"2", 1, "{}"),
        ("top.md", "code", b"0", 1, "{}"),
    ]


def test_text_files_are_taken_byte_for_byte(tmp_path):
    kept = [text for text in AWKWARD if "\0" not in text]
    root = tree(tmp_path, {f"{i:02}.txt": text for i, text in enumerate(kept)})
    # All but a byte order mark at the start, and a text with NUL, which is binary.
    assert texts(read([root])) == [text.removeprefix("\ufeff") for text in kept]


def test_files_that_describe_a_corpus_are_no_part_of_it(tmp_path):
    line = '{"text": "one"}'
    root = tree(tmp_path, {".gitattributes": "x", "README.md": "about", "data/LICENSE": "free", "data/a.jsonl": line})
    assert [f.name for f in find_files([root], ReadOptions())] == ["data/a.jsonl"]
    texts = tree(tmp_path / "texts", {"README.md": "about", "b.txt": "seen"})
    assert [f.name for f in find_files([texts], ReadOptions())] == ["README.md", "b.txt"]


def test_hidden_files_and_folders_are_skipped(tmp_path):
    root = tree(tmp_path, {".git/config": "x", "a/.hidden": "x", "a/b.txt": "seen", ".env": "x", "a/.b/c.txt": "x"})
    assert texts(read([root])) == ["seen"]


def test_a_root_that_is_hidden_itself_is_read(tmp_path):
    root = tree(tmp_path / ".cache" / "corpus", {"a.txt": "seen"})
    assert texts(read([root])) == ["seen"]


def test_include_takes_what_one_of_the_patterns_matches(tmp_path):
    root = tree(tmp_path, {"a.py": "py", "x/b.md": "md", "c.txt": "txt", "d.pyc": b"\xff\xff"})
    assert texts(read([root], include=("*.py", "*.md"))) == ["py", "md"]
    with pytest.raises(CorpusError, match="match --include"):
        read([root], include=("*.rs",))


def test_stray_json_in_a_source_tree_is_text(tmp_path):
    root = tree(tmp_path, {"main.py": "x = 1", "settings.json": '{\n  "a": 1\n}\n', "data/big.JSON": "[1,\n2]"})
    assert sorted(texts(read([root]))) == ["[1,\n2]", "x = 1", '{\n  "a": 1\n}\n']


def test_a_folder_of_json_files_only_is_json_lines(tmp_path):
    root = tree(tmp_path, {"a.json": '{"text": "one"}\n{"text": "two"}\n', "b.json": '{"text": "three"}'})
    assert texts(read([root])) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a.py": "1", "b.py": "2", "x/c.py": "3", "data.jsonl": '{"text": "one"}'}, "3 text files beside 1 corpus"),
        ({"README.md": "about", "data/a.jsonl": '{"text": "one"}', "data/notes.md": "free"}, "1 text files beside 1"),
        ({"a.py": "1", "b.json.gz": b"", "c.parquet": b""}, "1 text files beside 2 corpus files"),
        ({"a.py": "1", "stray.json": "{}", "data.jsonl": '{"text": "one"}'}, "1 text files beside 2 corpus files"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_folder_of_corpus_and_other_files_is_refused(tmp_path, files, told):
    root = tree(tmp_path / "mixed", files)
    with pytest.raises(CorpusError, match=rf"{told}.* in .*mixed: choose with --include"):
        read([root])


def test_include_chooses_in_a_folder_of_corpus_and_other_files(tmp_path):
    root = tree(
        tmp_path, {"a.py": "1", "data/b.jsonl": '{"text": "one"}', ".b.jsonl": "x", ".c.py": "x", ".git/d": "x"}
    )
    rows = read([root], include=("*.jsonl",))
    assert [(r["path"], r["domain"], r["text"]) for r in rows] == [("data/b.jsonl", "data", b"one")]
    assert texts(read([root], include=("*.py",))) == ["1"]
    with pytest.raises(CorpusError, match="1 text files beside 1 corpus files"):
        read([root], include=("*.py", "*.jsonl"))


def test_sources_keep_their_order_and_files_are_sorted_within(tmp_path):
    tree(tmp_path / "t", {"2.txt": "t2", "10.txt": "t10"})
    write_jsonl(tmp_path / "j" / "b.jsonl", [{"text": "jb"}])
    write_jsonl(tmp_path / "j" / "a.jsonl", [{"text": "ja"}])
    pq.write_table(pa.table({"text": ["p"]}), tmp_path / "p.parquet")
    tree(tmp_path, {"last.txt": "l"})
    sources = [tmp_path / name for name in ("t", "j", "p.parquet", "last.txt")]
    assert texts(read(sources)) == ["t10", "t2", "ja", "jb", "p", "l"]
    assert texts(read(sources[::-1])) == ["l", "p", "ja", "jb", "t10", "t2"]


def test_a_single_file_is_a_domain_of_its_name(tmp_path):
    write_jsonl(tmp_path / "books.train.jsonl", [{"text": "a"}])
    tree(tmp_path, {"novel.txt": "b", ".profile": "c"})
    rows = read([tmp_path / name for name in ("books.train.jsonl", "novel.txt", ".profile")])
    assert [(r["domain"], r["path"]) for r in rows] == [
        ("books", "books.train.jsonl"),
        ("novel", "novel.txt"),
        (".profile", ".profile"),
    ]


def paths_of(sources):
    return [row["path"] for row in read(sources)]


def test_paths_of_several_sources_start_with_the_name_of_theirs(tmp_path, monkeypatch):
    tree(tmp_path, {"p/x/f.txt": "1", "q/x/f.txt": "2", "g.txt": "3"})
    assert paths_of([tmp_path / "p"]) == ["x/f.txt"]
    assert paths_of([tmp_path / "p", tmp_path / "q", tmp_path / "g.txt"]) == ["p/x/f.txt", "q/x/f.txt", "g.txt"]
    monkeypatch.chdir(tmp_path / "p")
    assert paths_of([".", "../q/"]) == ["p/x/f.txt", "q/x/f.txt"]
    assert [row["domain"] for row in read([".", "../q/"])] == ["x", "x"]


def test_sources_of_one_name_are_told_apart_by_more_of_their_path(tmp_path):
    tree(tmp_path, {"p/x/f.txt": "1", "q/x/f.txt": "2", "a/p/x/f.txt": "3", "p/f.txt": "4", "q/f.txt": "5"})
    assert paths_of([tmp_path / "p/x", tmp_path / "q/x"]) == ["p/x/f.txt", "q/x/f.txt"]
    assert paths_of([tmp_path / "p/f.txt", tmp_path / "q/f.txt"]) == ["p/f.txt", "q/f.txt"]
    sources = [tmp_path / name for name in ("p", "q/x", "a/p/x", "q/f.txt")]
    names = dict(zip(texts(read(sources)), paths_of(sources), strict=True))
    assert len(set(names.values())) == len(names) == 5


def test_a_relative_dot_gives_the_name_of_the_folder(tmp_path, monkeypatch):
    tree(tmp_path / "mine", {"a.txt": "a"})
    monkeypatch.chdir(tmp_path / "mine")
    assert [r["domain"] for r in read(["."])] == ["mine"]


def test_small_batches_of_text_files_keep_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr(text_reader, "BATCH_BYTES", 10)
    root = tree(tmp_path, {f"{i:03}.txt": "x" * (i % 7) for i in range(50)})
    rows = read([root])
    assert [(r["path"], len(r["text"])) for r in rows] == [(f"{i:03}.txt", i % 7) for i in range(50)]


def test_text_that_is_not_utf8_is_a_bad_document(tmp_path):
    root = tree(tmp_path, {"a.txt": "good", "b.bin": b"abc\xff", "c.txt": "good too"})
    with pytest.raises(CorpusError, match=r"b\.bin: not UTF-8 text \(byte 3\)"):
        read([root])
    bad = BadDocuments(skip=True)
    assert texts(read([root], bad=bad)) == ["good", "good too"]
    assert bad.count == 1


def test_text_files_have_no_domain_field(tmp_path):
    root = tree(tmp_path, {"a.txt": "x"})
    with pytest.raises(CorpusError, match="--domain-field"):
        read([root], domain_field="lang")


def test_file_names_that_are_not_utf8_are_shown_with_a_mark(tmp_path):
    folder = tmp_path / "d" / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir(parents=True)
        (folder / os.fsdecode(b"r\xe9sum\xe9.txt")).write_text("text")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (row,) = read([tmp_path / "d"])
    assert (row["path"], row["domain"]) == ("caf\ufffd/r\ufffdsum\ufffd.txt", "caf\ufffd")


def test_links_to_files_are_followed_and_broken_ones_are_not_there(tmp_path):
    tree(tmp_path / "store", {"blob": '{"text": "linked"}'})
    root = tree(tmp_path / "root", {"x/a.jsonl": '{"text": "plain"}'})
    (root / "x" / "b.jsonl").symlink_to(tmp_path / "store" / "blob")
    (root / "x" / "c.jsonl").symlink_to(tmp_path / "nowhere")
    assert texts(read([root])) == ["plain", "linked"]


def test_links_to_files_of_the_same_source_are_read_once(tmp_path, monkeypatch):
    root = tree(tmp_path / "root", {"x/a.jsonl": '{"text": "a"}', "x/.kept": '{"text": "b"}'})
    (root / "again.jsonl").symlink_to(root / "x" / "a.jsonl")
    (root / "x" / "up").symlink_to(root)
    (root / "x" / "b.jsonl").symlink_to(".kept")
    (tmp_path / "linked").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    for source in (root, "root", "root/**/*.jsonl", "linked/**"):
        assert texts(read([source])) == ["a", "b"], source
    # Where --include takes the link alone, it is read.
    assert texts(read([root], include=("again*",))) == ["a"]


def test_an_empty_source_is_not_the_folder_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path / "root", {"a.jsonl": '{"text": "a"}'}))
    with pytest.raises(CorpusError, match="a source is empty"):
        read([""])
    assert texts(read(["."])) == ["a"]


def test_a_folder_that_can_not_be_listed_is_an_error(tmp_path, monkeypatch):
    root = tree(tmp_path, {"a/x.txt": "1", "b/y.txt": "2"})
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PermissionError):
        read([root])


@pytest.mark.parametrize("name", ["missing", "missing.jsonl", "missing/below"])
def test_a_missing_source_is_named(tmp_path, name):
    with pytest.raises(CorpusError, match=f"{name}: no such file or folder"):
        read([tmp_path / name])


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(CorpusError, match="no files to read"):
        read([tmp_path])


def test_the_real_corpora_are_read_whole(shared):
    # Documents as the README of the corpora counts them, train and heldout together.
    options = ReadOptions("text", "meta.pile_set_name")
    counts: dict[str, int] = {}
    for batch in read_documents(find_files([shared / "corpora/mini-pile"], options), options, BadDocuments()):
        for value in batch.column("domain").value_counts().to_pylist():
            counts[value["values"]] = counts.get(value["values"], 0) + value["counts"]
    assert counts == {"Novels": 44, "German Law": 1017, "Mathematics": 118, "Technical Proposals": 751}
    options = ReadOptions("content", "lang")
    counts = {}
    for batch in read_documents(find_files([shared / "corpora/mini-stack"], options), options, BadDocuments()):
        for value in batch.column("domain").value_counts().to_pylist():
            counts[value["values"]] = counts.get(value["values"], 0) + value["counts"]
    assert counts == {"C++": 3083, "Python": 4273}


PATTERNS = {
    "a/*.jsonl": ["a/1", "a/2"],
    "*/1.jsonl": ["a/1", "b/1"],
    "**/*.jsonl": ["a/1", "a/2", "b/1", "b/deep/3"],
    "b/**": ["b/1", "b/deep/3"],
    "?/[12].jsonl": ["a/1", "a/2", "b/1"],
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("relative", [True, False])
def test_patterns_take_the_files_they_match(tmp_path, monkeypatch, pattern, relative):
    names = ["a/1", "a/2", "b/1", "b/deep/3"]
    tree(tmp_path / "c", {f"{name}.jsonl": f'{{"text": "{name}"}}' for name in names})
    tree(tmp_path / "c", {"b/.hidden.jsonl": '{"text": "hidden"}', "README.md": "about"})
    monkeypatch.chdir(tmp_path / "c")
    rows = read([pattern if relative else f"{tmp_path}/c/{pattern}"])
    assert texts(rows) == PATTERNS[pattern]
    fixed = pattern.split("/")[0] + "/" if pattern[0] in "ab" else ""
    assert [fixed + row["path"] for row in rows] == [f"{name}.jsonl" for name in PATTERNS[pattern]]


def test_domains_of_a_pattern_are_the_folders_below_what_is_fixed(tmp_path):
    tree(tmp_path / "c", {f"{name}.jsonl": f'{{"text": "{name}"}}' for name in ("x/1", "y/1", "2")})
    assert [r["domain"] for r in read([f"{tmp_path}/c/**/*.jsonl"])] == ["c", "x", "y"]
    assert [r["domain"] for r in read([f"{tmp_path}/c/x/*"])] == ["x"]


@pytest.mark.parametrize(("pattern", "part"), [("*.parquet", "no files match"), ("*", r"folders only.*write .*/\*\*")])
def test_a_pattern_without_files_is_refused(tmp_path, pattern, part):
    tree(tmp_path / "c", {"a/1.jsonl": "{}", "b/1.jsonl": "{}"})
    with pytest.raises(CorpusError, match=part):
        read([f"{tmp_path}/c/{pattern}"])


def test_a_name_with_brackets_is_a_name_where_there_is_such_a_file(tmp_path):
    root = tree(tmp_path / "c [1]", {"a[1].txt": "brackets", "a1.txt": "other"})
    assert texts(read([root / "a[1].txt"])) == ["brackets"]
    assert texts(read([root])) == ["other", "brackets"]


def test_a_file_given_twice_is_refused(tmp_path, monkeypatch):
    root = tree(tmp_path / "c", {"x/f.jsonl": '{"text": "1"}', "x/g.jsonl": '{"text": "2"}', "y/f.jsonl": "{}"})
    monkeypatch.chdir(root)
    (tmp_path / "linked").symlink_to(root)
    for sources in (
        [root, root / "x/f.jsonl"],
        ["x", "./x/"],
        ["x/*.jsonl", "*/f.jsonl"],
        [root / "x", tmp_path / "linked" / "x"],
        ["x/f.jsonl", "x/f.jsonl"],
    ):
        with pytest.raises(CorpusError, match=r"x/f\.jsonl.*: given twice"):
            read(sources)
    with pytest.raises(CorpusError, match=r"x/f\.jsonl and 1 more: given twice"):
        read(["x", "x/*"])


def test_text_files_that_are_too_long_or_unreadable_are_bad_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(text_reader, "LONGEST_FILE", 100)
    root = tree(tmp_path / "c", {"a.txt": "x" * 100, "b.txt": "x" * 101, "c.txt": "good"})
    with pytest.raises(CorpusError, match=r"b\.txt: longer than"):
        read([root])
    files = find_files([root], ReadOptions())
    (root / "a.txt").unlink()
    with pytest.raises(FileNotFoundError):
        list(read_documents(files, ReadOptions(), BadDocuments()))
    bad = BadDocuments(skip=True)
    (batch,) = read_documents(files, ReadOptions(), bad)
    assert batch.column("text").to_pylist() == [b"good"]
    assert [report.rpartition("/")[2] for report in bad.first] == [
        "a.txt: No such file or directory",
        "b.txt: longer than 0 MiB",
    ]


def test_skipping_goes_on_after_a_damaged_or_unreadable_file(tmp_path):
    good = "".join(f'{{"text": "good {i}"}}\n' for i in range(2000)).encode()
    packed = gzip.compress(good)
    files = {
        "1.jsonl.gz": packed,
        "2.jsonl.gz": packed[: len(packed) // 2],
        "3.jsonl.gz": b"no gzip",
        "4.parquet": b"PAR1 no",
        "5.arrow": b"no arrow",
        "6.warc": b"no warc",
        "7.idx": b"no tokens",
        "7.bin": b"",
        "8.jsonl": good[:-5],
        "9.jsonl": good,
    }
    root = tree(tmp_path / "c", files)
    pq.write_table(pa.table({"content": ["another field"]}), root / "90.parquet")
    found = find_files([root], ReadOptions())
    (root / "9.jsonl").rename(root / "91.jsonl")
    bad = BadDocuments(skip=True)
    batches = list(read_documents([*found, *find_files([root / "91.jsonl"], ReadOptions())], ReadOptions(), bad))
    # Of the file that was cut in half, what stands before the cut.
    assert 5999 + 700 < sum(map(len, batches)) < 5999 + 1000
    named = [Path(report.split(": ")[0]).name for report in bad.first]
    assert named == [
        "2.jsonl.gz", "3.jsonl.gz:1", "4.parquet", "5.arrow", "6.warc", "7.idx", "8.jsonl:2000", "9.jsonl",
        "90.parquet",
    ]  # fmt: skip
    assert bad.count == len(named)


def test_all_bad_documents_are_listed(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": 1}\n' * 5000)
    bad = BadDocuments(skip=True)
    assert read([tmp_path / "a.jsonl"], bad=bad) == []
    assert bad.count == len(bad.first) == 5000
    assert bad.first[4999].startswith(f"{tmp_path}/a.jsonl:5000: ")
