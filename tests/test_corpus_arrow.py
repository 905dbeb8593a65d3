"""Arrow files and datasets in the folders that Hugging Face `datasets` saves, against the rows that were written."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_corpus import AWKWARD
from test_corpus_jsonl import leftover, read, texts

from memindex.corpus import arrow
from memindex.corpus.documents import BadDocuments
from memindex.errors import CorpusError

ROWS = [{"text": f"{i} {AWKWARD[i % len(AWKWARD)]}", "meta": {"set": f"s{i % 3}"}, "n": i} for i in range(100)]


def save(file, rows, batch=13, file_format=False):
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    opener = pa.ipc.new_file if file_format else pa.ipc.new_stream
    with pa.OSFile(str(file), "wb") as sink, opener(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)
    return file


@pytest.mark.parametrize("file_format", [False, True])
@pytest.mark.parametrize("batch", [300, 1 << 22])
def test_rows_come_in_order(tmp_path, monkeypatch, file_format, batch):
    monkeypatch.setattr(arrow, "BATCH_BYTES", batch)
    rows = read(save(tmp_path / "a.arrow", ROWS, file_format=file_format), domain_field="meta.set")
    assert texts(rows) == [row["text"] for row in ROWS]
    assert [row["domain"] for row in rows] == [row["meta"]["set"] for row in ROWS]
    assert [row["line"] for row in rows] == list(range(1, 101))
    assert leftover(rows) == [{k: v for k, v in row.items() if k != "text"} for row in ROWS]


def saved_dataset(folder):
    """As Dataset.save_to_disk leaves it, with a cache of `map` beside."""
    save(folder / "data-00000-of-00002.arrow", ROWS[:40])
    save(folder / "data-00001-of-00002.arrow", ROWS[40:])
    names = [{"filename": f"data-0000{i}-of-00002.arrow"} for i in range(2)]
    (folder / "state.json").write_text(json.dumps({"_data_files": names, "_fingerprint": "x"}, indent=2))
    (folder / "dataset_info.json").write_text('{\n  "features": {}\n}')
    return folder


def test_a_saved_dataset_is_its_data_files(tmp_path):
    folder = saved_dataset(tmp_path / "saved")
    save(folder / "cache-0123456789abcdef.arrow", ROWS)
    save(folder / "old.arrow", ROWS)
    rows = read(folder)
    assert texts(rows) == [row["text"] for row in ROWS]
    assert {row["domain"] for row in rows} == {"saved"}


def test_splits_of_a_saved_dataset_are_domains(tmp_path):
    saved_dataset(tmp_path / "saved" / "train")
    saved_dataset(tmp_path / "saved" / "test")
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    rows = read(tmp_path / "saved")
    assert [row["domain"] for row in rows] == ["test"] * 100 + ["train"] * 100


def test_a_broken_state_is_named(tmp_path):
    folder = saved_dataset(tmp_path / "saved")
    for text in ("{", "[]", "{}", '{"_data_files": [1]}'):
        (folder / "state.json").write_text(text)
        with pytest.raises(CorpusError, match=r"state\.json: not the state of a saved dataset"):
            read(folder)


@pytest.mark.parametrize("file_format", [False, True])
def test_no_cut_is_taken_for_a_whole_file(tmp_path, file_format):
    file = save(tmp_path / "a.arrow", ROWS[:20], batch=5, file_format=file_format)
    data = file.read_bytes()
    for cut in range(0, len(data), 37):
        file.write_bytes(data[:cut])
        with pytest.raises(CorpusError, match=r"a\.arrow: .*") as caught:
            read(file)
        assert "\n" not in str(caught.value)


def test_skipping_keeps_the_rows_before_the_damage(tmp_path):
    file = save(tmp_path / "a.arrow", ROWS, batch=10)
    file.write_bytes(file.read_bytes()[:-2000])
    bad = BadDocuments(skip=True)
    rows = read(file, bad=bad)
    assert 10 <= len(rows) < 100
    assert texts(rows) == [row["text"] for row in ROWS[: len(rows)]]
    assert bad.count == 1
    assert f"from row {len(rows) + 1} on" in bad.first[0]


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.list_(pa.uint16(), 3)], ids=str)
@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_lists_of_whole_numbers_are_token_ids(tmp_path, kind, suffix):
    made = [[1, 2, 3], [4, 50_000, 6]] + ([] if pa.types.is_fixed_size_list(kind) else [[], [7]])
    table = pa.table({"token_ids": pa.array(made, kind), "batch_idx": list(range(len(made)))})
    file = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, file)
    else:
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    rows = read(file, text_field="token_ids", domain_field="batch_idx")
    assert [row["tokens"] for row in rows] == made
    assert [row["domain"] for row in rows] == [str(i) for i in range(len(made))]
    assert leftover(rows) == [{"batch_idx": i} for i in range(len(made))]


@pytest.mark.parametrize("ids", [[[1], [-1]], [[1], [None]], [[1 << 40]]])
def test_ids_that_are_none_are_refused(tmp_path, ids):
    pq.write_table(pa.table({"ids": pa.array(ids, pa.list_(pa.int64()))}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a\.parquet: near row 1: a token id"):
        read(tmp_path / "a.parquet", text_field="ids")


def test_a_missing_list_is_a_bad_row(tmp_path):
    pq.write_table(pa.table({"ids": pa.array([[1], None, [2]], pa.list_(pa.int64()))}), tmp_path / "a.parquet")
    bad = BadDocuments(skip=True)
    assert [row["tokens"] for row in read(tmp_path / "a.parquet", text_field="ids", bad=bad)] == [[1], [2]]
    assert [report.split(": ")[1] for report in bad.first] == ["row 2"]
