"""The SQL functions beside the Python API, on many rows and threads, over two indexes of two tokenizers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from synthetic_corpus import AWKWARD, sentences, train_bpe

from memindex.corpus.sources import ReadOptions
from memindex.corpus.tokenizer import Tokenizer
from memindex.index import Index, build_index
from memindex.sql.connection import connect
from memindex.sql.functions import FUNCTIONS, markdown, readable

ROWS = 30_000  # of which DuckDB asks for 2,048 at a time


class World(NamedTuple):
    """A study with two indexes, their texts, and tables of what is asked."""

    study: Path
    texts: dict[str, list[str]]
    indexes: dict[str, Index]
    asked: pa.Table


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("functions")
    train_bpe(root / "bpe" / "tokenizer.json")
    every = [*sentences(400), *AWKWARD[1:-1]]
    texts = {"words": every, "bytes of it": every[::3]}
    for name, tokenizer, shards in (("words", root / "bpe" / "tokenizer.json", 2), ("bytes of it", "bytes", 1)):
        source = root / f"{name}.jsonl"
        lines = [json.dumps({"text": t, "kind": f"kind {i % 3}"}) for i, t in enumerate(texts[name])]
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        build_index([source], root / name, tokenizer=tokenizer, options=ReadOptions(domain_field="kind"), shards=shards)
    (root / "study").mkdir()
    (root / "study" / "study.toml").write_text('index = "../words"\nheldout = "../bytes of it"\n', encoding="utf-8")
    indexes = {name: Index.open(root / name) for name in texts}
    return World(root / "study", texts, indexes, _asked(indexes, texts))


def _asked(indexes: dict[str, Index], texts: dict[str, list[str]]) -> pa.Table:
    """Pieces of the corpus as ids, many of them twice, some with a token changed; with NULL in both columns."""
    random = np.random.default_rng(3)
    names, tokens = [], []
    whole = {name: index.tokenize(texts[name]) for name, index in indexes.items()}
    for name in random.choice(list(indexes), ROWS):
        row = whole[name].row(int(random.integers(whole[name].rows)))
        start = int(random.integers(len(row)))
        ids = row[start : start + int(random.integers(1, 13))].tolist()
        if random.random() < 0.3:
            ids[int(random.integers(len(ids)))] = int(random.integers(97, 123))
        names.append(None if random.random() < 0.02 else str(name))
        tokens.append(None if random.random() < 0.03 else ids)
    return pa.table({"n": range(ROWS), "name": names, "tokens": pa.array(tokens, pa.list_(pa.int32()))})


@pytest.fixture
def con(world: World) -> duckdb.DuckDBPyConnection:
    con = connect(world.study)
    _store(con, "asked", world.asked)
    return con


def _store(con: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """A table that cursors in other threads see too."""
    con.register("arrow_rows", rows)
    con.execute(f"CREATE TABLE {name} AS FROM arrow_rows")


def _expected(world: World, answer: Any) -> list[Any]:
    """What `answer(index, rows)` of the Python API gives for every row; None where something is NULL."""
    expected: list[Any] = [None] * ROWS
    names, tokens = world.asked["name"].to_pylist(), world.asked["tokens"].to_pylist()
    for name, index in world.indexes.items():
        rows = [i for i in range(ROWS) if names[i] == name and tokens[i] is not None]
        for i, value in zip(rows, answer(index, [tokens[i] for i in rows]), strict=True):
            expected[i] = value
    return expected


def _by_domain(index: Index, rows: list[list[int]]) -> list[dict[str, int]]:
    table = index.count_by_domain(rows).tolist()
    return [{d: c for d, c in zip(index.domains, counts, strict=True) if c} for counts in table]


def _matches(index: Index, rows: list[list[int]]) -> list[list[dict[str, int]]]:
    found = index.longest_match(rows)
    pairs = [{"length": n, "count": c} for n, c in zip(found.lengths.tolist(), found.counts.tolist(), strict=True)]
    return [pairs[start:end] for start, end in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


API = {
    "ngram_count": lambda index, rows: index.count(rows).tolist(),
    "ngram_count_by_domain": _by_domain,
    "longest_match": lambda index, rows: [max(m["length"] for m in row) for row in _matches(index, rows)],
    "longest_matches": _matches,
    "detokenize": lambda index, rows: [index.tokenizer.decode(row) for row in rows],
}


@pytest.mark.parametrize("name", API)
def test_functions_say_what_the_python_api_says(con: duckdb.DuckDBPyConnection, world: World, name: str) -> None:
    con.execute("SET threads = 4")
    expected = _expected(world, API[name])

    def ask(part: int) -> dict[int, Any]:
        sql = f"SELECT n, {name}(name, tokens) FROM asked WHERE n % 4 = {part}"
        return dict(con.cursor().execute(sql).fetchall())

    with ThreadPoolExecutor(4) as pool:
        answers = {n: answer for part in pool.map(ask, range(4)) for n, answer in part.items()}
    assert answers == dict(enumerate(expected))
    assert 0.02 < expected.count(None) / ROWS < 0.08
    assert len({str(value) for value in expected}) > 3


def test_texts_are_tokenized_and_counted_in_any_thread(con: duckdb.DuckDBPyConnection, world: World) -> None:
    con.execute("SET threads = 4")
    texts = [t[: 1 + i % 30] for i, t in enumerate(world.texts["words"] * 50)]
    _store(con, "texts", pa.table({"n": range(len(texts)), "text": texts}))
    sql = "SELECT tokenize('words', text), text_count('words', text) FROM texts ORDER BY n"
    ids = [world.indexes["words"].tokenizer.encode(text) for text in texts]
    counts = world.indexes["words"].count(ids).tolist()
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda _: con.cursor().execute(sql).fetchall(), range(3)):
            assert found == list(zip(ids, counts, strict=True))


def test_longest_match_is_the_longest_piece_that_stands_in_a_text(con: duckdb.DuckDBPyConnection, world: World) -> None:
    for query in ("the quick xyzzy fox jumps", "naïve Straße", "!!", "the lazy"):
        raw = query.encode()
        pieces = [raw[a:b] for a in range(len(raw)) for b in range(a + 1, len(raw) + 1)]
        inside = [len(p) for p in pieces if any(p in text.encode() for text in world.texts["bytes of it"])]
        answer = con.execute("SELECT longest_match('bytes of it', $ids)", {"ids": list(raw)})
        assert answer.fetchall() == [(max(inside, default=0),)]


def test_what_stands_in_a_chunk_twice_is_asked_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [[97, 98 + k] for k in range(7)]
    longest = [max(m["length"] for m in row) for row in _matches(world.indexes["words"], queries)]
    texts = [world.indexes["words"].tokenizer.decode(query) for query in queries]
    asked: list[int] = []
    matching, decoding = Index.longest_match, Tokenizer.decode_batch
    monkeypatch.setattr(Index, "longest_match", lambda s, batch: (asked.append(batch.rows), matching(s, batch))[1])
    monkeypatch.setattr(Tokenizer, "decode_batch", lambda s, rows: (asked.append(len(rows)), decoding(s, rows))[1])
    con = connect(world.study)
    for name, expected in (("longest_match", longest), ("detokenize", texts)):
        sql = f"SELECT {name}('words', [97, 98 + i::INTEGER % 7]) FROM range(20000) AS t(i) ORDER BY i"
        assert con.execute(sql).fetchall() == [(expected[i % 7],) for i in range(20000)]
    assert max(asked) == 7
    assert len(asked) < 40


def test_documents_with_shows_the_documents_around(con: duckdb.DuckDBPyConnection, world: World) -> None:
    index = world.indexes["words"]
    ids = index.tokenizer.encode(" lazy dogs")
    expected = index.documents([ids], 7, max_tokens=9).rename_columns({"match": "document_offset"}).to_pylist()
    for query in ("' lazy dogs'", str(ids), f"{ids}::BIGINT[]", f"{ids}::UTINYINT[]" if max(ids) < 256 else str(ids)):
        cursor = con.execute(f"FROM documents_with('words', {query}, 7, max_tokens := 9)")
        columns = [column[0] for column in cursor.description]
        rows = cursor.fetchall()
        assert rows == [tuple(row[name] for name in columns) for row in expected]
    assert len(expected) == 7
    assert all(" lazy dogs" in row["text"] for row in expected)
    # Where a document is found is where the document table has it.
    joined = con.execute(
        "SELECT count(*) FROM documents_with('words', ' lazy dogs', 7) AS w JOIN documents AS d"
        " ON d.\"index\" = 'words' AND d.shard = w.shard AND d.document = w.document"
        " AND w.position = d.first_token + w.document_offset AND w.path = d.path"
        " AND w.domain = d.domain AND w.line = d.line"
    )
    assert joined.fetchall() == [(7,)]


def test_documents_with_goes_beside_a_table(con: duckdb.DuckDBPyConnection, world: World) -> None:
    _store(con, "small", world.asked.slice(0, 3000))
    found = con.execute(
        "SELECT n, count(*) FROM small, documents_with(name, tokens, 1 + n % 3, max_tokens := 1) GROUP BY n ORDER BY n"
    ).fetchall()
    counts = _expected(world, API["ngram_count"])[:3000]
    expected = [(n, min(count, 1 + n % 3)) for n, count in enumerate(counts) if count]
    assert found == expected
    texts = "(VALUES ('lazy dogs'), ('nowhere to be found'), (NULL), ('fox')) AS t(x)"
    found = con.execute(f"SELECT DISTINCT x FROM {texts}, documents_with('words', x) ORDER BY x").fetchall()
    assert found == [("fox",), ("lazy dogs",)]


def test_an_index_without_tokenizer_and_domains_answers_ids(tmp_path: Path, world: World) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in ("tokenized.0", "table.0", "offset.0", "metadata.0", "metaoff.0", "unigram.0"):
        (plain / file).write_bytes((world.indexes["bytes of it"].path / file).read_bytes())
    con = connect(world.study)
    ids = list(b"lazy")
    assert con.execute(f"SELECT ngram_count('{plain}', {ids})").fetchone() == (
        int(world.indexes["bytes of it"].count([ids])[0]),
    )
    rows = con.execute(f"SELECT text, domain FROM documents_with('{plain}', {ids}, 3)").fetchall()
    assert rows == [(None, None)] * 3
    assert "has no tokenizer" in _refused(con, f"SELECT detokenize('{plain}', {ids})")
    assert "has no domain column" in _refused(con, f"SELECT ngram_count_by_domain('{plain}', {ids})")


def _refused(con: duckdb.DuckDBPyConnection, sql: str) -> str:
    with pytest.raises(duckdb.Error) as caught:
        con.execute(sql).fetchall()
    line = str(readable(caught.value))
    assert "\n" not in line and "UDF" not in line
    return line


@pytest.mark.parametrize("name", ["ngram_count_by_domain", "longest_match", "longest_matches", "detokenize"])
@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("[1, NULL]", "a query contains a NULL token id"),
        ("[-7]", "token id -7 is negative: ids start at 0"),
        ("[300]", "token id 300 "),
        ("[1.5]", "token ids are whole numbers, not fractions: cast the list to INTEGER[]"),
        ("[1, 2]::DOUBLE[]", "token ids are whole numbers, not fractions"),
        ("3", "tokens are a list of whole numbers, not INTEGER: cast it to INTEGER[]"),
        (
            "'abc'",
            "tokens are a list of whole numbers, not VARCHAR: cast it to INTEGER[], or ask tokenize(index, text)",
        ),
        ("[1::BIGINT << 40]", "out of range for the destination type INT32"),
        ("[1], 2", "does not support the supplied arguments"),
    ],
)
def test_bad_tokens_are_one_clear_line(con: duckdb.DuckDBPyConnection, name: str, tokens: str, message: str) -> None:
    assert message in _refused(con, f"SELECT {name}('bytes of it', {tokens})")


@pytest.mark.parametrize("name", ["ngram_count_by_domain", "longest_match", "longest_matches"])
def test_an_empty_list_is_no_ngram_but_an_empty_text(con: duckdb.DuckDBPyConnection, name: str) -> None:
    assert "a list of tokens is empty" in _refused(con, f"SELECT {name}('words', [])")
    assert con.execute("SELECT detokenize('words', []), detokenize('bytes of it', [])").fetchall() == [("", "")]


def test_ids_without_text_are_left_out_as_the_error_says(con: duckdb.DuckDBPyConnection, world: World) -> None:
    vocabulary = world.indexes["words"].tokenizer.vocabulary
    con.execute(f"CREATE TABLE one AS SELECT [97, {vocabulary}, 98] AS tokens")
    line = _refused(con, "SELECT detokenize('words', tokens) FROM one")
    assert line.startswith(f"token id {vocabulary} has no text: the tokenizer's ids are 0 to {vocabulary - 1}; ")
    advice = line.partition("leave others out with ")[2]
    answer = con.execute(f"SELECT detokenize('words', {advice}) FROM one").fetchall()
    assert answer == [(world.indexes["words"].tokenizer.decode([97, 98]),)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'words', ''", "a list of tokens is empty"),
        ("'words', []", "a list of tokens is empty"),
        ("'words', 'a', 0", "limit must be a whole number of at least 1, not 0"),
        ("'words', 'a', max_tokens := -1", "max_tokens must be a whole number of at least 1, not -1"),
        ("'words', 'a', 'many'", "Could not convert string 'many' to INT64"),
        ("'words', [1.5]", "token ids are whole numbers, not fractions"),
        ("'words', 3", "tokens are a list of whole numbers, not INTEGER"),
        ("'nowhere', 'a'", "there is no index 'nowhere'; the study's indexes: words, bytes of it"),
    ],
)
def test_bad_documents_with_are_one_clear_line(con: duckdb.DuckDBPyConnection, arguments: str, message: str) -> None:
    assert message in _refused(con, f"FROM documents_with({arguments})")


def test_an_id_out_of_range_names_the_index_not_a_row_of_the_chunk(con: duckdb.DuckDBPyConnection) -> None:
    line = _refused(con, "SELECT ngram_count('bytes of it', [7]), ngram_count('bytes of it', [300])")
    assert line.startswith("index bytes of it: token id 300 is out of range")


def test_null_in_gives_null_out_for_every_function(con: duckdb.DuckDBPyConnection) -> None:
    for function in FUNCTIONS:
        for call in (f"{function.name}(NULL, NULL)", f"{function.name}('words', NULL)"):
            rows = con.execute(f"FROM {call}" if function.is_table else f"SELECT {call}").fetchall()
            assert rows == ([] if function.is_table else [(None,)]), call


def test_a_restricted_connection_asks_only_the_indexes_of_the_study(world: World) -> None:
    con = connect(world.study, restricted=True)
    other = world.indexes["words"].path
    assert con.execute("SELECT text_count('words', 'the') > 0").fetchall() == [(True,)]
    assert con.execute("SELECT count(*) FROM documents_with('words', 'the', 2)").fetchall() == [(2,)]
    line = _refused(con, f"FROM documents_with('{other}', 'the')")
    assert line == f"there is no index '{other}'; the study's indexes: words, bytes of it"


def test_every_function_is_documented() -> None:
    page = "\n".join(markdown())
    for function in FUNCTIONS:
        assert f"| `{function.name}(index, {function.argument}" in page
        assert function.meaning in page
