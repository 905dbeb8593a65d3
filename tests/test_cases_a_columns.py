"""Columns that came out wrong: names with dots, types without JSON, texts stored once (rows A10 to A12).

The oracles are the values that were written, Python's json, and pyarrow's own decoding.
"""

from __future__ import annotations

import datetime
import decimal
import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_corpus import memindex, write_jsonl
from test_corpus_jsonl import leftover, read, texts

from memindex.corpus import arrow, parquet, slices
from memindex.corpus.documents import BadDocuments, ReadOptions
from memindex.corpus.sources import find_files, read_documents
from memindex.errors import CorpusError

FORMATS = ["jsonl", "parquet", "arrow"]


def write(file, rows):
    """The rows, or a table, in the format of the file's name."""
    if file.suffix == ".jsonl":
        return write_jsonl(file, rows)
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
    if file.suffix == ".parquet":
        pq.write_table(table, file)
        return file
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return file


@pytest.fixture(params=FORMATS)
def suffix(request):
    return request.param


# A10: names that hold dots


def test_a10_a_name_with_dots_is_taken_as_it_is(tmp_path, suffix):
    rows = [{"content.text": f"t{i}", "meta.source": f"s{i % 2}", "n": i} for i in range(5)]
    got = read(write(tmp_path / f"a.{suffix}", rows), text_field="content.text", domain_field="meta.source")
    assert texts(got) == [row["content.text"] for row in rows]
    assert [row["domain"] for row in got] == [row["meta.source"] for row in rows]
    assert leftover(got) == [{"meta.source": row["meta.source"], "n": row["n"]} for row in rows]


def test_a10_the_exact_name_comes_before_the_path(tmp_path, suffix):
    rows = [{"a": {"text": "deep", "set": "deep set", "n": 1}, "a.text": "flat", "a.set": "flat set"}]
    got = read(write(tmp_path / f"a.{suffix}", rows), text_field="a.text", domain_field="a.set")
    assert (texts(got), got[0]["domain"]) == (["flat"], "flat set")
    assert leftover(got) == [{"a": rows[0]["a"], "a.set": "flat set"}]


def test_a10_names_with_dots_inside_of_objects(tmp_path, suffix):
    rows = [{"a": {"b.c": "t", "b": {"d": "x", "e.f": {"g": "domain"}}}, "k.l": {"m": "y"}}]
    file = write(tmp_path / f"a.{suffix}", rows)
    got = read(file, text_field="a.b.c", domain_field="a.b.e.f.g")
    assert (texts(got), got[0]["domain"]) == (["t"], "domain")
    assert leftover(got) == [{"a": {"b": rows[0]["a"]["b"]}, "k.l": {"m": "y"}}]
    # The longest name that fits leads nowhere here, and a shorter one does.
    got = read(file, text_field="k.l.m", domain_field="a.b.d")
    assert (texts(got), got[0]["domain"]) == (["y"], "x")


def test_a10_a_name_with_dots_that_leads_nowhere_falls_back_to_the_path(tmp_path, suffix):
    rows = [{"a.b": "no object", "a": {"b": {"c": "t"}}}]
    assert texts(read(write(tmp_path / f"a.{suffix}", rows), text_field="a.b.c")) == ["t"]


def test_a10_lines_may_differ(tmp_path):
    rows = [{"text": "t", "m.s": "flat"}, {"text": "t", "m": {"s": "deep"}}, {"text": "t", "m": {"s": "x"}, "m.s": "y"}]
    got = read(write_jsonl(tmp_path / "a.jsonl", rows), domain_field="m.s")
    assert [row["domain"] for row in got] == ["flat", "deep", "y"]


@pytest.mark.parametrize("expression", ['"meta.source"', "meta.source", "\"meta.source\" || ''"])
def test_a10_domain_sql_names_them(tmp_path, suffix, expression):
    rows = [{"text": "t", "meta.source": f"s{i}", "n": i} for i in range(3)]
    got = read(write(tmp_path / f"a.{suffix}", rows), domain_sql=expression)
    assert [row["domain"] for row in got] == ["s0", "s1", "s2"]


def test_a10_domain_sql_keeps_both_apart(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", [{"text": "t", "m.s": "flat", "m": {"s": "deep", "x.y": "z"}}])
    found = {sql: read(file, domain_sql=sql)[0]["domain"] for sql in ('"m.s"', "m.s", 'm."x.y"', "m.x.y")}
    assert found == {'"m.s"': "flat", "m.s": "deep", 'm."x.y"': "z", "m.x.y": "z"}


def test_a10_an_error_names_what_there_is(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", [{"text": "t", "meta.source": "x", "m": {"n": 1}}])
    for options in ({"text_field": "meta.text"}, {"domain_field": "meta.text"}):
        with pytest.raises(CorpusError, match=r"meta\.text.* has text, meta\.source, m"):
            read(file, **options)


def test_a10_a_build_takes_them(tmp_path):
    rows = [{"content.text": "a needle", "meta.source": "web"}] * 3
    file = write(tmp_path / "a.parquet", rows)
    out = tmp_path / "index"
    options = ["--text-field", "content.text", "--domain-field", "meta.source", "--tokenizer", "bytes"]
    done = memindex("index", "build", str(file), "--out", str(out), *options)
    assert done.returncode == 0, done.stderr
    done = memindex("count", "--index", str(out), "needle", "--by-domain", "--json")
    assert done.returncode == 0, done.stderr
    assert '"web"' in done.stdout


# A11: types without JSON

D = decimal.Decimal


def metadata_of(tmp_path, column, suffix):
    """The metadata of a table with that column between two others, as JSON, and the warnings."""
    rows = len(column)
    table = pa.table({"text": ["t"] * rows, "before": list(range(rows)), "odd": column, "after": ["z"] * rows})
    try:
        file = write(tmp_path / f"a.{suffix}", table)
    except (OSError, pa.ArrowException):
        pytest.skip(f"pyarrow does not write {column.type} there")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = read(file)
    assert texts(got) == ["t"] * rows

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    objects = [json.loads(row["metadata"], parse_constant=refuse, parse_float=D) for row in got]
    assert [(row["before"], row["after"]) for row in objects] == [(i, "z") for i in range(rows)]
    return objects, [str(warning.message) for warning in caught]


EQUAL_KEYS = pa.map_(pa.string(), pa.int64())
CASES = {
    "float16": (pa.array([1.5, None, float("nan"), 0.1], pa.float16()), [D("1.5"), None, None, D("0.0999755859375")]),
    "decimal256": (pa.array([D("1.10"), None], pa.decimal256(50, 2)), [D("1.10"), None]),
    "decimal256 of 50 digits": (pa.array([D("1" * 50)], pa.decimal256(50, 0)), [int("1" * 50)]),
    "decimal128": (pa.array([D("12345678901234567890.12")], pa.decimal128(30, 2)), [D("12345678901234567890.12")]),
    "decimal with a negative scale": (pa.array([D("1E2")], pa.decimal128(5, -2)), [D("1E+2")]),
    "nested decimal": (pa.array([[D("1.10")]], pa.list_(pa.decimal256(50, 2))), [[D("1.10")]]),
    "nested float16": (pa.array([{"h": 1.5, "l": [0.25]}], pa.struct({"h": pa.float16(), "l": pa.list_(pa.float16())})),
                       [{"h": D("1.5"), "l": [D("0.25")]}]),
    "map with equal keys": (pa.array([[("a", 1), ("b", 5), ("a", 2)], [], None], EQUAL_KEYS),
                            [{"a": 2, "b": 5}, {}, None]),
    "list of such maps": (pa.array([[[("a", 1), ("a", 2)]]], pa.list_(EQUAL_KEYS)), [[{"a": 2}]]),
    "map of numbers": (pa.array([[(1, "x"), (1, "y")]], pa.map_(pa.int64(), pa.string())), [{"1": "y"}]),
    "run-end encoded": (pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]), ["a", "a", "b"]),
    "dense union": (pa.UnionArray.from_dense(pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()),
                                             [pa.array([1]), pa.array(["x"])]), [1, "x"]),
    "sparse union": (pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["x", "y"])]),
                     [1, "y"]),
    "uuid": (pa.array([b"0" * 16], pa.uuid()), ["30303030-3030-3030-3030-303030303030"]),
    "text that is not JSON": (pa.array(['{"a":'], pa.json_()), ['{"a":']),
    "tensor": (pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.int32(), [2]),
                                              pa.array([[1, 2]], pa.list_(pa.int32(), 2))), [[1, 2]]),
    "binary": (pa.array([b"ab", b"\xff"]), ["ab", "\\xFF"]),
    "duration": (pa.array([10**9], pa.duration("ns")), ["00:00:01"]),
    "no fields": (pa.array([{}], pa.struct([])), [{}]),
    "dictionary": (pa.array(["x", None, "x"]).dictionary_encode(), ["x", None, "x"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("case", CASES)
def test_a11_values_of_any_type_become_json(tmp_path, case, kind):
    column, expected = CASES[case]
    objects, warned = metadata_of(tmp_path, column, kind)
    assert [row["odd"] for row in objects] == expected
    assert warned == []


FAR = pa.array([0, 10**15, 10**15], pa.timestamp("s"))
NOT_UTF8 = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"\xfe"], pa.binary()).buffers())
HALF = pa.array([1.5, 2.5, 3.5], pa.float16())
WITHOUT_JSON = {
    "timestamps out of range": (FAR, "1970-01-01 00:00:00"),
    "strings that are not UTF-8": (NOT_UTF8, "a"),
    "both in a struct": (pa.StructArray.from_arrays([NOT_UTF8, HALF], names=["s", "h"]), {"s": "a", "h": D("1.5")}),
}


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("case", WITHOUT_JSON)
def test_a11_values_without_json_are_omitted_with_one_warning(tmp_path, case, kind, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_ROWS", 1)
    column, first = WITHOUT_JSON[case]
    objects, warned = metadata_of(tmp_path, column, kind)
    assert objects[0]["odd"] == first
    assert ["odd" in row for row in objects] == [True, False, False]
    assert len(warned) == 1
    assert f"a.{kind}: column odd" in warned[0]
    assert "\n" not in warned[0]


def test_a11_odd_columns_beside_each_other(tmp_path):
    table = pa.table({
        "text": ["t"], 'say "é"': pa.array([1.5], pa.float16()), "m": pa.array([[("a", 1), ("a", 2)]], EQUAL_KEYS),
        "when": [datetime.datetime(2020, 1, 2, 3, 4, 5)], "nan": [float("nan")], "d": pa.array([D("1.10")]),
    })  # fmt: skip
    (row,) = leftover(read(write(tmp_path / "a.parquet", table)))
    assert row == {'say "é"': 1.5, "m": {"a": 2}, "when": "2020-01-02 03:04:05", "nan": None, "d": 1.1}
    assert list(row) == table.column_names[1:]


def test_a11_a_build_reports_the_column_once(tmp_path):
    table = pa.table({"text": ["a needle"] * 3, "far": FAR})
    file = write(tmp_path / "a.parquet", table)
    done = memindex("index", "build", str(file), "--out", str(tmp_path / "index"), "--tokenizer", "bytes")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("column far") == 1


# A12: texts that are stored once


#: Memory that is still in use refers to its pool.
_POOLS = []


def peak_of(file, **options):
    """Documents, bytes of text, and the most bytes that Arrow held at a time."""
    options = ReadOptions(**options)
    before = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(before)
    _POOLS.append(counting)
    pa.set_memory_pool(counting)
    try:
        rows = size = 0
        for batch in read_documents(find_files([file], options), options, BadDocuments()):
            rows, size = rows + len(batch), size + batch.column(0).nbytes
    finally:
        pa.set_memory_pool(before)
    return rows, size, counting.max_memory()


LONG = "x" * 200_000


@pytest.mark.parametrize("encoding", ["RLE_DICTIONARY", "DELTA_BYTE_ARRAY"])
def test_a12_a_text_stored_once_in_parquet_is_not_decoded_for_all_rows(tmp_path, encoding):
    file = tmp_path / "a.parquet"
    kinds = {} if encoding == "RLE_DICTIONARY" else {"use_dictionary": False, "column_encoding": encoding}
    pq.write_table(pa.table({"text": pa.array([LONG] * 1000)}), file, **kinds)
    assert file.stat().st_size < 200_000
    rows, size, peak = peak_of(file)
    assert (rows, size >= 1000 * len(LONG)) == (1000, True)
    assert peak < 150 << 20


def test_a12_a_long_side_column_and_a_nested_one_are_not_decoded_for_all_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_DECODED", 4 << 20)
    table = pa.table({"text": ["t"] * 200, "page": [LONG] * 200, "m": [{"l": [LONG]}] * 200})
    pq.write_table(table, tmp_path / "a.parquet")
    rows, _, peak = peak_of(tmp_path / "a.parquet")
    assert rows == 200
    assert peak < 60 << 20


def test_a12_texts_of_many_row_groups_come_in_order(tmp_path):
    made = [f"{i % 7} " * (1 + i % 5 * 3000) for i in range(600)]
    pq.write_table(pa.table({"text": made, "n": list(range(600))}), tmp_path / "a.parquet", row_group_size=50)
    got = read(tmp_path / "a.parquet")
    assert texts(got) == made
    assert leftover(got) == [{"n": i} for i in range(600)]
    assert [row["line"] for row in got] == list(range(1, 601))


def test_a12_short_row_groups_become_batches(tmp_path):
    pq.write_table(pa.table({"text": [str(i) for i in range(500)]}), tmp_path / "a.parquet", row_group_size=5)
    options = ReadOptions()
    batches = list(read_documents(find_files([tmp_path / "a.parquet"], options), options, BadDocuments()))
    assert [len(batch) for batch in batches] == [500]


def test_a12_an_arrow_dictionary_larger_than_32_bit_offsets_is_read(tmp_path):
    # 2,400 x 900 kB are more than 2^31 bytes once they are decoded.
    indices = pa.array(np.arange(2400, dtype=np.int8) % 3)
    column = pa.DictionaryArray.from_arrays(indices, pa.array([letter * 900_000 for letter in "abc"]))
    file = write(tmp_path / "a.arrow", pa.table({"text": column}))
    rows, size, peak = peak_of(file)
    assert (rows, size > 1 << 31) == (2400, True)
    assert peak < 100 << 20


WORDS = ["é", "", "word " * 50, "x"]
ENCODINGS = {
    "string_view": lambda made: pa.array(made, pa.string_view()),
    "large_string": lambda made: pa.array(made, pa.large_string()),
    "run-end": lambda made: pa.RunEndEncodedArray.from_arrays(list(range(1, len(made) + 1)), made),
    "dictionary": lambda made: pa.array(made).dictionary_encode(),
    "dictionary of large_string": lambda made: pa.array(made, pa.large_string()).dictionary_encode(),
    "dictionary of string_view": lambda made: pa.DictionaryArray.from_arrays(
        list(range(len(made))), pa.array(made, pa.string_view())
    ),
    "run-end of dictionary": lambda made: pa.RunEndEncodedArray.from_arrays(
        list(range(1, len(made) + 1)), pa.array(made).dictionary_encode()
    ),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("limit", [300, 4 << 20])
def test_a12_text_in_any_encoding_is_read_from_arrow(tmp_path, encoding, limit, monkeypatch):
    monkeypatch.setattr(arrow, "BATCH_BYTES", limit)
    made = WORDS * 3
    column = ENCODINGS[encoding](made)
    nested = pa.StructArray.from_arrays([ENCODINGS[encoding](made), pa.array(range(len(made)))], names=["t", "n"])
    file = write(tmp_path / "a.arrow", pa.table({"text": column, "m": nested, "d": column}))
    got = read(file, domain_field="d")
    assert (texts(got), [row["domain"] for row in got]) == (made, made)
    got = read(file, text_field="m.t")
    assert texts(got) == made
    assert leftover(got) == [{"text": text, "m": {"n": i}, "d": text} for i, text in enumerate(made)]


@pytest.mark.parametrize("limit", [8, 4 << 20])
def test_a12_token_lists_in_dictionaries_and_runs_are_read(tmp_path, limit, monkeypatch):
    monkeypatch.setattr(arrow, "BATCH_BYTES", limit)
    lists = pa.array([[1, 2, 3], [4], []], pa.list_(pa.int32()))
    for column, expected in (
        (pa.DictionaryArray.from_arrays(pa.array([2, 0, 0, 1]), lists), [[], [1, 2, 3], [1, 2, 3], [4]]),
        (pa.RunEndEncodedArray.from_arrays([2, 3, 4], lists), [[1, 2, 3], [1, 2, 3], [4], []]),
        (pa.array([[1, 2], [3]], pa.list_view(pa.int64())), [[1, 2], [3]]),
        (pa.array([[1, 2], [3]], pa.large_list_view(pa.int64())), [[1, 2], [3]]),
    ):
        file = write(tmp_path / "a.arrow", pa.table({"ids": column}))
        assert [row["tokens"] for row in read(file, text_field="ids")] == expected


def test_a12_slices_hold_all_rows_and_few_bytes():
    random = np.random.default_rng(5)
    values = pa.array(["y" * int(n) for n in random.integers(0, 400, 50)])
    indices = pa.array([None if n == 0 else int(n) for n in random.integers(0, 50, 700)], pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, values)
    lists = pa.array([list(range(int(n))) for n in random.integers(0, 30, 700)])
    batch = pa.record_batch({"a": column, "l": lists}).slice(13, 600)
    parts = list(slices.slices(batch, 1000))
    assert pa.Table.from_batches(parts).to_pylist() == batch.to_pylist()
    assert len(parts) > 50
    for part in parts:
        size = sum(len(row["a"] or "") + 8 * len(row["l"]) for row in part.to_pylist())
        assert size <= 1000 or len(part) == 1
