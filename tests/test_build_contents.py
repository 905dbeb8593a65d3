"""What a build writes, against the tokens and documents computed here with `tokenizers` and plain loops."""

from __future__ import annotations

import collections
import gzip
import json
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from synthetic_corpus import AWKWARD, sentences, train_bpe, word_level, write_jsonl

from memindex.corpus.sources import ReadOptions
from memindex.corpus.tokenizer import load_tokenizer
from memindex.errors import CorpusError, CorruptIndexError, MemindexError
from memindex.index import Index, Manifest, build_index
from memindex.index.manifest import sealed

TEXTS = [*sentences(120), *AWKWARD, "", *sentences(40), "a"]
ROWS = [
    {"id": i, "text": text, "meta": {"set": f"domain {i % 7 % 3}", "q": AWKWARD[i % len(AWKWARD)]}}
    for i, text in enumerate(TEXTS)
]
OPTIONS = ReadOptions("text", "meta.set")


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("build") / "small" / "tokenizer.json"
    train_bpe(file)
    return file


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_jsonl(folder / "a.jsonl", ROWS[:50])
    write_jsonl(folder / "b.jsonl", ROWS[50:])
    return folder


@pytest.fixture(scope="session", params=[("bytes", 1), ("bytes", 3), ("bpe", 1), ("bpe", 3), ("bpe", 4)], ids=str)
def built(request, corpus, tokenizer_file, tmp_path_factory):
    kind, shards = request.param
    out = tmp_path_factory.mktemp("index") / "out"
    build_index(
        [corpus],
        out,
        tokenizer="bytes" if kind == "bytes" else tokenizer_file,
        options=OPTIONS,
        shards=shards,
    )
    return Index.open(out), shards, kind, oracle_ids(kind, tokenizer_file, TEXTS)


def oracle_ids(kind, file, texts):
    if kind == "bytes":
        return [list(text.encode("utf-8")) for text in texts]
    made = tokenizers.Tokenizer.from_file(str(file))
    return [made.encode(text, add_special_tokens=False).ids for text in texts]


def occurrences(documents, query):
    width = len(query)
    return [sum(ids[i : i + width] == query for i in range(len(ids) - width + 1)) for ids in documents]


def test_the_manifest_counts_documents_tokens_and_domains(built):
    index, shards, _, ids = built
    manifest = index.manifest
    assert (manifest.documents, manifest.tokens, manifest.shards) == (len(ROWS), sum(map(len, ids)), shards)
    documents, tokens = collections.Counter(), collections.Counter()
    for row, row_ids in zip(ROWS, ids, strict=True):
        documents[row["meta"]["set"]] += 1
        tokens[row["meta"]["set"]] += len(row_ids)
    assert {d.name: (d.documents, d.tokens) for d in manifest.domains} == {
        name: (documents[name], tokens[name]) for name in documents
    }
    assert [d.name for d in manifest.domains] == list(documents)


def test_token_files_hold_a_separator_before_each_document(built):
    index, shards, kind, ids = built
    width = index.manifest.token_width
    assert width == (1 if kind == "bytes" else 2)
    for shard in range(shards):
        expected, starts = [], []
        for row in ids[shard::shards]:
            starts.append(len(expected) * width)
            expected += [256**width - 1, *row]
        stored = np.frombuffer((index.path / f"tokenized.{shard}").read_bytes(), f"<u{width}")
        assert stored.tolist() == expected
        offsets = np.frombuffer((index.path / f"offset.{shard}").read_bytes(), "<u8")
        assert offsets.tolist() == starts


def test_document_rows_lead_to_the_text(built):
    index, shards, _, ids = built
    table = pd.read_parquet(index.path / "documents.parquet")
    assert len(table) == len(ROWS)
    for number, (row, place) in enumerate(zip(ROWS, table.itertuples(), strict=True)):
        assert (place.shard, place.document) == (number % shards, number // shards)
        assert (place.domain, place.tokens) == (row["meta"]["set"], len(ids[number]))
        assert (place.path, place.line) == (("a.jsonl", number + 1) if number < 50 else ("b.jsonl", number - 49))
        assert json.loads(place.metadata) == {"id": row["id"], "meta": row["meta"]}
        stored = index.tokens_of_shard(place.shard)[place.first_token : place.first_token + place.tokens]
        assert index.tokenizer.decode(stored.tolist()) == row["text"]


def test_metadata_files_are_json_lines_with_offsets(built):
    index, shards, _, _ = built
    for shard in range(shards):
        data = (index.path / f"metadata.{shard}").read_bytes()
        lines = data.splitlines(keepends=True) if b"\r" not in data else data.split(b"\n")
        assert data.endswith(b"}\n")
        offsets = np.frombuffer((index.path / f"metaoff.{shard}").read_bytes(), "<u8").tolist()
        ends = [*offsets[1:], len(data)]
        assert len(offsets) == len(ROWS[shard::shards]) == len([line for line in lines if line])
        for start, end, number in zip(offsets, ends, range(shard, len(ROWS), shards), strict=True):
            row = ROWS[number]
            name, line = ("a.jsonl", number) if number < 50 else ("b.jsonl", number - 50)
            assert json.loads(data[start:end]) == {
                "path": name,
                "linenum": line,
                "metadata": {"id": row["id"], "meta": row["meta"]},
            }
            assert data[start:end].count(b"\n") == 1


def test_unigrams_are_lines_of_id_and_count(built):
    index, shards, _, ids = built
    for shard in range(shards):
        counts = collections.Counter(token for row in ids[shard::shards] for token in row)
        counts[256**index.manifest.token_width - 1] = len(ids[shard::shards])
        lines = (index.path / f"unigram.{shard}").read_text().splitlines()
        assert {int(a): int(b) for a, b in map(str.split, lines)} == counts


def test_counts_equal_a_plain_search_in_all_and_by_domain(built):
    index, _, _, ids = built
    queries = []
    for number, row in enumerate(ids):
        for length in (1, 2, 3, 7):
            start = number * 13 % max(len(row) - length + 1, 1)
            if len(row) >= length:
                queries.append(row[start : start + length])
    queries = [*queries[::7], [1, 2, 3, 4, 5, 6], [0], [200]]
    expected = np.zeros((len(queries), len(index.domains)), int)
    for i, query in enumerate(queries):
        for row, count in zip(ROWS, occurrences(ids, query), strict=True):
            expected[i, index.domains.index(row["meta"]["set"])] += count
    assert index.count(queries).tolist() == expected.sum(axis=1).tolist()
    assert index.count_by_domain(queries).tolist() == expected.tolist()
    for query, by_domain in zip(queries[::5], expected.tolist()[::5], strict=True):
        assert index.count_one(query) == sum(by_domain)
        assert index.count_by_domain_one(query) == by_domain


def test_every_file_is_in_the_manifest_and_verifies(built):
    index, *_ = built
    assert {p.name for p in index.path.iterdir()} == {*index.manifest.files, "index.json"}
    assert {name: facts.bytes for name, facts in index.manifest.files.items()} == {
        name: (index.path / name).stat().st_size for name in index.manifest.files
    }
    index.verify()


def test_the_index_carries_its_tokenizer(built, tokenizer_file):
    index, _, kind, _ = built
    copy = index.path / "tokenizer.json"
    assert copy.exists() == (kind == "bpe")
    if kind == "bpe":
        assert copy.read_bytes() == tokenizer_file.read_bytes()
        assert index.manifest.tokenizer == "small"
    assert index.tokenizer.checksum == index.manifest.tokenizer_checksum


def test_as_many_shards_as_documents_and_no_more(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": t} for t in ("hello world hello", "hell", "", "world")])
    # infini-gram crashes on an empty shard, so none is ever built.
    with pytest.raises(CorpusError, match="4 documents can't fill 5 shards"):
        build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", shards=5)
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", shards=4)
    index = Index.open(tmp_path / "out")
    assert index.count(["hell", "world", "o", "zzz"]).tolist() == [3, 2, 4, 0]
    assert index.count_by_domain(["o"]).tolist() == [[4]]
    index.verify()


def test_documents_without_any_text_make_an_index(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": ""}] * 5)
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", shards=2)
    index = Index.open(tmp_path / "out")
    assert (index.manifest.documents, index.manifest.tokens) == (5, 0)
    assert index.count(["a"]).tolist() == [0]
    index.verify()


@pytest.mark.parametrize("count", [1, 255, 256, 257, 300, 700])
def test_domain_columns_of_one_and_two_bytes(tmp_path, count):
    names = [f"domain {i}" for i in range(count)]
    rows = [{"text": f"x{'y' * (i % 4)}z", "d": names[i * 7 % count]} for i in range(count * 2 + 5)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", options=ReadOptions("text", "d"), shards=2)
    index = Index.open(tmp_path / "out")
    order = list(dict.fromkeys(row["d"] for row in rows))
    assert index.domains == order
    stored = sum((tmp_path / "out" / f"tokenized.{s}").stat().st_size for s in range(2))
    column = sum((tmp_path / "out" / f"domain.{s}").stat().st_size for s in range(2))
    assert column == stored * (2 if len(order) > 256 else 1)
    for query in ("x", "y", "yy", "xz"):
        expected = dict.fromkeys(order, 0)
        for row, n in zip(
            rows, occurrences([list(r["text"].encode()) for r in rows], list(query.encode())), strict=True
        ):
            expected[row["d"]] += n
        assert index.count_by_domain([query])[0].tolist() == list(expected.values())
    index.verify()


def test_more_domains_than_two_bytes_hold_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("memindex.index.document_table.MOST_DOMAINS", 10)
    write_jsonl(tmp_path / "a.jsonl", [{"text": "t", "d": str(i)} for i in range(11)])
    with pytest.raises(CorpusError, match="more than 10 domains"):
        build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", options=ReadOptions("text", "d"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl"]


def test_a_vocabulary_beyond_two_bytes(tmp_path):
    words = [f"w{i}" for i in range(70_000)]
    word_level(tmp_path / "words.json", words)
    texts = ["w0 w69999 w65534 w65535", "w69999 w65534", "w65533 w65534 nothing"]
    write_jsonl(tmp_path / "a.jsonl", [{"text": t} for t in texts])
    with pytest.warns(UserWarning, match="tokenizing slowly"):
        build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer=tmp_path / "words.json")
    index = Index.open(tmp_path / "out")
    assert (index.manifest.token_width, index.manifest.vocabulary) == (4, 70_001)
    assert index.tokens_of_shard(0).tolist() == [
        *[2**32 - 1, 1, 70_000, 65_535, 65_536],
        *[2**32 - 1, 70_000, 65_535],
        *[2**32 - 1, 65_534, 65_535, 0],
    ]
    assert index.count([[70_000, 65_535], [65_535], [65_536], [0], [69_000]]).tolist() == [2, 3, 1, 1, 0]
    index.verify()


@pytest.mark.parametrize("width", [2, 4])
def test_a_wider_token_may_be_asked_for(tmp_path, width):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "abab"}])
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", token_width=width)
    index = Index.open(tmp_path / "out")
    assert (tmp_path / "out" / "tokenized.0").stat().st_size == 5 * width
    assert index.count(["ab", "b", "ba"]).tolist() == [2, 2, 1]
    index.verify()


@pytest.mark.parametrize("width", [0, 3, 8, -1])
def test_other_token_widths_are_refused(tmp_path, width):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    with pytest.raises(MemindexError, match="1, 2 or 4"):
        build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", token_width=width)


def test_a_tokenizer_that_gives_ids_beyond_its_vocabulary_is_stopped(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "abc"}])
    loaded = load_tokenizer("bytes")
    monkeypatch.setattr(type(loaded), "encode_batch", lambda self, texts: builder_ids([[97, 255, 98]]))
    with pytest.raises(CorpusError, match="token id 255 is out of range"):
        build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer=loaded)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl"]


def builder_ids(rows):
    from memindex.ragged import Ragged, from_lists

    made = from_lists(rows)
    return Ragged(made.values.astype(np.uint32), made.offsets)


def test_small_batches_give_the_same_index(corpus, tokenizer_file, tmp_path, monkeypatch):
    monkeypatch.setattr("memindex.corpus.jsonl.BATCH_BYTES", 700)
    build_index([corpus], tmp_path / "small", tokenizer=tokenizer_file, options=OPTIONS, shards=3)
    monkeypatch.undo()
    build_index([corpus], tmp_path / "large", tokenizer=tokenizer_file, options=OPTIONS, shards=3)
    small, large = (Manifest.read(tmp_path / name) for name in ("small", "large"))
    # The pages of the Parquet file follow the batches; its rows do not.
    different = {name for name in large.files if small.files[name] != large.files[name]}
    assert different <= {"documents.parquet"}
    frames = [pd.read_parquet(tmp_path / name / "documents.parquet") for name in ("small", "large")]
    pd.testing.assert_frame_equal(*frames)


def test_skipped_documents_are_counted_in_the_manifest(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\nnonsense\n{"text": "two"}\n{"txt": 3}\n')
    with pytest.raises(CorpusError, match=r"a\.jsonl:2"):
        build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes")
    report = build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes", skip_bad=True)
    assert (report.skipped.count, report.manifest.skipped_documents, report.manifest.documents) == (2, 2, 2)
    assert Index.open(tmp_path / "out").count(["one", "two", "t", "nonsense"]).tolist() == [1, 1, 1, 0]


def test_progress_reaches_the_end_of_both_stages(corpus, tmp_path):
    told = []
    build_index([corpus], tmp_path / "out", tokenizer="bytes", shards=2, progress=lambda *step: told.append(step))
    size = sum(p.stat().st_size for p in corpus.iterdir())
    assert [step for step in told if step[0] == "tokenize"][-1] == ("tokenize", size, size)
    manifest = Index.open(tmp_path / "out").manifest
    # Every document ends in a separator, which is sorted too.
    tokens = manifest.tokens + manifest.documents
    sort = [step for step in told if step[0] == "sort"]
    assert sort[0] == ("sort", 0, tokens)
    assert 0 < sort[1][1] < tokens
    assert sort[2:] == [("sort", tokens, tokens)]


def packed(data):
    import zstandard

    return {"a.jsonl": data, "a.jsonl.gz": gzip.compress(data), "a.jsonl.zst": zstandard.compress(data)}


def progress_of_one_file(file, tmp_path):
    told = []
    build_index([file], tmp_path / "out", tokenizer="bytes", progress=lambda *step: told.append(step))
    size = file.stat().st_size
    steps = [done for stage, done, total in told if stage == "tokenize" and total == size]
    assert steps == sorted(steps)
    assert steps[-1] == size
    return [done / size for done in steps]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_progress_inside_a_file_follows_its_bytes(tmp_path, monkeypatch, name):
    monkeypatch.setattr("memindex.corpus.jsonl.BATCH_BYTES", 100_000)
    # Text that hardly packs: a packed file is read in blocks of some size.
    random = np.random.default_rng(1)
    data = b"".join(b'{"text": "%s"}\n' % random.bytes(500).hex().encode() for _ in range(2000))
    (tmp_path / name).write_bytes(packed(data)[name])
    parts = progress_of_one_file(tmp_path / name, tmp_path)
    assert parts[0] < 0.25
    assert any(0.4 < part < 0.6 for part in parts)


def test_progress_inside_a_parquet_file_follows_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("memindex.corpus.parquet.MOST_ROWS", 100)
    pq.write_table(pa.table({"text": [f"document {i}" for i in range(1000)]}), tmp_path / "a.parquet")
    assert progress_of_one_file(tmp_path / "a.parquet", tmp_path) == pytest.approx(
        [*np.arange(0, 11) / 10, 1], abs=0.01
    )


def test_progress_in_a_folder_of_texts_follows_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr("memindex.corpus.text.BATCH_BYTES", 100)
    told = []
    (tmp_path / "in").mkdir()
    for i in range(10):
        (tmp_path / "in" / f"{i}.txt").write_text("x" * 100)
    build_index([tmp_path / "in"], tmp_path / "out", tokenizer="bytes", progress=lambda *step: told.append(step))
    assert [step[1] for step in told if step[0] == "tokenize"] == [*range(0, 1001, 100), 1000]


def row_groups(file):
    facts = pq.ParquetFile(file).metadata
    return [facts.row_group(i).num_rows for i in range(facts.num_row_groups)]


def test_rows_of_documents_are_collected_to_row_groups(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("memindex.corpus.jsonl.BATCH_BYTES", 700)
    build_index([corpus], tmp_path / "one", tokenizer="bytes", options=OPTIONS)
    assert row_groups(tmp_path / "one" / "documents.parquet") == [len(ROWS)]
    monkeypatch.setattr("memindex.index.document_table.GROUP_ROWS", 50)
    monkeypatch.setattr("memindex.index.dealing.ROWS", 20)
    build_index([corpus], tmp_path / "rows", tokenizer="bytes", options=OPTIONS)
    groups = row_groups(tmp_path / "rows" / "documents.parquet")
    assert sum(groups) == len(ROWS)
    assert all(50 <= rows < 100 for rows in groups[:-1])
    monkeypatch.setattr("memindex.index.document_table.GROUP_BYTES", 1000)
    build_index([corpus], tmp_path / "bytes", tokenizer="bytes", options=OPTIONS)
    assert len(row_groups(tmp_path / "bytes" / "documents.parquet")) > len(groups)
    frames = [pd.read_parquet(tmp_path / name / "documents.parquet") for name in ("one", "rows", "bytes")]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    pd.testing.assert_frame_equal(frames[0], frames[2])


def test_documents_of_several_sources_have_paths_of_their_own(tmp_path):
    for name in ("p", "q"):
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / name / "x" / "f.txt").write_text(name)
    build_index([tmp_path / "p", tmp_path / "q"], tmp_path / "out", tokenizer="bytes")
    assert pd.read_parquet(tmp_path / "out" / "documents.parquet")["path"].tolist() == ["p/x/f.txt", "q/x/f.txt"]


def test_a_sorting_process_that_is_killed_is_told_in_one_line_and_its_build_goes_on_later(
    corpus, tmp_path, monkeypatch
):
    python, killed = sys.executable, tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(MemindexError, match=r"sorting process was killed \(SIGKILL\).*memory") as caught:
        build_index([corpus], tmp_path / "out", tokenizer="bytes", shards=2)
    assert len(str(caught.value).splitlines()) == 1
    assert "finished units are kept" in str(caught.value)
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr("memindex.index.tokenizing.read_documents", None)
    assert build_index([corpus], tmp_path / "out", tokenizer="bytes", shards=2).taken_over == 1
    Index.open(tmp_path / "out").verify()
    assert {file.name for file in tmp_path.iterdir()} == {"python", "out"}


def damaged(manifest, **changes):
    return {**manifest, **changes}


DAMAGE = {
    "not JSON": lambda m: b"{",
    "not UTF-8": lambda m: b'{"format": "\xff"}',
    "nested too deep": lambda m: b"[" * 100_000,
    "a list": lambda m: [],
    "null": lambda m: None,
    "another format": lambda m: damaged(m, format="memindex-99"),
    "no format": lambda m: {k: v for k, v in m.items() if k != "format"},
    **{
        f"no {key}": (lambda m, k=key: {a: b for a, b in m.items() if a != k}) for key in ("tokens", "domains", "files")
    },
    "an unknown key": lambda m: damaged(m, surprise=1),
    **{
        f"{key} is {value!r:.20}": (lambda m, k=key, v=value: damaged(m, **{k: v}))
        for key in ("tokens", "documents", "shards", "token_width", "domain_block", "vocabulary")
        for value in (-1, 1.5, "1", None, True, [], 10**30, 2**63)
    },
    "no shards": lambda m: damaged(m, shards=0),
    "too many shards": lambda m: damaged(m, shards=2),
    "millions of shards": lambda m: damaged(m, shards=10**12),
    "token width 3": lambda m: damaged(m, token_width=3),
    "token width 2": lambda m: damaged(m, token_width=2),
    "blocks of 0": lambda m: damaged(m, domain_block=0),
    "blocks of 1": lambda m: damaged(m, domain_block=1),
    "one token more": lambda m: damaged(m, tokens=m["tokens"] + 1),
    "names that are numbers": lambda m: damaged(m, name=1, tokenizer=2),
    "domains are a number": lambda m: damaged(m, domains=3),
    "domains are texts": lambda m: damaged(m, domains=["x"]),
    "no domains": lambda m: damaged(m, domains=[]),
    "a domain without a name": lambda m: damaged(m, domains=[damaged(m["domains"][0], name=None)]),
    "a domain with a list for a name": lambda m: damaged(m, domains=[damaged(m["domains"][0], name=["x"])]),
    "a domain of -1 tokens": lambda m: damaged(m, domains=[damaged(m["domains"][0], tokens=-1)]),
    "a domain of too many tokens": lambda m: damaged(m, domains=[damaged(m["domains"][0], tokens=10**30)]),
    "a domain too many": lambda m: damaged(m, domains=[*m["domains"], {"name": "new", "documents": 0, "tokens": 0}]),
    "a domain twice": lambda m: damaged(m, domains=[*m["domains"], damaged(m["domains"][0], documents=0, tokens=0)]),
    "files are a list": lambda m: damaged(m, files=[]),
    "a file is a number": lambda m: damaged(m, files={"table.0": 3}),
    "a file of -1 bytes": lambda m: damaged(m, files={"table.0": {"bytes": -1, "blake3": ""}}),
    "a file of text bytes": lambda m: damaged(m, files={"table.0": {"bytes": "10", "blake3": ""}}),
    **{
        f"a file called {name!r}": (lambda m, n=name: damaged(m, files={**m["files"], n: {"bytes": 0, "blake3": ""}}))
        for name in ("../outside", "/etc/passwd", "..", ".", "", "a/b", "nul\0", ".hidden", "missing")
    },
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_jsonl(folder / "a.jsonl", [{"text": "hello"}, {"text": "world"}])
    build_index([folder / "a.jsonl"], folder / "out", tokenizer="bytes")
    return folder / "out"


def _as_json(content) -> bytes:
    """As the build would write it, with a checksum that is right, so that other checks must find what is wrong."""
    return sealed(content) if isinstance(content, dict) else json.dumps(content).encode()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_manifest_is_a_corrupt_index(tiny, tmp_path, damage):
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = damage(json.loads((tiny / "index.json").read_text()))
    (tmp_path / "index.json").write_bytes(content if isinstance(content, bytes) else _as_json(content))
    with pytest.raises((CorruptIndexError, OSError)) as caught:
        Index.open(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_manifest_survives_writing_and_reading(tiny, tmp_path):
    manifest = Manifest.read(tiny)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert [p.name for p in tmp_path.iterdir()] == ["index.json"]
