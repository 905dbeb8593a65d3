"""Reading JSON lines, against Python's json, gzip and zstandard."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_corpus import AWKWARD, write_jsonl

from memindex import _core
from memindex.corpus import jsonl
from memindex.corpus.documents import BadDocuments
from memindex.corpus.sources import ReadOptions, find_files, read_documents
from memindex.errors import CorpusError


def read(path, text_field="text", domain_field=None, bad=None, domain_sql=None):
    options = ReadOptions(text_field, domain_field, domain_sql=domain_sql)
    files = find_files([path] if not isinstance(path, list) else path, options)
    rows = []
    for batch in read_documents(files, options, bad or BadDocuments()):
        batch.validate(full=True)
        rows.extend(batch.to_pylist())
    return rows


def texts(rows):
    return [row["text"].decode("utf-8") for row in rows]


def leftover(rows):
    return [json.loads(row["metadata"]) for row in rows]


def strict_equal(a, b):
    # 1 == 1.0 == True in Python, but not in JSON.
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


PLAIN = b"".join(json.dumps({"text": f"document {i}", "id": i}).encode() + b"\n" for i in range(200))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", PLAIN),
        ("a.json", PLAIN),
        ("a.ndjson", PLAIN),
        ("a.jsonl.gz", gzip.compress(PLAIN)),
        ("a.json.gz", gzip.compress(PLAIN)),
        ("A.JSONL.GZ", gzip.compress(PLAIN)),
        ("a.jsonl.zst", zstandard.compress(PLAIN)),
        ("a.JSON.ZST", zstandard.compress(PLAIN)),
        ("frames.jsonl.zst", b"".join(zstandard.compress(PLAIN[i : i + 777]) for i in range(0, len(PLAIN), 777))),
        ("members.jsonl.gz", b"".join(gzip.compress(PLAIN[i : i + 777]) for i in range(0, len(PLAIN), 777))),
    ],
)
def test_every_packing_gives_the_same_documents(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    rows = read(tmp_path / name)
    assert texts(rows) == [f"document {i}" for i in range(200)]
    assert leftover(rows) == [{"id": i} for i in range(200)]
    assert [row["line"] for row in rows] == list(range(1, 201))
    assert {row["path"] for row in rows} == {name}


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_awkward_strings_survive_as_text_as_domain_and_in_metadata(tmp_path, ensure_ascii):
    lines = [
        json.dumps({"meta": {"set": s, "other": [s, {s: s}]}, s or "empty": s, "text": s}, ensure_ascii=ensure_ascii)
        for s in AWKWARD
    ]
    file = tmp_path / "a.jsonl"
    file.write_bytes("\n".join(lines).encode("utf-8"))
    rows = read(file, domain_field="meta.set")
    assert texts(rows) == AWKWARD
    assert [row["domain"] for row in rows] == AWKWARD
    expected = [json.loads(line) for line in lines]
    for row in expected:
        del row["text"]
    assert leftover(rows) == expected
    assert not any("\n" in row["metadata"] for row in rows)


def test_line_ends_and_blank_lines(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\n{"text": "one"}\r\n\r\n  \n{"text": "two\\r\\n"}\n\n\n{"text": "three"}')
    rows = read(file)
    assert texts(rows) == ["one", "two\r\n", "three"]
    assert [row["line"] for row in rows] == [2, 5, 8]


def test_a_byte_order_mark_is_no_part_of_the_first_document(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes('\ufeff{"text": "one"}\n{"text": "\ufefftwo"}\n'.encode())
    assert texts(read(file)) == ["one", "\ufefftwo"]


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n\r\n", b" \t \n"])
def test_a_file_without_lines_holds_no_documents(tmp_path, data):
    (tmp_path / "a.jsonl").write_bytes(data)
    assert read(tmp_path / "a.jsonl") == []


def test_the_last_of_equal_keys_counts_as_in_python(tmp_path):
    line = '{"text": "a", "text": "b", "m": {"d": 1}, "m": {"d": "last"}, "m2": 0}'
    (tmp_path / "a.jsonl").write_text(line)
    (row,) = read(tmp_path / "a.jsonl", domain_field="m.d")
    assert (row["text"], row["domain"]) == (b"b", "last")
    assert json.loads(row["metadata"]) == {"m": {"d": "last"}, "m2": 0}


def test_metadata_keeps_numbers_as_they_were_written(tmp_path):
    line = '{"n": 1.50, "big": 123456789012345678901234567890, "e": 1E+2, "z": -0.0, "t": true, "x": null, "text": ""}'
    (tmp_path / "a.jsonl").write_text(line)
    (row,) = read(tmp_path / "a.jsonl")
    for part in ("1.50", "123456789012345678901234567890", "1E+2", "-0.0", "true", "null"):
        assert part in row["metadata"]
    assert strict_equal(json.loads(row["metadata"]), {k: v for k, v in json.loads(line).items() if k != "text"})


@pytest.mark.parametrize(
    ("value", "label"), [('"x"', "x"), ("7", "7"), ("1.50", "1.50"), ("true", "true"), ('""', ""), ('"\\u00e9"', "é")]
)
def test_domains_are_text_numbers_or_booleans(tmp_path, value, label):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "t", "meta": {{"source": {{"name": {value}}}}}}}')
    (row,) = read(tmp_path / "a.jsonl", domain_field="meta.source.name")
    assert row["domain"] == label


def test_nested_text_leaves_its_neighbours(tmp_path):
    line = {"a": {"b": {"text": "words", "n": 1}, "c": [2]}, "d": 3}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    (row,) = read(tmp_path / "a.jsonl", text_field="a.b.text", domain_field="d")
    assert (row["text"], row["domain"]) == (b"words", "3")
    assert json.loads(row["metadata"]) == {"a": {"b": {"n": 1}, "c": [2]}, "d": 3}


BAD_LINES = {
    b'{"text": "cut': "ends too early",
    b'{"text": "a"} trailing': "not a JSON object",
    b"[1, 2]": "not a JSON object",
    b'"text"': "not a JSON object",
    b"{'text': 'a'}": "not a JSON object",
    b'{"txt": "a"}': 'no field "text"',
    b'{"text": 5}': "not a valid string",
    b'{"text": null}': "not a valid string",
    b'{"text": ["a"]}': "a list, but text in the lines before",
    b'{"text": "\xff"}': "",
    b'{"text": "a", "other": "\xed\xa0\x80"}': "",
    b'{"text": "\\ud800"}': "not a valid string",
    b'{"text": "\\udc00\\ud800"}': "not a valid string",
    b'{"text": "raw \x01 control"}': "",
    b'{"text": "a",}': "",
    b'{"text": "a", "n": 01}': "",
    b"nonsense": "not a JSON object",
    b'{"text": "a"}{"text": "b"}': "not a JSON object",
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.items(), ids=[repr(line) for line in BAD_LINES])
def test_a_bad_line_is_named_with_file_and_number(tmp_path, line, reason):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"text": "good"}\n\n' + line + b'\n{"text": "good"}\n')
    with pytest.raises(CorpusError) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}:3: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_skipping_bad_lines_keeps_the_good_ones_and_counts(tmp_path):
    file = tmp_path / "a.jsonl"
    good = json.dumps({"text": "good"}).encode()
    file.write_bytes(b"\n".join(part for line in BAD_LINES for part in (good, line)))
    bad = BadDocuments(skip=True)
    rows = read(file, bad=bad)
    assert [row["line"] for row in rows] == list(range(1, 2 * len(BAD_LINES), 2))
    assert bad.count == len(BAD_LINES)
    numbers = [int(place.split("a.jsonl:")[1].split(":")[0]) for place in bad.first]
    assert numbers == list(range(2, 2 * len(BAD_LINES) + 1, 2))


@pytest.mark.parametrize("domain", ["null", "{}", "[]", '"\\ud800"', None])
def test_a_domain_that_is_no_label_is_refused(tmp_path, domain):
    field = "" if domain is None else f', "d": {domain}'
    (tmp_path / "a.jsonl").write_text(f'{{"text": "t"{field}}}')
    with pytest.raises(CorpusError, match=r"a\.jsonl:1: .*domain"):
        read(tmp_path / "a.jsonl", domain_field="d")


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
def test_no_cut_of_a_packed_file_is_taken_for_a_whole_one(tmp_path, compress):
    data = compress(PLAIN[:2000])
    file = tmp_path / ("a.jsonl.gz" if compress is gzip.compress else "a.jsonl.zst")
    for cut in range(len(data)):
        file.write_bytes(data[:cut])
        with pytest.raises(CorpusError, match="can't be decompressed"):
            read(file)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_what_is_neither_compressed_nor_text_is_refused(tmp_path, suffix):
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(b"\0" * 4096 + PLAIN)
    with pytest.raises(CorpusError, match="can't be decompressed"):
        read(file)


def long_lines(file, lengths):
    file.write_bytes(b"".join(json.dumps({"text": "x" * (n - 12)}).encode() + b"\n" for n in lengths))
    return file


def test_a_line_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "LONGEST_LINE", 1000)
    monkeypatch.setattr(jsonl, "BATCH_BYTES", 100)
    assert len(read(long_lines(tmp_path / "a.jsonl", [20, 900, 20]))) == 3
    with pytest.raises(CorpusError, match=r"a\.jsonl:2: the line is longer than .*--skip-bad"):
        read(long_lines(tmp_path / "a.jsonl", [20, 2000, 20]))


@pytest.mark.parametrize("batch", [7, 64, 100, 101, 1000])
def test_skipping_a_line_beyond_the_limit_goes_on_behind_it(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(jsonl, "LONGEST_LINE", 1000)
    monkeypatch.setattr(jsonl, "BATCH_BYTES", batch)
    lengths = [20, 5000, 30, 31, 9000, 9001, 40]
    for end in (b"\n", b""):
        file = long_lines(tmp_path / "a.jsonl", lengths)
        file.write_bytes(file.read_bytes().removesuffix(b"\n") + end)
        bad = BadDocuments(skip=True)
        rows = read(file, bad=bad)
        assert [(row["line"], len(row["text"]) + 12) for row in rows] == [(1, 20), (3, 30), (4, 31), (7, 40)]
        assert [report.split(": ")[0] for report in bad.first] == [f"{file}:{n}" for n in (2, 5, 6)]


def test_a_long_line_is_never_in_memory_as_a_whole(tmp_path):
    # Zeros take no room in a file with holes.
    file = tmp_path / "a.jsonl"
    with file.open("wb") as stream:
        stream.write(b'{"text": "one"}\n{"text": "')
        stream.seek(400 << 20)
        stream.write(b'"}\n{"text": "two"}\n')
    script = f"""
import resource
from memindex.corpus import jsonl
from memindex.corpus.documents import BadDocuments
from memindex.corpus.sources import ReadOptions, find_files, read_documents
jsonl.LONGEST_LINE = 16 << 20
options, bad = ReadOptions(), BadDocuments(skip=True)
files = find_files([{str(file)!r}], options)
next(read_documents(find_files([{str(write_jsonl(tmp_path / "b.jsonl", [{"text": "b"}]))!r}], options), options, bad))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = [row for batch in read_documents(files, options, bad) for row in batch.to_pylist()]
print([row["line"] for row in rows], bad.count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines, count, more = done.stdout.rsplit(maxsplit=2)
    assert (lines, count) == ("[1, 3]", "1")
    assert int(more) < 100 << 10


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_cut_file_says_up_to_which_line_it_was_read(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(jsonl, "BATCH_BYTES", 1000)
    random = np.random.default_rng(1)
    lines = b"".join(json.dumps({"text": random.bytes(40).hex()}).encode() + b"\n" for _ in range(5000))
    packed = gzip.compress(lines) if suffix == "gz" else zstandard.compress(lines)
    file = tmp_path / f"a.jsonl.{suffix}"
    file.write_bytes(packed[: len(packed) * 2 // 3])
    bad = BadDocuments(skip=True)
    rows = read(file, bad=bad)
    assert 0 < len(rows) < 5000
    assert [row["line"] for row in rows] == list(range(1, len(rows) + 1))
    (report,) = bad.first
    assert report.startswith(f"{file}: can't be decompressed: ")
    assert f"it was read up to line {len(rows)}; the rest" in report


def test_halves_of_surrogate_pairs_in_metadata_do_not_keep_sql_from_the_rest(tmp_path):
    kept = r'''"whole \ud83d\uDE00", "plain \\ud800", "quote \"\n"'''
    halves = r'''"\ud800", "\uDC00\ud83d", "\ud83d\ud83d\ude00", "\\\ud800 \udFFF"'''
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a", "m": [{kept}, {halves}]}}\n{{"text": "b"}}\n')
    first, second = read(tmp_path / "a.jsonl", domain_sql="coalesce(json_extract_string(metadata, '$.m[1]'), 'none')")
    mended = r'''"\ufffd", "\ufffd\ufffd", "\ufffd\ud83d\ude00", "\\\ufffd \ufffd"'''
    assert first["metadata"] == f'{{"m": [{kept}, {mended}]}}'
    assert (first["domain"], second["domain"]) == ("plain \\ud800", "none")


def test_a_file_name_need_not_be_utf8(tmp_path):
    for name, data in ((b"\xff.jsonl", PLAIN), (b"\xff.jsonl.gz", gzip.compress(PLAIN))):
        file = tmp_path / os.fsdecode(name)
        file.write_bytes(data)
        assert {row["path"] for row in read(file)} == {file.name.replace("\udcff", "\ufffd")}


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_small_cut_file_keeps_the_lines_before_the_cut(tmp_path, suffix):
    lines = b"".join(json.dumps({"text": f"{i} {i * i} {i**3}"}).encode() + b"\n" for i in range(5000))
    packed = gzip.compress(lines) if suffix == "gz" else zstandard.compress(lines)
    file = tmp_path / f"a.jsonl.{suffix}"
    file.write_bytes(packed[:-4])
    bad = BadDocuments(skip=True)
    rows = read(file, bad=bad)
    # What is lost is one step of unpacking at most; zstd gives nothing of a block that is cut.
    assert len(rows) > (4800 if suffix == "gz" else 0)
    assert [row["line"] for row in rows] == list(range(1, len(rows) + 1))
    assert f"it was read up to line {len(rows)}; the rest" in bad.first[0]


# surrogates can't be written as UTF-8; every other code point can.
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=6,
)
document = st.fixed_dictionaries(
    {"text": anything, "meta": st.fixed_dictionaries({"domain": anything, "more": json_value})},
    optional={"extra": json_value, "id": st.integers()},
)


@settings(max_examples=150, deadline=None)
@given(
    documents=st.lists(document, max_size=8),
    block=st.integers(1, 80),
    escape=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    last=st.booleans(),
)
def test_blocks_may_end_anywhere(tmp_path_factory, documents, block, escape, end, last):
    file = tmp_path_factory.mktemp("blocks") / "a.jsonl"
    lines = [json.dumps(d, ensure_ascii=escape, separators=(",", ":") if escape else None) for d in documents]
    file.write_bytes((end.join(lines) + (end if last else "")).encode("utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "BATCH_BYTES", block)
        rows = read(file, domain_field="meta.domain")
    expected = [json.loads(line) for line in lines]
    assert texts(rows) == [d["text"] for d in expected]
    assert [row["domain"] for row in rows] == [d["meta"]["domain"] for d in expected]
    for row, d in zip(rows, expected, strict=True):
        del d["text"]
        assert strict_equal(json.loads(row["metadata"]), d)
    step = end.count("\n")
    assert [row["line"] for row in rows] == [1 + i * step for i in range(len(rows))]


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([b'{"text":', b'"a"', b"}", b",", b"\n", b"\\u00", b"{", b"\xef\xbb\xbf", b" "]))
)
def test_no_bytes_crash_the_parser(data):
    block = data if isinstance(data, bytes) else b"".join(data)
    (_, offsets), _, _, _, _, lines, bad = _core.parse_jsonl(block, "text", None, 1)
    lines_of = [line.removeprefix(b"\xef\xbb\xbf") for line in block.split(b"\n")]
    filled = [n for n, line in enumerate(lines_of, start=1) if line.strip(b" \t\r\x0c")]
    assert sorted([*lines.tolist(), *(n for n, _ in bad)]) == filled
    assert len(offsets) == len(lines) + 1
