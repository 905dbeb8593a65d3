"""Documents added to a finished index and taken out of it, against plain loops and indexes that were built so."""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from synthetic_corpus import assert_refused, left_in, memindex, sentences, train_bpe, write_jsonl

from memindex import _core
from memindex.corpus.sources import ReadOptions
from memindex.errors import CorruptIndexError, MemindexError
from memindex.index import Index, adopt_index, build_index
from memindex.index.adding import add_documents
from memindex.index.choosing import choose_documents
from memindex.index.removing import remove_documents

OPTIONS = ReadOptions("text", "d")
FIRST = [{"text": t, "d": f"d{i % 3}", "n": i} for i, t in enumerate(sentences(60))]
LATER = [
    {"text": t, "d": ["d1", "new"][i % 2], "n": 1000 + i} for i, t in enumerate([*sentences(25), *sentences(9, seed=5)])
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    file = tmp_path_factory.mktemp("bpe") / "small" / "tokenizer.json"
    train_bpe(file)
    return file


def corpus(folder, name, rows):
    for part in range(2):
        write_jsonl(folder / name / f"{part}.jsonl", rows[part::2])
    return [row for part in range(2) for row in rows[part::2]]


@pytest.fixture(params=[("bytes", 1), ("bpe", 3)], ids=str)
def index(request, tokenizer, tmp_path):
    """An index of FIRST, and its rows in order."""
    kind, shards = request.param
    rows = corpus(tmp_path, "first", FIRST)
    how = {"tokenizer": "bytes" if kind == "bytes" else tokenizer, "options": OPTIONS}
    build_index([tmp_path / "first"], tmp_path / "out", **how, shards=shards)
    return tmp_path / "out", rows


def occurrences(rows, query):
    return [sum(row[i : i + len(query)] == query for i in range(len(row) - len(query) + 1)) for row in rows]


def assert_answers(path, rows):
    """Every kind of answer is that of an index of these documents."""
    index = Index.open(path)
    ids = [index.tokenize([row["text"]]).row(0).tolist() for row in rows]
    assert (index.manifest.documents, index.manifest.tokens) == (len(rows), sum(map(len, ids)))
    held = collections.Counter(row["d"] for row in rows)
    assert {d.name: d.documents for d in index.manifest.domains if d.documents} == held
    queries = [row[start : start + n] for row in ids[::9] for start, n in ((0, 1), (3, 2), (5, 4), (0, len(row)))]
    counts = np.zeros((len(queries), len(index.domains)), int)
    for i, query in enumerate(queries):
        for row, count in zip(rows, occurrences(ids, query), strict=True):
            counts[i, index.domains.index(row["d"])] += count
    assert index.count(queries).tolist() == counts.sum(axis=1).tolist()
    assert index.count_by_domain(queries).tolist() == counts.tolist()
    assert [index.count_by_domain_one(query) for query in queries] == counts.tolist()
    within = index.document_count(queries)
    assert within.low.tolist() == within.high.tolist() == [np.count_nonzero(occurrences(ids, q)) for q in queries]
    follow = index.next_tokens(queries[1:3], by_domain=True)
    assert follow.domains.sum(axis=1).tolist() == follow.counts.tolist()
    followed = [int(row.sum()) for row in np.split(follow.counts, follow.offsets[1:-1])]
    assert followed == counts.sum(axis=1)[1:3].tolist()
    assert index.longest_match(ids[0]).lengths[0] == len(ids[0])
    places = index.documents(queries[2:3], limit=1000).to_pylist()
    found = sorted((place["path"], place["line"]) for place in places)
    table = pd.read_parquet(path / "documents.parquet")
    expected = [
        (place.path, place.line)
        for place, n in zip(table.itertuples(), occurrences(_in_table_order(index, table), queries[2]), strict=True)
        for _ in range(n)
    ]
    assert found == sorted(expected)
    cnf = index.count_cnf([ids[0][:1], ids[0][1:2]], max_distance=5)
    assert cnf.low == cnf.high == _near(ids, ids[0][0], ids[0][1], 5)
    numbers = [json.loads(text)["n"] for text in table["metadata"]]
    assert sorted(numbers) == sorted(row["n"] for row in rows)
    unigrams = collections.Counter()
    for shard in range(index.manifest.shards):
        for line in (path / f"unigram.{shard}").read_text().splitlines():
            unigrams[int(line.split()[0])] += int(line.split()[1])
    separator = 256**index.manifest.token_width - 1
    assert unigrams == collections.Counter(t for row in ids for t in row) + collections.Counter({separator: len(rows)})
    assert set(left_in(path)) == {*index.manifest.files, "index.json"}
    (_, windows) = _core.sample_windows(index.shards, 3, 10, 1)
    assert sum(total for *_, total in windows) == sum(max(len(row) - 2, 0) for row in ids)
    index.verify()


def _in_table_order(index, table):
    return [
        index.tokens_of_shard(row.shard)[row.first_token : row.first_token + row.tokens].tolist()
        for row in table.itertuples()
    ]


def _near(ids, one, other, distance):
    """Places of the rarer of two tokens with the other within the distance."""
    places = [[[i for i, t in enumerate(row) if t == token] for row in ids] for token in (one, other)]
    if sum(map(len, places[1])) < sum(map(len, places[0])):
        places.reverse()
    return sum(any(abs(i - j) <= distance for j in there) for here, there in zip(*places, strict=True) for i in here)


def files_of(path, but=("index.json", "checksums.bin")):
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name not in but}


def test_added_documents_are_in_every_answer_and_old_shards_stay(index, tmp_path):
    path, rows = index
    before = {file.name: (file.stat().st_ino, file.read_bytes()) for file in path.iterdir()}
    report = add_documents(path, [corpus_of(tmp_path, "later", LATER)], shards=2)
    later = [row for part in range(2) for row in LATER[part::2]]
    old = Index.open(path).manifest.shards - 2
    assert report.manifest.shards == old + 2
    for name, (inode, content) in before.items():
        if name.rpartition(".")[2].isdecimal():
            assert ((path / name).stat().st_ino, (path / name).read_bytes()) == (inode, content)
    assert Index.open(path).domains == ["d0", "d2", "d1", "new"]
    assert_answers(path, rows + later)
    # And once more, on top of that.
    write_jsonl(tmp_path / "last" / "x.jsonl", [{"text": "one more document", "d": "d0", "n": 5000}])
    add_documents(path, [tmp_path / "last"])
    assert_answers(path, [*rows, *later, {"text": "one more document", "d": "d0", "n": 5000}])
    assert [(r.kind, r.documents) for r in Index.open(path).manifest.revisions] == [("add", len(LATER)), ("add", 1)]


def corpus_of(folder, name, rows):
    corpus(folder, name, rows)
    return folder / name


def test_domains_beyond_256_come_to_shards_that_have_one_byte_for_them(tmp_path):
    first = [{"text": f"document a{i % 7}b", "d": f"old {i}", "n": i} for i in range(250)]
    later = [{"text": f"document a{i % 7}b", "d": f"new {i}", "n": 300 + i} for i in range(20)]
    write_jsonl(tmp_path / "first.jsonl", first)
    write_jsonl(tmp_path / "later.jsonl", later)
    build_index([tmp_path / "first.jsonl"], tmp_path / "out", tokenizer="bytes", options=OPTIONS)
    add_documents(tmp_path / "out", [tmp_path / "later.jsonl"])
    opened = Index.open(tmp_path / "out")
    assert (len(opened.domains), opened.manifest.shard_domains) == (270, ((250, 8000), (270, 8640)))
    assert_answers(tmp_path / "out", first + later)
    remove_documents(tmp_path / "out", documents=[(0, 5)])
    assert_answers(tmp_path / "out", first[:5] + first[6:] + later)


REMOVALS = {
    "some by number": {"documents": [(0, 0), (0, 7)]},
    "a file": {"paths": ["1.jsonl"]},
    "a domain": {"where": "domain = 'd1'"},
    "by metadata": {"where": "CAST(metadata->>'n' AS INT) % 4 = 1"},
    "the last": {"where": "CAST(metadata->>'n' AS INT) > 50"},
    "all kinds": {"documents": [(0, 3)], "paths": ["0.jsonl"], "where": "line < 4"},
}


def is_gone(what, place, row):
    return (
        (place.shard, place.document) in what.get("documents", ())
        or place.path in what.get("paths", ())
        or {
            None: False,
            "domain = 'd1'": row["d"] == "d1",
            "CAST(metadata->>'n' AS INT) % 4 = 1": row["n"] % 4 == 1,
            "CAST(metadata->>'n' AS INT) > 50": row["n"] > 50,
            "line < 4": place.line < 4,
        }[what.get("where")]
    )


@pytest.mark.parametrize("what", REMOVALS.values(), ids=REMOVALS)
def test_removed_documents_are_in_no_answer(index, what, tmp_path):
    path, rows = index
    places = pd.read_parquet(path / "documents.parquet").itertuples()
    left = [row for row, place in zip(rows, places, strict=True) if not is_gone(what, place, row)]
    assert 0 < len(left) < len(rows)
    report = remove_documents(path, **what)
    assert report.documents == len(rows) - len(left)
    assert_answers(path, left)


def test_an_index_without_documents_is_that_which_never_had_them(tokenizer, tmp_path):
    rows = FIRST[:40]
    write_jsonl(tmp_path / "a" / "x.jsonl", rows)
    build_index([tmp_path / "a"], tmp_path / "out", tokenizer=tokenizer, options=OPTIONS, key_stride=4)
    remove_documents(tmp_path / "out", where="line % 5 = 4")
    write_jsonl(tmp_path / "b" / "x.jsonl", [row for i, row in enumerate(rows, start=1) if i % 5 != 4])
    build_index([tmp_path / "b"], tmp_path / "never", tokenizer=tokenizer, options=OPTIONS, key_stride=4)
    # Which file was read, and where a document stood in it, differs.
    but = ("index.json", "checksums.bin", "documents.parquet", "metadata.0", "metaoff.0", "sources.parquet")
    assert files_of(tmp_path / "out", but) == files_of(tmp_path / "never", but)


def test_a_shard_whose_documents_all_leave_leaves_too(tokenizer, tmp_path):
    rows = corpus(tmp_path, "first", FIRST)
    build_index([tmp_path / "first"], tmp_path / "out", tokenizer=tokenizer, options=OPTIONS, shards=3)
    remove_documents(tmp_path / "out", where="shard = 1 OR (shard = 2 AND document = 0)")
    assert Index.open(tmp_path / "out").manifest.shards == 2
    assert_answers(tmp_path / "out", [row for i, row in enumerate(rows) if i % 3 != 1 and i != 2])


def test_who_has_the_index_open_sees_the_old_one_or_is_told(index):
    path, rows = index
    readers = [Index.open(path) for _ in range(2)]
    query = readers[0].tokenize([rows[0]["text"]]).row(0)[:3].tolist()
    count = readers[0].count_one(query)
    assert count > 0
    documents = readers[0].documents(query, limit=100).to_pylist()
    remove_documents(path, documents=[(0, 0)])
    assert [reader.count_one(query) for reader in readers] == [count, count]
    # Also of the reader that asks for documents only now.
    assert [reader.documents(query, limit=100).to_pylist() for reader in readers] == [documents, documents]
    with pytest.raises(CorruptIndexError, match="another version took its place"):
        readers[0].tokens_of_shard(0)
    assert Index.open(path).count_one(query) < count


def test_opening_while_versions_change_gives_one_of_them(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": f"text {i % 50}", "d": "x", "n": i} for i in range(200)])
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", options=OPTIONS)
    code = (
        "import sys; from memindex.index.removing import remove_documents\n"
        "for _ in range(4): remove_documents(sys.argv[1], documents=[(0, 0)])"
    )
    seen = set()
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            opened = Index.open(tmp_path / "out")
            assert opened.count_one(list(b"text ")) == opened.manifest.documents
            seen.add(opened.manifest.documents)
        assert process.returncode == 0, process.stderr.read()
    assert seen <= set(range(196, 201))
    Index.open(tmp_path / "out").verify()


REFUSED = {
    "nothing named": ([], "say which documents"),
    "no such document": (["--document", "0:999"], "document 0:999: no document of the index; nothing was removed"),
    "no such shard": (["--document", "9:0"], "document 9:0"),
    "not a number": (["--document", "x"], "SHARD:NUMBER"),
    "no such path": (["--path", "elsewhere.jsonl"], "path elsewhere.jsonl"),
    "one of two": (["--document", "0:0", "--path", "it's"], "path it's: no document"),
    "bad SQL": (["--where", "nothing = 3"], "--where nothing = 3"),
    "two statements": (["--where", "true; DROP TABLE x"], "--where"),
    "everything": (["--where", "true"], "no document would be left"),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    write_jsonl(folder / "a.jsonl", FIRST[:6])
    build_index([folder / "a.jsonl"], folder / "out", tokenizer="bytes", options=OPTIONS)
    return folder / "out"


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_removals_that_can_not_be_done_change_nothing(small, arguments, message):
    before = files_of(small, ())
    assert_refused(memindex("index", "remove", small, *arguments), message)
    assert files_of(small, ()) == before
    assert left_in(small.parent) == ["a.jsonl", "out"]


def test_domains_of_what_is_added_may_be_told_in_another_way(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "one", "lang": "de"}])
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", options=ReadOptions(domain_field="lang"))
    write_jsonl(tmp_path / "b.jsonl", [{"text": "two"}, {"text": "three", "lang": "en"}])
    (tmp_path / "c.txt").write_text("four")
    for file, expression in (("b.jsonl", "coalesce(lang, 'none')"), ("c.txt", "'misc'")):
        done = memindex("index", "add", tmp_path / "out", tmp_path / file, "--domain-sql", expression)
        assert done.returncode == 0, done.stderr
    assert Index.open(tmp_path / "out").domains == ["de", "none", "en", "misc"]
    # One that is made of the domain has the field's.
    write_jsonl(tmp_path / "e.jsonl", [{"text": "six", "lang": "it"}])
    assert memindex("index", "add", tmp_path / "out", tmp_path / "e.jsonl", "--domain-sql", "upper(domain)").stdout
    assert Index.open(tmp_path / "out").domains == ["de", "none", "en", "misc", "IT"]
    # The index goes on as it was built.
    write_jsonl(tmp_path / "d.jsonl", [{"text": "five", "lang": "de"}])
    assert memindex("index", "add", tmp_path / "out", tmp_path / "d.jsonl").returncode == 0
    assert Index.open(tmp_path / "out").count_by_domain(["five"]).tolist() == [[1, 0, 0, 0, 0]]


def test_the_same_files_are_not_added_twice_and_other_folders_not_at_all(small, tmp_path):
    write_jsonl(tmp_path / "later.jsonl", LATER[:3])
    write_jsonl(tmp_path / "a.jsonl", FIRST[:3])
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", options=OPTIONS)
    result = memindex("index", "add", tmp_path / "out", tmp_path / "later.jsonl", "--json")
    assert (json.loads(result.stdout)["documents"], json.loads(result.stdout)["shards"]) == (6, 2), result.stderr
    assert_refused(memindex("index", "add", tmp_path / "out", tmp_path / "later.jsonl"), "went into it before")
    assert_refused(memindex("index", "add", tmp_path / "nowhere", tmp_path / "later.jsonl"), "no such folder")
    (tmp_path / "bad.jsonl").write_text("{")
    assert_refused(memindex("index", "add", tmp_path / "out", tmp_path / "bad.jsonl"), "bad.jsonl:1")
    adopt_index(tmp_path / "out", out=tmp_path / "adopted", tokenizer="bytes")
    assert_refused(memindex("index", "add", tmp_path / "adopted", tmp_path / "a.jsonl"), "can be changed")
    assert_refused(memindex("index", "remove", tmp_path / "adopted", "--document", "0:0"), "can be changed")
    assert Index.open(tmp_path / "out").manifest.documents == 6
    assert "3 documents, " in memindex("index", "info", tmp_path / "out").stdout


def test_dry_runs_and_results_are_told(small, tmp_path):
    result = memindex("index", "remove", small, "--where", "document < 2", "--dry-run", "--json")
    assert json.loads(result.stdout) == {"index": str(small), "documents": 2, "shards": 1}
    write_jsonl(tmp_path / "a.jsonl", FIRST[:6])
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", options=OPTIONS)
    result = memindex("index", "remove", tmp_path / "out", "--document", "0:1", "--document", "3", "--json")
    told = json.loads(result.stdout)
    assert (told["removed_documents"], told["documents"], told["sorted_shards"]) == (2, 4, 1), result.stderr
    assert told["removed_tokens"] == sum(len(FIRST[i]["text"]) for i in (1, 3))
    assert choose_documents(tmp_path / "out", where="true")[0].tolist() == [0, 1, 2, 3]


KILLED = """
import os, signal, sys
from memindex import _core
from memindex.index import revising, removing, adding
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
moment = sys.argv[2]
if moment == "before":
    _core.exchange = die
elif moment == "after":
    exchange = _core.exchange
    _core.exchange = lambda one, other: (exchange(one, other), die())
elif moment == "sorted":
    revising.write_checksums = die
if sys.argv[3] == "add":
    adding.add_documents(sys.argv[1], [sys.argv[4]])
else:
    removing.remove_documents(sys.argv[1], documents=[(0, 2)])
"""


@pytest.mark.parametrize("what", ["add", "remove"])
@pytest.mark.parametrize("moment", ["sorted", "before", "after"])
def test_a_revision_that_is_killed_is_done_once(tmp_path, what, moment):
    write_jsonl(tmp_path / "in" / "a.jsonl", FIRST[:9])
    write_jsonl(tmp_path / "in" / "b.jsonl", LATER[:5])
    build_index([tmp_path / "in" / "a.jsonl"], tmp_path / "out", tokenizer="bytes", options=OPTIONS)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "out"), moment, what, str(tmp_path / "in" / "b.jsonl")]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert result.returncode == -signal.SIGKILL
    after = FIRST[:9] + LATER[:5] if what == "add" else FIRST[:2] + FIRST[3:9]
    assert_answers(tmp_path / "out", after if moment == "after" else FIRST[:9])
    if what == "add":
        add_documents(tmp_path / "out", [tmp_path / "in" / "b.jsonl"])
    else:
        remove_documents(tmp_path / "out", documents=[(0, 2)])
    assert_answers(tmp_path / "out", after)
    assert left_in(tmp_path) == ["in", "out"]


def test_systems_that_can_not_exchange_folders_rename_them(tmp_path, monkeypatch):
    def refuse(one, other):
        raise OSError(38, "Function not implemented")

    write_jsonl(tmp_path / "a.jsonl", FIRST[:9])
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", options=OPTIONS)
    monkeypatch.setattr(_core, "exchange", refuse)
    remove_documents(tmp_path / "out", documents=[(0, 2)])
    assert_answers(tmp_path / "out", FIRST[:2] + FIRST[3:9])
    assert left_in(tmp_path) == ["a.jsonl", "out"]


def test_a_revision_that_fails_leaves_the_index_as_it_was(index, tmp_path, monkeypatch):
    path, rows = index

    def full(*_):
        raise OSError(28, "No space left on device", "index.json")

    with monkeypatch.context() as patch:
        patch.setattr("memindex.index.revising._take_place", full)
        with pytest.raises(OSError, match="No space left on device; finished units are kept"):
            remove_documents(path, documents=[(0, 1)])
    assert_answers(path, rows)
    with pytest.raises(MemindexError, match="no document of the index"):
        remove_documents(path, paths=["nothing"])
    remove_documents(path, documents=[(0, 1)])
    assert Index.open(path).manifest.documents == len(rows) - 1
    assert left_in(tmp_path) == ["first", "out"]
