"""JSON lines that readers disagree about, token ids in them, and byte order marks: rows A3, A4, A5, A13 and A14."""

from __future__ import annotations

import json
import math
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from memindex.cli import cli
from memindex.corpus.sources import ReadOptions
from memindex.errors import CorpusError
from memindex.index import Index, build_index
from memindex.index.removing import remove_documents


def built(tmp_path: Path, content: str | bytes, **options) -> Index:
    raw = content if isinstance(content, bytes) else content.encode("utf-8", errors="surrogatepass")
    (tmp_path / "c.jsonl").write_bytes(raw)
    how = {name: options.pop(name) for name in ("skip_bad",) if name in options}
    build_index([tmp_path / "c.jsonl"], tmp_path / "out", tokenizer="bytes", options=ReadOptions(**options), **how)
    return Index.open(tmp_path / "out")


def metadata_of(index: Index) -> list[dict]:
    """The metadata of all documents, as Python's json reads what the index holds."""
    table = duckdb.sql(f"SELECT metadata FROM '{index.path}/documents.parquet' ORDER BY document").fetchall()
    return [json.loads(text, parse_constant=pytest.fail) for (text,) in table]


def expected(line: str, without: str = "text"):
    """What json.loads reads, with null for what no JSON number is."""

    def settled(value):
        if isinstance(value, dict):
            return {settled(key): settled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [settled(inner) for inner in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, str):
            return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value)
        return value

    read = json.loads(line)
    read.pop(without)
    return settled(read)


def test_a3_numbers_that_python_writes_and_json_lacks_are_null(tmp_path: Path) -> None:
    values = [float("nan"), float("inf"), float("-inf"), 1.5, [1, float("nan"), {"x": float("inf")}], "NaN, -Infinity"]
    lines = [json.dumps({"text": f"document {i} NaN", "q": values[i % len(values)], "n": i}) for i in range(60)]
    index = built(tmp_path, "\n".join(lines))
    assert index.manifest.documents == 60
    assert metadata_of(index) == [expected(line) for line in lines]
    sql = f"SELECT count(*) FROM '{index.path}/documents.parquet' WHERE metadata ->> '$.q' IS NULL"
    assert duckdb.sql(sql).fetchall() == [(30,)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": NaN}', "not a valid string"),
        ('{"text": "a", "q": Nan}', "expected"),
        ('{"text": "a", "q": NaN,}', "key must be a string"),
        ('{"text": "a", "q": -Infinit}', "not a JSON object"),
    ],
)
def test_a3_what_is_not_a_number_in_python_either_is_bad(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(CorpusError, match=reason) as caught:
        built(tmp_path, '{"text": "good"}\n' + line)
    assert "c.jsonl:2: " in str(caught.value)


def test_a3_a_domain_that_is_not_a_number_is_as_null(tmp_path: Path) -> None:
    for value in ("NaN", "null"):
        with pytest.raises(CorpusError, match="domain"):
            built(tmp_path, f'{{"text": "a", "d": {value}}}', domain_field="d")


TWICE = '{"text":"x one","k":"first","m":{"a":1,"b":2,"a":3},"l":[{"z":1,"z":2}],"k":"last"}'


def test_a4_of_equal_keys_the_last_counts_everywhere(tmp_path: Path) -> None:
    index = built(tmp_path, TWICE, domain_field="k")
    assert index.domains == ["last"]
    assert metadata_of(index) == [expected(TWICE)]
    file = f"{index.path}/documents.parquet"
    assert duckdb.sql(f"SELECT metadata ->> '$.k', metadata ->> '$.m.a' FROM '{file}'").fetchall() == [("last", "3")]
    shown = CliRunner().invoke(cli, ["documents", "-i", str(index.path), "x one", "--json"])
    assert '"first"' not in shown.output
    assert '"last"' in shown.output


def test_a4_in_domain_expressions_and_removal(tmp_path: Path) -> None:
    other = '{"text":"y two","k":"last","k":"first"}'
    index = built(tmp_path, f"{TWICE}\n{other}", domain_sql="k")
    assert sorted(index.domains) == ["first", "last"]
    remove_documents(index.path, where="metadata ->> '$.k' = 'last'")
    assert Index.open(index.path).count(["x one", "y two"]).tolist() == [0, 1]


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "first", "text": "last"}',
        '{"text": "t", "a": {"b": 1}, "a": 5}',
        '{"text": "t", "k": 1, "\\u006b": 2}',
        '{"text": "t", "a": [[{"b": {"c": 1, "c": 2}}]]}',
        '{"text": "t", "k": 1, "k": 1, "k": 3}',
    ],
)
def test_a4_at_any_depth_and_however_the_key_is_spelled(tmp_path: Path, line: str) -> None:
    index = built(tmp_path, line)
    assert metadata_of(index) == [expected(line)]
    assert index.count([json.loads(line)["text"]]).tolist() == [1]


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "t", "v": 1e400}',
        '{"text": "t", "v": [-1e999, 1e308, 2E5]}',
        '{"text": "t", "k\\ud800": 1}',
        '{"text": "t", "a": {"\\udc00k": "v\\ud800"}}',
        '{"text": "t", "\\ud83d\\ude00": 1, "k\\ud83d": 2}',
        '{"text": "t", "n": 123456789012345678901234567890, "z": -0, "f": 1E5}',
    ],
)
def test_a5_there_is_one_reading(tmp_path: Path, line: str) -> None:
    index = built(tmp_path, line)
    assert metadata_of(index) == [expected(line)]
    file = f"{index.path}/documents.parquet"
    [(parsed,)] = duckdb.sql(f"SELECT json_valid(metadata) FROM '{file}'").fetchall()
    assert parsed
    shown = CliRunner().invoke(cli, ["documents", "-i", str(index.path), "t", "--json"])
    assert shown.exit_code == 0
    json.loads(shown.output, parse_constant=pytest.fail)


def test_a5_digits_without_end_are_null(tmp_path: Path) -> None:
    line = '{"text": "t", "v": 1' + "0" * 400 + ".5}"
    assert metadata_of(built(tmp_path, line)) == [{"v": None}]


IDS = '{"ids":[13,13,7],"id":1,"meta":{"s":"a"}}\n{"ids":[],"meta":{"s":"b"}}\n{"ids":[7,255],"meta":{"s":"a"}}\n'


def test_a13_lists_of_token_ids_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(_words(300)))
    (tmp_path / "c.jsonl").write_text(IDS)
    options = ReadOptions(text_field="ids", domain_field="meta.s")
    build_index([tmp_path / "c.jsonl"], tmp_path / "out", tokenizer=tmp_path / "t.json", options=options)
    index = Index.open(tmp_path / "out")
    assert index.count([[13], [13, 7], [7], [7, 255], [255, 13]]).tolist() == [2, 1, 2, 1, 0]
    assert sorted(index.domains) == ["a", "b"]
    assert index.manifest.documents == 3
    assert metadata_of(index)[0] == {"id": 1, "meta": {"s": "a"}}


def _words(size: int) -> dict:
    vocabulary = {f"w{i}": i for i in range(size)}
    return {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"ids":[300]}', "token id 300"),
        ('{"ids":["a","b"]}', "not of token ids"),
        ('{"ids":[1.5]}', "not of token ids"),
        ('{"ids":[-1]}', "not of token ids"),
        ('{"ids":[4294967296]}', "not of token ids"),
        ('{"ids":[NaN]}', "not of token ids"),
        ('{"ids":"text"}', "is text, but lists of token ids in the lines before"),
        ('{"ids":{"a":1}}', "not a valid string"),
    ],
)
def test_a13_other_lists_are_bad_documents(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "t.json").write_text(json.dumps(_words(300)))
    (tmp_path / "c.jsonl").write_text(IDS + line + "\n")
    options = ReadOptions(text_field="ids")
    with pytest.raises(CorpusError, match=reason) as caught:
        build_index([tmp_path / "c.jsonl"], tmp_path / "out", tokenizer=tmp_path / "t.json", options=options)
    assert "c.jsonl:4" in str(caught.value)


def test_a13_ids_among_texts_are_bad_and_can_be_skipped(tmp_path: Path) -> None:
    lines = '{"text":"abc"}\n{"text":[1,2]}\n{"text":"abd"}\n'
    with pytest.raises(CorpusError, match=r'c\.jsonl:2: the field "text" is a list, but text in the lines before'):
        built(tmp_path, lines)
    index = built(tmp_path, lines, skip_bad=True)
    assert index.count(["ab"]).tolist() == [2]
    assert index.manifest.documents == 2


BOM = "\ufeff"


def test_a14_a_byte_order_mark_begins_any_line(tmp_path: Path) -> None:
    lines = f'{BOM}{{"text":"one"}}\n{BOM}{{"text":"two"}}\n{BOM}\n{{"text":"{BOM}three"}}\r\n{BOM}\r\n'
    index = built(tmp_path, lines)
    assert index.manifest.documents == 3
    assert index.count(["one", "two", f"{BOM}three", BOM]).tolist() == [1, 1, 1, 1]


def test_a14_elsewhere_it_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"c\.jsonl:1"):
        built(tmp_path, f'{{"text":"one"}}{BOM}\n')
