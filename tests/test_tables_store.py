from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_study import model_row

from memindex.errors import MemindexError
from memindex.ragged import from_lists
from memindex.tables import schema
from memindex.tables.files import machine
from memindex.tables.schema import SCHEMA_VERSION, TABLES
from memindex.tables.store import TableStore


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path / "tables")


def frequencies(rows: int = 3) -> dict:
    numbers = np.arange(rows)
    return {
        "sequence_id": numbers,
        "index": ["mini"] * rows,
        "sequence_count": numbers + 1,
        "prefix_count": numbers + 2,
        "suffix_count": numbers + 3,
    }


def test_what_is_written_is_read_back_in_the_order_of_units(store: TableStore) -> None:
    store.write("models", "b", model_row("b", "llama", 2))
    store.write("models", "a", model_row("a", "llama", 1))
    read = store.read("models")
    assert read["model_id"].to_pylist() == ["a", "b"]
    assert read.schema.equals(TABLES["models"].schema(), check_metadata=True)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_files_is_empty_and_typed(store: TableStore, name: str) -> None:
    empty = store.read(name)
    assert empty.num_rows == 0
    assert empty.schema.equals(TABLES[name].schema())
    assert store.units(name) == []


@pytest.mark.parametrize("unit", ["a", "EleutherAI/pythia-70m", "../../up", ".hidden", "100 %", "ü*?[x]", "a.parquet"])
def test_any_text_can_name_a_unit(store: TableStore, unit: str) -> None:
    file = store.write("frequencies", unit, frequencies())
    assert file.parent == store.directory / "frequencies"
    assert store.has("frequencies", unit)
    assert store.units("frequencies") == [unit]
    assert store.read("frequencies").num_rows == 3


@pytest.mark.parametrize("unit", ["", "x" * 300])
def test_an_impossible_unit_is_an_error(store: TableStore, unit: str) -> None:
    with pytest.raises(MemindexError, match="1 to 200 characters"):
        store.write("frequencies", unit, frequencies())


def test_a_unit_written_again_is_replaced(store: TableStore) -> None:
    store.write("frequencies", "a", frequencies(3))
    store.write("frequencies", "a", frequencies(5))
    assert store.read("frequencies").num_rows == 5
    assert [f.name for f in (store.directory / "frequencies").iterdir()] == ["a.parquet"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": None}, "index"),
        ({"extra": [1, 2, 3]}, "unknown columns extra"),
        ({"sequence_count": [1, None, 3]}, "1 NULL"),
        ({"sequence_count": np.array([1.0, 2.0, 3.0])}, "expected int64; got double"),
        ({"sequence_count": ["1", "2", "3"]}, "sequence_count"),
        ({"index": [1, 2, 3]}, "index"),
        ({"sequence_count": [1, 2]}, "differ in length"),
        ({"sequence_count": np.array([1, 2, 2**64 - 1], np.uint64)}, "sequence_count"),
    ],
)
def test_data_that_breaks_the_schema_is_refused(store: TableStore, change: dict, message: str) -> None:
    with pytest.raises(MemindexError, match=message):
        store.write("frequencies", "a", frequencies() | change)
    assert not store.has("frequencies", "a")


def test_a_missing_column_is_named(store: TableStore) -> None:
    data = frequencies()
    del data["suffix_count"]
    with pytest.raises(MemindexError, match="frequencies: the data lacks suffix_count"):
        store.write("frequencies", "a", data)


def test_an_unknown_table_is_an_error(store: TableStore) -> None:
    with pytest.raises(MemindexError, match="there is no table 'model'; did you mean models"):
        store.read("model")


def continuations(**change: object) -> dict:
    return {
        "run_id": ["r", "r"],
        "sequence_id": [0, 1],
        "score": [0.5, 1.0],
        "matched": [1, 2],
        "memorized": [False, True],
        "edit_distance": [1, 0],
        "bleu": [0.25, 1.0],
        "suffix_logprob": [-1.0, -0.5],
        "suffix_logprob_top40": [-np.inf, None],
        "prefix_logprob": [None, -2.0],
        "token_logprobs": [[-1.0, -2.0], None],
        "token_ranks": np.array([[0, 40], [0, 0]]),
        "continuation": np.array([[1, 2], [3, 4]], np.int64),
    } | change


@pytest.mark.parametrize(
    "tokens",
    [
        np.array([[1, 2], [3, 4]], np.uint16),
        from_lists([[1, 2], [3, 4]]),
        [[1, 2], [3, 4]],
        pa.array([[1, 2], [3, 4]], pa.large_list(pa.int64())),
        pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)),
    ],
)
def test_token_columns_take_every_batch_form(store: TableStore, tokens: object) -> None:
    store.write("continuations", "r", continuations(continuation=tokens))
    assert store.read("continuations")["continuation"].to_pylist() == [[1, 2], [3, 4]]


def test_a_null_inside_a_list_is_refused(store: TableStore) -> None:
    with pytest.raises(MemindexError, match="NULL inside"):
        store.write("continuations", "r", continuations(continuation=[[1, None], [3, 4]]))


def test_an_arrow_table_in_any_column_order_is_taken(store: TableStore) -> None:
    table = pa.table(frequencies())
    store.write("frequencies", "a", table.select(table.column_names[::-1]))
    assert store.read("frequencies").column_names == [c.name for c in TABLES["frequencies"].columns]


def test_another_schema_version_is_refused(store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 99)
    store.write("frequencies", "a", frequencies())
    with pytest.raises(MemindexError, match=f"has schema version 99, this memindex reads up to {SCHEMA_VERSION}"):
        store.read("frequencies")


def test_a_foreign_or_broken_file_is_refused(store: TableStore) -> None:
    file = store.write("frequencies", "a", frequencies())
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(MemindexError, match="is not part of the table frequencies"):
        store.read("frequencies")
    file.write_bytes(b"PAR1 no")
    with pytest.raises(MemindexError, match="not a readable Parquet file"):
        store.read("frequencies")


def test_a_file_that_is_removed_meanwhile_is_passed_over(store: TableStore) -> None:
    """It was there when the folder was listed, and is gone when it is opened; as a link to nowhere is."""
    store.write("frequencies", "kept", frequencies())
    store.file("frequencies", "gone").symlink_to("nowhere")
    assert store.units("frequencies") == ["kept"]


def test_a_failed_write_leaves_nothing(store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("frequencies", "a", frequencies(3))

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MemindexError, match=r"can.t write .*a\.parquet: disk full"):
        store.write("frequencies", "a", frequencies(5))
    assert store.read("frequencies").num_rows == 3
    assert len(list((store.directory / "frequencies").iterdir())) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_writer_leaves_only_what_nobody_reads(store: TableStore) -> None:
    code = """
import os, sys, time
from memindex.tables.store import TableStore
import numpy as np
n = 1000
data = dict(sequence_id=np.arange(n), index=["mini"] * n, sequence_count=np.arange(n), prefix_count=np.arange(n),
            suffix_count=np.arange(n))
store = TableStore(sys.argv[1])
store.write("frequencies", "finished", data)
sync = os.fsync
def hang(descriptor):
    sync(descriptor)
    print("written, not renamed", flush=True)
    time.sleep(60)
os.fsync = hang
store.write("frequencies", "unfinished", data)
"""
    writer = subprocess.Popen([sys.executable, "-c", code, str(store.directory)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert "written" in writer.stdout.readline()
    writer.kill()
    writer.wait()
    writer.stdout.close()
    leftovers = [f for f in (store.directory / "frequencies").iterdir() if f.suffix == ".tmp"]
    assert len(leftovers) == 1
    assert leftovers[0].stat().st_size > 0
    assert store.units("frequencies") == ["finished"]
    assert not store.has("frequencies", "unfinished")
    assert store.read("frequencies").num_rows == 1000
    assert TableStore(store.directory).units("frequencies") == ["finished"]
    assert leftovers[0].exists()
    store.write("models", "a", model_row("a", "llama", 1))
    assert leftovers[0].exists()
    store.write("frequencies", "a", frequencies())
    assert not leftovers[0].exists()
    assert sorted(store.units("frequencies")) == ["a", "finished"]


def test_what_others_still_write_is_left_to_them(store: TableStore) -> None:
    folder = store.file("frequencies", "a").parent
    folder.mkdir(parents=True)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ours, theirs = machine(), "0" * 8
    young = [f".a.parquet.{ours}-{os.getpid()}-01234567.tmp", f".a.parquet.{theirs}-{gone.pid}-01234567.tmp"]
    young += [".other.tmp", ".a.parquet.tmp"]
    old = [f".b.parquet.{theirs}-{gone.pid}-01234567.tmp", ".older.tmp", f".b.parquet.{ours}-{gone.pid}-01234567.tmp"]
    for name in (*young, *old):
        (folder / name).write_bytes(b"PAR1")
    for name in old[:2]:
        os.utime(folder / name, (0, 0))
    store.write("frequencies", "a", frequencies())
    assert sorted(file.name for file in folder.iterdir()) == sorted([*young, "a.parquet"])


def test_a_folder_in_the_place_of_a_unit_is_left_alone(store: TableStore) -> None:
    file = store.file("frequencies", "a")
    file.mkdir(parents=True)
    with pytest.raises(MemindexError, match="a directory lies there; move it away"):
        store.write("frequencies", "a", frequencies())
    assert file.is_dir()


def test_damaged_files_are_found_by_reading_them(store: TableStore) -> None:
    for unit in ("a", "b"):
        store.write("frequencies", unit, frequencies(5000))
    assert list(store.damaged()) == []
    file = store.file("frequencies", "b")
    content = bytearray(file.read_bytes())
    content[10:500] = bytes(490)
    file.write_bytes(content)
    [found] = store.damaged()
    assert f"{file} is not a readable Parquet file: delete it, then fill the table again with: memindex" in str(found)
    with pytest.raises(MemindexError) as caught:
        store.read("frequencies")
    assert str(caught.value) == str(found)
    assert store.read("frequencies", units=["a"]).num_rows == 5000


def test_readers_never_see_a_half_written_unit(store: TableStore) -> None:
    code = """
import sys
from memindex.tables.store import TableStore
import numpy as np
store = TableStore(sys.argv[1])
for n in range(1, 60):
    column = np.full(n, n)
    store.write("frequencies", "a", dict(sequence_id=column, index=["i"] * n, sequence_count=column,
                prefix_count=column, suffix_count=column))
"""
    store.write("frequencies", "a", frequencies(1) | {"sequence_id": [1]})
    writer = subprocess.Popen([sys.executable, "-c", code, str(store.directory)])
    while writer.poll() is None:
        table = store.read("frequencies")
        assert set(table["sequence_id"].to_pylist()) == {table.num_rows}
        time.sleep(0.001)
    assert writer.returncode == 0
