"""`memindex index open`: sidecars equal to the builder's, infini-gram's files untouched, whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from infini_gram_folder import content, occurrences, random_documents, write_folder, write_metadata
from synthetic_corpus import assert_refused, left_in, memindex, sentences, train_bpe, write_jsonl

from memindex import _core
from memindex.corpus.sources import ReadOptions
from memindex.errors import CorruptIndexError, MemindexError, QueryError
from memindex.index import Index, adopt_index, build_index
from memindex.index import folder_documents as folder_module
from memindex.index.manifest import INFINI_GRAM_FILES, sealed
from memindex.study.config import SequenceConfig
from memindex.study.sampling import sample_sequences


def corpus(folder: Path, lines: int = 400) -> Path:
    rows = [{"text": text, "meta": {"set": f"d{i * i % 5}", "n": i}} for i, text in enumerate(sentences(lines))]
    return write_jsonl(folder / "part" / "a.jsonl", rows).parent.parent


def plain_copy(index: Path, folder: Path) -> Path:
    """infini-gram's files of an index, and nothing else."""
    folder.mkdir()
    for file in index.iterdir():
        if file.name.split(".")[0] in INFINI_GRAM_FILES:
            shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """An index of our own builder, three shards, domains from a field."""
    folder = tmp_path_factory.mktemp("built")
    train_bpe(folder / "tokenizer.json")
    options = ReadOptions(domain_field="meta.set")
    build_index([corpus(folder / "c")], folder / "b", tokenizer=folder / "tokenizer.json", options=options, shards=3)
    return folder / "b"


@pytest.mark.parametrize("out", [None, "other"])
def test_sidecars_equal_those_of_the_builder(built, tmp_path, out):
    folder = plain_copy(built, tmp_path / "plain")
    before = content(folder)
    target = None if out is None else tmp_path / out
    adopt_index(folder, target, tokenizer=built / "tokenizer.json", domain_path="meta.set")
    place = target or folder
    ours, theirs = Index.open(place), Index.open(built)
    assert {name: content(folder)[name] for name in before} == before
    if out:
        assert content(folder) == before
        assert ours.manifest.data == str(folder)
        assert not any(name.split(".")[0] in INFINI_GRAM_FILES for name in left_in(place))
    for shard in range(3):
        assert (place / f"keys.{shard}").read_bytes() == (built / f"keys.{shard}").read_bytes()
    # The builder numbers domains in the order of the corpus, this in the order of the shards.
    assert sorted(ours.manifest.domains, key=str) == sorted(theirs.manifest.domains, key=str)
    texts = [" the", " quick brown", " wizards", " mix potions while", " nothing"]
    order = [ours.domains.index(name) for name in theirs.domains]
    assert (ours.count(texts) == theirs.count(texts)).all()
    assert (ours.count_by_domain(texts)[:, order] == theirs.count_by_domain(texts)).all()
    assert ours.count(texts).max() > 0
    around = [index.documents(" wizards", limit=None).to_pylist() for index in (ours, theirs)]
    assert [{**row, "metadata": json.loads(row["metadata"])} for row in around[0]] == [
        {**row, "metadata": json.loads(row["metadata"])} for row in around[1]
    ]
    assert around[0]
    columns = ["shard", "document", "first_token", "tokens", "domain", "path", "line"]
    rows = [pq.read_table(p / "documents.parquet", columns=columns).to_pylist() for p in (place, built)]
    assert sorted(rows[0], key=str) == sorted(rows[1], key=str)
    ours.verify()


@pytest.mark.parametrize("width", [1, 2, 4])
def test_one_shard_gives_the_builders_files_to_the_byte(tmp_path, width):
    options = ReadOptions(domain_field="meta.set")
    build_index([corpus(tmp_path / "c")], tmp_path / "built", tokenizer="bytes", options=options, token_width=width)
    folder = plain_copy(tmp_path / "built", tmp_path / "plain")
    adopt_index(folder, tokenizer="bytes", domain_path="meta.set")
    # Which files it was built of, nothing tells.
    assert {*left_in(folder), "sources.parquet"} == set(left_in(tmp_path / "built"))
    for name in ("keys.0", "domain.0", "domainsum.0"):
        assert (folder / name).read_bytes() == (tmp_path / "built" / name).read_bytes(), name
    tables = [pq.read_table(p / "documents.parquet").drop(["metadata"]) for p in (folder, tmp_path / "built")]
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("shards", [1, 11])
def test_counts_by_domain_equal_brute_force(tmp_path, width, shards):
    # Empty documents and runs of short ones: many in one span of positions.
    parts = [[[], [], *random_documents(s, 30), *[[1]] * 100, []] for s in range(shards)]
    metadata = [[{"metadata": {"s": f"d{(i + s) % 3}"}} for i in range(len(part))] for s, part in enumerate(parts)]
    folder = write_folder(tmp_path / "plain", parts, width, metadata)
    adopt_index(folder, tmp_path / "out", domain_path="s")
    index = Index.open(tmp_path / "out")
    queries = [[1], [1, 2], [0, 0], [3, 1, 2], [2, 2, 2, 2]]
    expected = np.zeros((len(queries), 3), dtype=np.int64)
    for part, rows in zip(parts, metadata, strict=True):
        for document, row in zip(part, rows, strict=True):
            domain = index.domains.index(row["metadata"]["s"])
            expected[:, domain] += [occurrences(document, query) for query in queries]
    assert (index.count_by_domain(queries) == expected).all()
    assert (index.count(queries) == expected.sum(axis=1)).all()
    assert (expected > 0).any(axis=1).sum() >= 4


def one_shard(folder: Path, rows: list[dict] | None) -> Path:
    return write_folder(folder, [[[i, i + 1] for i in range(len(rows) if rows else 4)]], 2, rows and [rows])


def documents_of(folder: Path) -> list[dict]:
    return pq.read_table(folder / "documents.parquet").to_pylist()


def test_metadata_become_columns_and_labels_are_looked_up_inside_first(tmp_path):
    rows = [
        {"path": "a/x.jsonl", "linenum": 6, "metadata": {"meta": {"subset": "Books"}, "n": 1.5}},
        {"path": "a/x.jsonl", "linenum": 7, "metadata": {}, "meta": {"subset": 7}},
        {"path": "b.jsonl", "linenum": 0, "metadata": {"meta": {"subset": None}}},
        {"own": [1, float("nan")], "meta": {"subset": "Bücher"}},
    ]
    folder = one_shard(tmp_path / "plain", rows)
    adopt_index(folder, domain_path="meta.subset")
    found = documents_of(folder)
    assert [d["domain"] for d in found] == ["Books", "7", "unlabelled", "Bücher"]
    assert [(d["path"], d["line"]) for d in found] == [("a/x.jsonl", 7), ("a/x.jsonl", 8), ("b.jsonl", 1), ("", 0)]
    assert json.loads(found[0]["metadata"]) == {"meta": {"subset": "Books"}, "n": 1.5}
    assert json.loads(found[3]["metadata"]) == {"own": [1, None], "meta": {"subset": "Bücher"}}
    assert [(d["first_token"], d["tokens"]) for d in found] == [(1, 2), (4, 2), (7, 2), (10, 2)]


@pytest.mark.parametrize(
    ("domain_path", "expected"),
    [(None, ["a", "plain", "c", "plain"]), ("path", ["a/b/x.jsonl", "y.jsonl", "c/z", "unlabelled"])],
)
def test_domains_without_labels_come_from_paths(tmp_path, domain_path, expected):
    paths = ["a/b/x.jsonl", "y.jsonl", "c/z"]
    folder = one_shard(tmp_path / "plain", [*({"path": p, "linenum": 0, "metadata": {}} for p in paths), {}])
    adopt_index(folder, domain_path=domain_path)
    assert [d["domain"] for d in documents_of(folder)] == expected


def test_a_folder_without_metadata_is_one_domain(tmp_path):
    folder = one_shard(tmp_path / "plain", None)
    adopt_index(folder)
    index = Index.open(folder)
    assert index.domains == ["plain"]
    assert index.count_by_domain([[1], [1, 2]]).tolist() == [[2], [1]]
    assert documents_of(folder)[1] == {
        "shard": 0,
        "document": 1,
        "first_token": 4,
        "tokens": 2,
        "domain": "plain",
        "path": "",
        "line": 0,
        "metadata": "{}",
    }
    with pytest.raises(QueryError, match="no tokenizer"):
        index.count("text")
    assert index.manifest.vocabulary == 5


def test_many_blocks_give_what_one_gives(tmp_path, monkeypatch):
    rows = [{"path": f"p{i % 7}/x", "linenum": i, "metadata": {"s": f"d{i % 4}", "long": "x" * i}} for i in range(100)]
    folder = one_shard(tmp_path / "plain", rows)
    adopt_index(folder, tmp_path / "one", domain_path="s")
    for name, value in (("BLOCK_DOCUMENTS", 7), ("BLOCK_BYTES", 300), ("BLOCK_TOKENS", 13)):
        monkeypatch.setattr(folder_module, name, value)
    adopt_index(folder, tmp_path / "many", domain_path="s")
    assert documents_of(tmp_path / "one") == documents_of(tmp_path / "many")
    assert (tmp_path / "one" / "domain.0").read_bytes() == (tmp_path / "many" / "domain.0").read_bytes()


def test_labels_that_are_not_there_are_refused(tmp_path):
    folder = one_shard(tmp_path / "plain", [{"path": "x", "linenum": 0, "metadata": {"meta": {"set": "a"}}}])
    before = content(folder)
    for path in ("meta.subset", "meta", "nothing"):
        with pytest.raises(MemindexError, match=rf"no document has text or a number at '{path}'"):
            adopt_index(folder, domain_path=path)
    with pytest.raises(MemindexError, match="names of fields"):
        adopt_index(folder, domain_path="meta..set")
    with pytest.raises(MemindexError, match=r"metadata\.0: missing: without metadata"):
        adopt_index(one_shard(tmp_path / "bare", None), domain_path="meta.set")
    assert (content(folder), left_in(folder)) == (before, sorted(before))


def damaged_lines(folder: Path, old: bytes, new: bytes) -> None:
    whole = (folder / "metadata.0").read_bytes()
    assert old in whole
    (folder / "metadata.0").write_bytes(whole.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'{"path": "p2"', b'("path": "p2"', r"metadata\.0: line 3: not JSON"),
        (b'{"path": "p2"}', b'["path", "p2"]', r"metadata\.0: line 3: not a JSON object"),
        (b'"p2"', b'"p\xff"', r"metadata\.0: line 3: not JSON"),
        (b'"p2"', b'"p222"', r"metaoff\.0: byte 0: the offsets of documents 0 to 5"),
        (b'"p2"}\n', b'"p2"} ', r"metaoff\.0: byte 0: the offsets"),
    ],
)
def test_damaged_metadata_are_named(tmp_path, old, new, message):
    folder = one_shard(tmp_path / "plain", [{"path": f"p{i}"} for i in range(6)])
    damaged_lines(folder, old, new)
    before = left_in(folder)
    with pytest.raises(CorruptIndexError, match=message):
        adopt_index(folder)
    assert left_in(folder) == before


@pytest.mark.parametrize("offset", [0, 8, 40])
@pytest.mark.parametrize("value", [1, 10**6, 2**63, 2**64 - 1])
def test_damaged_metadata_offsets_are_named(tmp_path, offset, value):
    folder = one_shard(tmp_path / "plain", [{"path": f"p{i}"} for i in range(6)])
    whole = bytearray((folder / "metaoff.0").read_bytes())
    whole[offset : offset + 8] = value.to_bytes(8, "little")
    (folder / "metaoff.0").write_bytes(whole)
    with pytest.raises(CorruptIndexError, match=r"metaoff\.0: byte 0: the offsets"):
        adopt_index(folder)


def test_a_tokenizer_with_fewer_ids_than_the_index_is_refused(tmp_path):
    train_bpe(tmp_path / "tokenizer.json")
    folder = write_folder(tmp_path / "plain", [[[1, 2, 60000]]], 2)
    with pytest.raises(MemindexError, match=r"tokenized\.0 holds the id 60000.*built with another one"):
        adopt_index(folder, tokenizer=tmp_path / "tokenizer.json")


def test_files_in_the_way_are_refused_and_kept(built, tmp_path):
    folder = plain_copy(built, tmp_path / "plain")
    for name in ("index.json", "keys.2", "documents.parquet", "tokenizer.json"):
        (folder / name).write_text("mine")
        before = content(folder)
        with pytest.raises(MemindexError, match=rf"{name} is there already: .*--out"):
            adopt_index(folder, tokenizer=built / "tokenizer.json")
        assert (content(folder), left_in(folder)) == (before, sorted(before))
        (folder / name).unlink()
    # The tokenizer itself may lie there.
    shutil.copy(built / "tokenizer.json", folder)
    adopt_index(folder, tokenizer=folder / "tokenizer.json")
    with pytest.raises(MemindexError, match=r"index\.json is there already"):
        adopt_index(folder)
    with pytest.raises(MemindexError, match="its own tokenizer"):
        Index.open(folder, tokenizer="bytes")


def test_out_must_be_free(tmp_path):
    folder = one_shard(tmp_path / "plain", None)
    (tmp_path / "out").mkdir()
    for out in (tmp_path / "out", folder):
        with pytest.raises(MemindexError, match="exists already"):
            adopt_index(folder, out)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_read_only_folder_is_told_to_use_out(tmp_path, monkeypatch, code):
    folder = one_shard(tmp_path / "plain", None)
    real = Path.mkdir

    def mkdir(self, *arguments, **options):
        if self.parent == folder:
            raise OSError(code, "not here", str(self))
        real(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    before = content(folder)
    with pytest.raises(MemindexError, match=r"plain: not here: put the new files elsewhere with --out"):
        adopt_index(folder)
    adopt_index(folder, tmp_path / "out")
    assert Index.open(tmp_path / "out").count_one([1]) == 2
    assert content(folder) == before


@pytest.mark.parametrize("stage", ["_core.write_sidecars", "_core.block_checksums", "Manifest.write"])
@pytest.mark.parametrize("out", [None, "other"])
def test_a_failure_leaves_nothing_and_a_rerun_works(tmp_path, monkeypatch, stage, out):
    from memindex.index import adopting

    folder = one_shard(tmp_path / "plain", None)
    before = left_in(folder), left_in(tmp_path)
    owner, name = stage.split(".")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(getattr(adopting, owner), name, full)
        with pytest.raises(OSError, match="no space"):
            adopt_index(folder, out and tmp_path / out)
    assert (left_in(folder), left_in(tmp_path)) == before
    adopt_index(folder, out and tmp_path / out)
    Index.open(tmp_path / out if out else folder).verify()


KILLED = """
import os, sys
from pathlib import Path
from memindex.index import adopt_index
moves = []
real = Path.replace
def replace(self, target):
    moves.append(target)
    if len(moves) > int(sys.argv[2]):
        os._exit(9)
    return real(self, target)
Path.replace = replace
adopt_index(sys.argv[1])
"""


@pytest.mark.parametrize("moves", [0, 1, 2, 4])
def test_a_killed_run_leaves_no_index_and_a_rerun_works(tmp_path, moves):
    folder = one_shard(tmp_path / "plain", None)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(moves)], check=False)
    assert killed.returncode == 9
    assert not (folder / "index.json").exists()
    # Until then it is what it was before: a plain folder.
    assert Index.open(folder).count_one([1]) == 2
    adopt_index(folder)
    Index.open(folder).verify()
    assert not [name for name in left_in(folder) if name.startswith(".")]


def test_damage_of_the_data_elsewhere_is_named(built, tmp_path):
    folder = plain_copy(built, tmp_path / "plain")
    adopt_index(folder, tmp_path / "out", tokenizer=built / "tokenizer.json")
    whole = (folder / "table.1").read_bytes()
    (folder / "table.1").write_bytes(whole[:-1])
    with pytest.raises(CorruptIndexError, match=r"plain/table\.1: \d+ bytes"):
        Index.open(tmp_path / "out")
    (folder / "table.1").write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(CorruptIndexError, match=r"plain/table\.1: "):
        Index.open(tmp_path / "out").verify()
    folder.rename(tmp_path / "moved")
    with pytest.raises(CorruptIndexError, match=r"plain/\w+\.0: missing.*\"data\" in .*index\.json"):
        Index.open(tmp_path / "out")


@pytest.mark.parametrize("data", ["relative", 5, ["/"]])
def test_a_manifest_with_damaged_data_is_refused(tmp_path, data):
    folder = one_shard(tmp_path / "plain", None)
    adopt_index(folder)
    manifest = json.loads((folder / "index.json").read_bytes())
    (folder / "index.json").write_bytes(sealed(manifest | {"data": data}))
    with pytest.raises(CorruptIndexError, match=r"data is .*no absolute path"):
        Index.open(folder)


def test_sidecars_of_wrong_labels_or_offsets_are_refused(tmp_path):
    folder = one_shard(tmp_path / "plain", None)
    out = tmp_path / "out"
    out.mkdir()
    codes = np.array([0, 1, 0, 1], dtype="<u2").tobytes()
    _core.write_sidecars(folder, out, 0, 2, 5, codes, 2, 128)
    with pytest.raises(MemindexError, match="not below 1"):
        _core.write_sidecars(folder, out, 0, 2, 5, codes, 1, 128)
    with pytest.raises(CorruptIndexError, match="4 documents, 3 labels"):
        _core.write_sidecars(folder, out, 0, 2, 5, codes[:6], 2, 128)
    for at, value in ((0, 2), (1, 0), (2, 6), (3, 10**9)):
        offsets = np.array([0, 6, 12, 18], dtype="<u8")
        offsets[at] = value
        (folder / "offset.0").write_bytes(offsets.tobytes())
        with pytest.raises(CorruptIndexError, match=r"offset\.0: byte \d+: documents are not in order"):
            _core.write_sidecars(folder, out, 0, 2, 5, codes, 2, 128)


def test_sequences_get_the_domains_of_their_documents_whatever_the_order_of_rows(built, tmp_path):
    adopt_index(plain_copy(built, tmp_path / "plain"), tmp_path / "out", domain_path="meta.set")
    config = SequenceConfig(prefix=2, suffix=2, uniform=200, per_bucket=0, heldout=0)
    found = [sample_sequences(Index.open(path), config)[0] for path in (built, tmp_path / "out")]
    assert found[0].column("domain").to_pylist() == found[1].column("domain").to_pylist()
    assert len(set(found[0].column("domain").to_pylist())) > 2


def test_the_command_line_opens_and_counts_by_domain(built, tmp_path):
    folder = plain_copy(built, tmp_path / "plain")
    options = ["--tokenizer", built / "tokenizer.json", "--domain-path", "meta.set", "--json"]
    opened = memindex("index", "open", folder, "--out", tmp_path / "out", *options)
    facts = json.loads(opened.stdout)
    assert (facts["index"], facts["documents"]) == (str(tmp_path / "out"), 400)
    assert set(facts["domains"]) == {"d0", "d1", "d4"}
    ours, theirs = (
        memindex("count", "-i", i, " the quick", "--by-domain", "--json") for i in (tmp_path / "out", built)
    )
    ours, theirs = json.loads(ours.stdout), json.loads(theirs.stdout)
    assert ours == theirs
    assert ours["count"] > 0
    assert memindex("index", "verify", tmp_path / "out").returncode == 0
    assert str(folder) in memindex("index", "info", tmp_path / "out").stdout
    assert_refused(memindex("index", "open", folder, "--out", tmp_path / "out"), "exists already")
    assert_refused(memindex("index", "open", tmp_path / "c"), "holds no infini-gram files")


def test_a_folder_of_infini_grams_own_builder(tmp_path):
    pytest.importorskip("infini_gram", reason="infini-gram has no wheel for this platform")
    from infini_gram.engine import InfiniGramEngine

    source, folder = corpus(tmp_path / "corpus"), tmp_path / "theirs"
    arguments = ["--data_dir", source, "--save_dir", folder, "--token_dtype", "u8", "--cpus", 1, "--mem", 1]
    command = [sys.executable, "-m", "infini_gram.indexing", *arguments, "--ulimit", 1024, "--shards", 2]
    flags = ["--add_metadata", "--add_unigram"]
    subprocess.run([*map(str, command), *flags], check=True, capture_output=True, cwd=tmp_path)
    before = content(folder)
    queries = [list(q) for q in (b"the", b" quick brown", b"wizards mix", b"e", b"7.", b"nothing like it")]
    engine = InfiniGramEngine(index_dir=str(folder), eos_token_id=0, vocab_size=255, token_dtype="u8")
    expected = [engine.count(query)["count"] for query in queries]
    del engine
    assert Index.open(folder).count(queries).tolist() == expected
    adopt_index(folder, tokenizer="bytes", domain_path="meta.set")
    index = Index.open(folder)
    assert index.count(queries).tolist() == expected
    assert index.count_by_domain(queries).sum(axis=1).tolist() == expected
    assert {d.name: d.documents for d in index.manifest.domains} == {"d0": 80, "d1": 160, "d4": 160}
    assert {name: value for name, value in content(folder).items() if name in before} == before
    index.verify()


def test_metadata_of_one_shard_only_are_taken(tmp_path):
    folder = write_folder(tmp_path / "plain", [[[1]], [[2]]], 1)
    write_metadata(folder, 1, [{"path": "a/b", "linenum": 0, "metadata": {}}])
    adopt_index(folder)
    assert [d["domain"] for d in documents_of(folder)] == ["plain", "a"]
    (folder / "metaoff.1").unlink()
    with pytest.raises(CorruptIndexError, match=r"metaoff\.1: missing"):
        adopt_index(folder, tmp_path / "out")
