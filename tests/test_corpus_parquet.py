"""Reading Parquet files, against the rows that were written."""

from __future__ import annotations

import datetime
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_corpus import AWKWARD
from test_corpus_jsonl import leftover, read, texts

from memindex.corpus import parquet
from memindex.corpus.documents import BadDocuments
from memindex.corpus.sources import ReadOptions, find_files, read_documents
from memindex.errors import CorpusError

ROWS = [
    {
        "id": i,
        "content": f"document {i} {AWKWARD[i % len(AWKWARD)]}",
        "meta": {"set": f"set {i % 3}", "stars": i / 4},
        "licenses": ["MIT", AWKWARD[i % len(AWKWARD)]][: i % 3],
    }
    for i in range(100)
]


def test_rows_of_all_row_groups_come_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_ROWS", 7)
    file = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), file, row_group_size=13)
    rows = read(file, text_field="content", domain_field="meta.set")
    assert texts(rows) == [row["content"] for row in ROWS]
    assert [row["domain"] for row in rows] == [row["meta"]["set"] for row in ROWS]
    assert [row["line"] for row in rows] == list(range(1, 101))
    assert leftover(rows) == [{k: v for k, v in row.items() if k != "content"} for row in ROWS]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_text_and_domain_may_have_any_string_encoding(tmp_path, kind):
    file = tmp_path / "a.parquet"
    column = pa.array(AWKWARD).cast(kind) if not pa.types.is_dictionary(kind) else _dictionary(kind)
    pq.write_table(pa.table({"text": column, "d": column}), file)
    rows = read(file, domain_field="d")
    assert texts(rows) == AWKWARD
    assert [row["domain"] for row in rows] == AWKWARD
    assert leftover(rows) == [{"d": value} for value in AWKWARD]


def _dictionary(kind):
    indices = pa.array(range(len(AWKWARD)), kind.index_type)
    return pa.DictionaryArray.from_arrays(indices, pa.array(AWKWARD, kind.value_type))


def test_null_text_and_domain_are_bad_rows_with_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_ROWS", 4)
    file = tmp_path / "a.parquet"
    table = {
        "text": ["a", None, "c", "d", "e", "f"],
        "m": [{"d": "x"}, {"d": "x"}, None, {"d": None}, {"d": "y"}, None],
    }
    pq.write_table(pa.table(table), file)
    with pytest.raises(CorpusError, match=r"a\.parquet: row 2: "):
        read(file, domain_field="m.d")
    bad = BadDocuments(skip=True)
    rows = read(file, domain_field="m.d", bad=bad)
    assert [(row["text"], row["domain"], row["line"]) for row in rows] == [(b"a", "x", 1), (b"e", "y", 5)]
    assert leftover(rows) == [{"m": {"d": "x"}}, {"m": {"d": "y"}}]
    assert bad.count == 4
    assert [place.split(": ")[1] for place in bad.first] == ["row 2", "row 3", "row 4", "row 6"]


def test_text_that_is_not_utf8_is_a_bad_row(tmp_path):
    # Arrow does not check strings when it reads them.
    raw = pa.array([b"good", b"\xff\xfe", b"also \xc3\xa9"], pa.binary())
    forged = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": forged, "n": [1, 2, 3]}), file)
    with pytest.raises(CorpusError, match=r"a\.parquet: row 2: .*UTF-8"):
        read(file)
    rows = read(file, bad=BadDocuments(skip=True))
    assert texts(rows) == ["good", "also é"]
    assert leftover(rows) == [{"n": 1}, {"n": 3}]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1, 2], ["1", "2"]),
        ([True, False], ["true", "false"]),
        ([1.5, 2.25], ["1.5", "2.25"]),
        ([datetime.date(2020, 1, 31), datetime.date(1999, 12, 1)], ["2020-01-31", "1999-12-01"]),
    ],
    ids=["int", "bool", "float", "date"],
)
def test_domains_may_be_numbers_booleans_and_dates(tmp_path, values, labels):
    pq.write_table(pa.table({"text": ["a", "b"], "d": values}), tmp_path / "a.parquet")
    assert [row["domain"] for row in read(tmp_path / "a.parquet", domain_field="d")] == labels


@pytest.mark.parametrize(
    "values", [[["a"], ["b"]], [{"x": 1}, {"x": 2}], [b"a", b"b"]], ids=["list", "struct", "bytes"]
)
def test_domains_that_are_no_labels_are_refused(tmp_path, values):
    pq.write_table(pa.table({"text": ["a", "b"], "d": values}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match="the column d is"):
        read(tmp_path / "a.parquet", domain_field="d")


@pytest.mark.parametrize("values", [[1, 2], [["a"], ["b"]], [{"x": "a"}, {"x": "b"}], [b"a", b"b"]])
def test_text_columns_that_are_no_text_are_refused(tmp_path, values):
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"the column text is .*, not text"):
        read(tmp_path / "a.parquet")


def test_nested_text_leaves_its_neighbours_in_the_metadata(tmp_path):
    rows = [{"a": {"b": {"text": f"t{i}", "n": i}, "c": [i]}, "only": {"x": "y"}, "d": f"d{i}"} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    got = read(tmp_path / "a.parquet", text_field="a.b.text", domain_field="d")
    assert texts(got) == ["t0", "t1", "t2"]
    assert leftover(got) == [{"a": {"b": {"n": i}, "c": [i]}, "only": {"x": "y"}, "d": f"d{i}"} for i in range(3)]
    got = read(tmp_path / "a.parquet", text_field="only.x")
    assert leftover(got) == [{"a": row["a"], "d": row["d"]} for row in rows]


def test_names_that_mean_something_to_sql_are_kept(tmp_path):
    row = {"leftover": 1, "j": 2, "Lang": "A", "lang": "B", "it's": 3, 'say "x"': 4, "select": 5, "c0": 6, "": 7}
    pq.write_table(pa.table({**{k: [v] for k, v in row.items()}, "text": ["t"]}), tmp_path / "a.parquet")
    assert leftover(read(tmp_path / "a.parquet")) == [row]


def test_metadata_is_json_for_every_type(tmp_path):
    table = pa.table(
        {
            "text": ["a", "b"],
            "float": [1.5, math.nan],
            "floats": [[1.0, -math.inf], [math.inf]],
            "text with NaN": ["a: NaN", ":NaN"],
            "big": [2**63 - 1, -(2**63)],
            "unsigned": pa.array([2**64 - 1, 0], pa.uint64()),
            "null": pa.nulls(2),
            "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
            "label": pa.array(["x", None]).dictionary_encode(),
            "when": [datetime.datetime(2020, 1, 2, 3, 4, 5), None],
            "strings": [["é", None], None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    first, second = (json.loads(row["metadata"], parse_constant=refuse) for row in read(tmp_path / "a.parquet"))
    assert first == {
        "float": 1.5,
        "floats": [1.0, None],
        "text with NaN": "a: NaN",
        "big": 2**63 - 1,
        "unsigned": 2**64 - 1,
        "null": None,
        "map": {"k": 1},
        "label": "x",
        "when": "2020-01-02 03:04:05",
        "strings": ["é", None],
    }
    assert second == {
        "float": None,
        "floats": [None],
        "text with NaN": ":NaN",
        "big": -(2**63),
        "unsigned": 0,
        "null": None,
        "map": {},
        "label": None,
        "when": None,
        "strings": None,
    }


def test_a_large_row_group_is_not_held_in_memory(tmp_path):
    file = tmp_path / "a.parquet"
    random = np.random.default_rng(1)
    texts = pa.array([random.bytes(2000).hex() for _ in range(20_000)])
    pq.write_table(pa.table({"text": texts}), file, row_group_size=1 << 30, compression="none")
    before, options = pa.default_memory_pool(), ReadOptions()
    counting = pa.proxy_memory_pool(before)
    pa.set_memory_pool(counting)
    try:
        rows = sum(map(len, read_documents(find_files([file], options), options, BadDocuments())))
    finally:
        pa.set_memory_pool(before)
    assert rows == 20_000
    assert 1 << 20 < counting.max_memory() < 40 << 20


def test_files_without_rows_or_without_other_columns(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string()), "n": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == []
    pq.write_table(pa.table({"text": ["only"]}), tmp_path / "b.parquet")
    assert leftover(read(tmp_path / "b.parquet")) == [{}]


def test_all_rows_bad_gives_no_documents(tmp_path):
    pq.write_table(pa.table({"text": pa.array([None, None], pa.string()), "n": [1, 2]}), tmp_path / "a.parquet")
    bad = BadDocuments(skip=True)
    assert read(tmp_path / "a.parquet", bad=bad) == []
    assert bad.count == 2


@pytest.mark.parametrize(("text", "domain"), [("body", None), ("text", "lang"), ("text", "m.b"), ("m.text", None)])
def test_a_missing_column_is_named(tmp_path, text, domain):
    pq.write_table(pa.table({"text": ["a"], "m": [{"a": "x"}]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=rf"a\.parquet: no column {domain or text}"):
        read(tmp_path / "a.parquet", text_field=text, domain_field=domain)


def test_two_columns_of_one_name_are_refused(tmp_path):
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match="same name"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not Parquet at all" * 10, b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_what_is_not_parquet_is_refused(tmp_path, data):
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(CorpusError, match=r"a\.parquet: not a readable Parquet file"):
        read(tmp_path / "a.parquet")


def test_a_cut_file_is_refused_wherever_it_was_cut(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), file, row_group_size=50)
    data = file.read_bytes()
    for cut in range(0, len(data), 97):
        file.write_bytes(data[:cut])
        with pytest.raises(CorpusError):
            read(file, text_field="content")


@pytest.mark.parametrize("compression", ["snappy", "zstd"])
def test_damage_inside_a_file_gives_a_corpus_error_or_text(tmp_path, compression):
    file = tmp_path / "a.parquet"
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, file, compression=compression, write_page_checksum=True)
    data = bytearray(file.read_bytes())
    for at in range(4, len(data) - 8, 101):
        hurt = data.copy()
        hurt[at] ^= 0xFF
        file.write_bytes(hurt)
        try:
            read(file, text_field="content")
        except CorpusError as error:
            assert "\n" not in str(error)
