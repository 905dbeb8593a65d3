"""Token files of Megatron and GPT-NeoX, against files written here as their builder writes them."""

from __future__ import annotations

import itertools
import json
import struct

import numpy as np
import pytest

from memindex.corpus import megatron
from memindex.corpus.documents import BadDocuments
from memindex.corpus.sources import ReadOptions, find_files, read_documents
from memindex.corpus.tokenizer import load_tokenizer
from memindex.corpus.tokens import tokens_of
from memindex.errors import CorpusError
from memindex.index import Index, build_index

CODES = {"u1": 1, "i1": 2, "i2": 3, "i4": 4, "i8": 5, "u2": 8}


def write(prefix, sequences, bounds=None, kind="u2", modes=False):
    """An .idx and .bin pair, field by field as MMapIndexedDatasetBuilder writes them."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    sizes = np.array([len(s) for s in sequences], "<i4")
    pointers = (np.concatenate([[0], np.cumsum(sizes[:-1], dtype=np.int64)]) if len(sizes) else np.empty(0)).astype(
        "<i8"
    )
    bounds = np.arange(len(sequences) + 1) if bounds is None else np.array(bounds)
    width = np.dtype(f"<{kind}").itemsize
    head = b"MMIDIDX\x00\x00" + struct.pack("<Q", 1) + struct.pack("<B", CODES[kind])
    head += struct.pack("<QQ", len(sizes), len(bounds))
    body = sizes.tobytes() + (pointers * width).astype("<i8").tobytes() + bounds.astype("<i8").tobytes()
    prefix.with_suffix(".idx").write_bytes(head + body + (b"\0" * len(sizes) if modes else b""))
    prefix.with_suffix(".bin").write_bytes(b"".join(np.array(s, f"<{kind}").tobytes() for s in sequences))
    return prefix.with_suffix(".idx")


def read(source, bad=None, **options):
    options = ReadOptions(**options)
    rows = []
    for batch in read_documents(find_files([source], options), options, bad or BadDocuments()):
        batch.validate(full=True)
        rows.extend(batch.to_pylist())
    return rows


def documents(count=300, most=200, seed=3, largest=50_000):
    random = np.random.default_rng(seed)
    return [random.integers(0, largest, random.integers(0, most)).tolist() for _ in range(count)]


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("batch", [40, 1 << 22])
def test_documents_come_as_they_were_written(tmp_path, monkeypatch, kind, batch):
    monkeypatch.setattr(megatron, "BATCH_BYTES", batch)
    monkeypatch.setattr(megatron, "ENTRIES", 7)
    made = documents(largest=120 if kind in ("u1", "i1") else 30_000)
    rows = read(write(tmp_path / "c" / "data", made, kind=kind))
    assert [row["tokens"] for row in rows] == made
    assert [row["line"] for row in rows] == list(range(1, 301))
    assert {(row["path"], row["domain"], row["metadata"]) for row in rows} == {("data.idx", "data", "{}")}


@pytest.mark.parametrize("entries", [1, 3, 1 << 16])
def test_documents_of_several_sequences_are_joined(tmp_path, monkeypatch, entries):
    monkeypatch.setattr(megatron, "ENTRIES", entries)
    made, bounds = documents(20, 9), [0, 0, 3, 4, 4, 11, 20]
    rows = read(write(tmp_path / "data", made, bounds, modes=True))
    expected = [[i for s in made[a:b] for i in s] for a, b in itertools.pairwise(bounds)]
    assert [row["tokens"] for row in rows] == expected


@pytest.mark.parametrize("sources", ["data.idx", "data.bin", "."])
def test_training_rows_have_row_and_step(tmp_path, sources):
    random = np.random.default_rng(1)
    made = random.integers(0, 50_277, (2500, 2049)).tolist()
    write(tmp_path / "c" / "data", made, bounds=[0, 2500])
    rows = read(tmp_path / "c" / sources, rows_per_step=1024)
    assert [row["tokens"] for row in rows] == made
    assert [json.loads(row["metadata"]) for row in rows] == [{"row": i, "step": i // 1024} for i in range(2500)]


def test_parts_of_a_file_are_read_as_one(tmp_path):
    made = documents()
    file = write(tmp_path / "c" / "document", made)
    whole = file.with_suffix(".bin").read_bytes()
    file.with_suffix(".bin").unlink()
    cuts = [0, 2, 1000, 1001, len(whole) // 2, len(whole)]
    for part, (a, b) in enumerate(itertools.pairwise(cuts)):
        (tmp_path / "c" / f"document-{part:05}-of-00004.bin").write_bytes(whole[a:b])
    assert [row["tokens"] for row in read(tmp_path / "c")] == made
    assert [row["tokens"] for row in read(tmp_path / "c" / "document-00002-of-00004.bin")] == made
    (tmp_path / "c" / "document-00002-of-00004.bin").unlink()
    with pytest.raises(CorpusError, match=r"document\.idx: .*(a part is missing)"):
        read(tmp_path / "c")


def test_several_token_files_in_a_folder(tmp_path):
    one, two = documents(5, seed=1), documents(7, seed=2)
    write(tmp_path / "a" / "x", one)
    write(tmp_path / "b" / "x", two)
    (tmp_path / "README.md").write_text("about")
    rows = read(tmp_path)
    assert [row["tokens"] for row in rows] == one + two
    assert [(row["path"], row["domain"]) for row in rows] == [("a/x.idx", "a")] * 5 + [("b/x.idx", "b")] * 7


def test_an_index_of_token_files_counts_their_ids(tmp_path):
    made = [[1, 2, 3, 1, 2], [2, 3, 255 - 1], [], [1, 2]]
    write(tmp_path / "c" / "data", made, kind="i4")
    build_index([tmp_path / "c"], tmp_path / "out", tokenizer="bytes", options=ReadOptions(rows_per_step=2), shards=2)
    index = Index.open(tmp_path / "out")
    assert index.count([[1, 2], [2, 3], [254], [3, 1]]).tolist() == [3, 2, 1, 1]
    assert (index.manifest.documents, index.manifest.tokens) == (4, 10)
    index.verify()
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "out" / "documents.parquet").sort_by(
        [("document", "ascending"), ("shard", "ascending")]
    )
    assert [json.loads(value) for value in table.column("metadata").to_pylist()] == [
        {"row": 0, "step": 0},
        {"row": 1, "step": 0},
        {"row": 2, "step": 1},
        {"row": 3, "step": 1},
    ]


def test_ids_beyond_the_tokenizer_are_named(tmp_path):
    write(tmp_path / "data", [[1, 2], [3, 300]])
    options = ReadOptions()
    (batch,) = read_documents(find_files([tmp_path / "data.idx"], options), options, BadDocuments())
    with pytest.raises(CorpusError, match=r"data\.idx:2: token id 300, but bytes has ids up to 255"):
        tokens_of(batch, load_tokenizer("bytes"))
    with pytest.raises(CorpusError, match="token id 300"):
        build_index([tmp_path / "data.idx"], tmp_path / "out", tokenizer="bytes")
    assert not (tmp_path / "out").exists()


def test_negative_ids_are_damage(tmp_path):
    with pytest.raises(CorpusError, match=r"data\.idx: near document 1: .*negative"):
        read(write(tmp_path / "data", [[1, -2]], kind="i4"))


@pytest.mark.parametrize("suffix", [".idx", ".bin"])
def test_no_cut_is_taken_for_a_whole_file(tmp_path, suffix):
    file = write(tmp_path / "data", [[1, 2, 3], [4], [], [5, 6]])
    cut = file.with_suffix(suffix)
    data = cut.read_bytes()
    for size in range(len(data)):
        cut.write_bytes(data[:size])
        with pytest.raises(CorpusError, match=r"data\.idx: "):
            read(file)
    cut.write_bytes(data + b"\0" * 2)
    with pytest.raises(CorpusError, match=r"data\.idx: "):
        read(file)


def test_any_changed_byte_of_an_idx_is_an_error_or_changes_no_more_than_bounds(tmp_path):
    made = [[1, 2, 3], [4], [5, 6]]
    file = write(tmp_path / "data", made)
    data = bytearray(file.read_bytes())
    for at in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            hurt = data.copy()
            hurt[at] ^= flip
            file.write_bytes(hurt)
            try:
                rows = read(file)
            except CorpusError as error:
                assert "data.idx" in str(error)
            else:
                # Bounds of documents have no second witness; the ids stay the same.
                assert [i for row in rows for i in row["tokens"]] in ([1, 2, 3, 4, 5, 6], [])


def test_a_bin_without_idx_and_an_idx_without_bin(tmp_path):
    file = write(tmp_path / "data", [[1]])
    file.with_suffix(".bin").rename(tmp_path / "other.bin")
    with pytest.raises(CorpusError, match=r"data\.idx: no \.bin"):
        read(file)
    with pytest.raises(CorpusError, match=r"other\.bin: no \.idx"):
        read(tmp_path / "other.bin")


def test_token_files_have_no_fields(tmp_path):
    file = write(tmp_path / "data", [[1]] * 4)
    with pytest.raises(CorpusError, match="--domain-sql"):
        read(file, domain_field="step")
    halves = "CASE WHEN step::INT = 0 THEN 'first' ELSE 'second' END"
    rows = read(file, rows_per_step=2, domain_sql=halves)
    assert [row["domain"] for row in rows] == ["first", "first", "second", "second"]
