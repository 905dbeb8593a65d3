"""Counts of sequences and their n-grams, and the spans of continuations, against a recount of the raw texts."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from importing_world import make_world, run, store, windows
from scored_study import make_indexes, make_study
from synthetic_index import write_index

from memindex.errors import MemindexError, QueryError
from memindex.index import Index, build_index
from memindex.index import domain_counts as by_domain
from memindex.index.domain_counts import domain_counts
from memindex.ragged import Ragged, from_lists
from memindex.sql.connection import connect
from memindex.study import frequencies, spans
from memindex.study.config import FILE, StudyConfig, load_study
from memindex.study.frequencies import NgramStatistics, count_sequences, ngram_statistics
from memindex.study.running import run_study, status
from memindex.study.spans import longest_spans
from memindex.tables.store import TableStore

#: Few letters: n-grams repeat.
LETTERS = b"abcd"


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    random = np.random.default_rng(0)
    for i in range(30):
        (root / f"domain-{i % 3}").mkdir(exist_ok=True)
        (root / f"domain-{i % 3}" / f"{i}.txt").write_bytes(bytes(random.choice(list(LETTERS), 60 + i).tolist()))
    return root


@pytest.fixture(scope="module", params=[1, 3], ids=["one shard", "three shards"])
def index(request, texts, tmp_path_factory) -> Index:
    out = tmp_path_factory.mktemp("index") / "ix"
    build_index([texts], out, tokenizer="bytes", shards=request.param)
    return Index.open(out)


def documents(texts: Path) -> list[tuple[str, bytes]]:
    return [(file.parent.name, file.read_bytes()) for file in sorted(texts.rglob("*.txt"))]


def asked(texts: Path) -> list[bytes]:
    """Sequences of several lengths, some of which the texts don't hold; each twice."""
    random = np.random.default_rng(1)
    whole = [text for _, text in documents(texts)]
    found = [text[i : i + n] for text, i, n in zip(whole, range(30), [1, 3, 5, 6, 20, 20] * 5, strict=True)]
    made = [bytes(random.choice(list(LETTERS + b"z"), n).tolist()) for n in (1, 4, 5, 12, 20, 40)]
    return [*found, *made] * 2


def grams(text: bytes, n: int) -> list[bytes]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("at_once", [1 << 23, 7])
def test_ngram_statistics_equal_a_recount(index, texts, monkeypatch, n, at_once):
    monkeypatch.setattr(frequencies, "_NGRAMS", at_once)
    counts = Counter(gram for _, text in documents(texts) for gram in grams(text, n))
    tokens = sum(len(text) for _, text in documents(texts))
    sequences = asked(texts)
    found = ngram_statistics(index, from_lists(sequences), n)
    assert isinstance(found, NgramStatistics)
    some_unseen = False
    for row, sequence in enumerate(sequences):
        wanted = np.array([counts[gram] for gram in grams(sequence, n)])
        assert found.ngrams[row] == len(wanted)
        if not len(wanted):
            continue
        some_unseen |= not wanted.all()
        assert (found.min_count[row], found.max_count[row]) == (wanted.min(), wanted.max())
        quartiles = found.q25_count[row], found.median_count[row], found.q75_count[row]
        np.testing.assert_allclose(quartiles, np.quantile(wanted, [0.25, 0.5, 0.75]), rtol=1e-12)
        np.testing.assert_allclose(found.mean_count[row], wanted.mean(), rtol=1e-12)
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(found.mean_log_frequency[row], np.log(wanted / tokens).mean(), rtol=1e-12)
    assert some_unseen


def test_an_n_without_meaning_and_an_id_out_of_range_are_refused(index):
    with pytest.raises(MemindexError, match="at least 1 token"):
        ngram_statistics(index, from_lists([[97, 98]]), 0)
    for n in (1, 2):
        with pytest.raises(QueryError, match="out of range"):
            ngram_statistics(index, from_lists([[97, 98], [97, 255]]), n)


@pytest.mark.parametrize("at_once", [1 << 18, 16])
def test_sequences_are_counted_alike_in_batches_of_any_size(studied, monkeypatch, at_once):
    monkeypatch.setattr(frequencies, "_ROWS", at_once)
    config = load_study(studied / "study")
    tables = TableStore(config.tables)
    counted = count_sequences(Index.open(config.index), tables.read("sequences"))
    assert len(counted["sequence_count"]) > 100
    for name, values in counted.items():
        assert (values.tolist() if isinstance(values, np.ndarray) else values.to_pylist()) == tables.read(
            "frequencies"
        )[name].to_pylist()


@pytest.mark.parametrize("most", [1 << 24, 10])
def test_domain_counts_equal_a_recount(index, texts, monkeypatch, most):
    monkeypatch.setattr(by_domain, "NUMBERS", most)
    sequences = asked(texts)
    found = domain_counts(index, from_lists(sequences))
    wanted = []
    for row, sequence in enumerate(sequences):
        counts = Counter()
        for name, text in documents(texts):
            counts[index.domains.index(name)] += grams(text, len(sequence)).count(sequence)
        wanted += [(row, domain, counts[domain]) for domain in range(3) if counts[domain]]
    assert list(zip(*(column.tolist() for column in found), strict=True)) == wanted
    assert {domain for _, domain, _ in wanted} == {0, 1, 2}


def longest_by_hand(row: list[int], texts: list[bytes]) -> tuple[int, int, int]:
    """(start, length, count) of the first of the longest parts of a row that some text holds."""
    for length in range(len(row), 0, -1):
        for start in range(len(row) - length + 1):
            part = row[start : start + length]
            if min(part) >= 0 and max(part) < 256 and any(bytes(part) in text for text in texts):
                return start, length, sum(grams(text, length).count(bytes(part)) for text in texts)
    return 0, 0, 0


@pytest.mark.parametrize("at_once", [1 << 22, 8])
def test_longest_spans_equal_a_search_by_hand(index, texts, monkeypatch, at_once):
    monkeypatch.setattr(spans, "_TOKENS", at_once)
    random = np.random.default_rng(2)
    rows = [random.choice([*LETTERS, 122], n).tolist() for n in (1, 2, 9, 30, 30, 30)]
    rows += [[97, 98, 255, 99, 100], [300, 70_000, 97], [-1], [122, 122], [], list(documents(texts)[7][1])]
    found = longest_spans(index, from_lists(rows))
    whole = [text for _, text in documents(texts)]
    assert list(zip(*(c.tolist() for c in found[:3]), strict=True)) == [longest_by_hand(row, whole) for row in rows]
    assert found.length.tolist()[-6:] == [2, 1, 0, 0, 0, len(rows[-1])]
    for i, row in enumerate(rows):
        shard, position, document, domain = (int(column[i]) for column in found[3:])
        if not found.length[i]:
            assert (shard, position, document, domain) == (-1, -1, -1, -1)
            continue
        part = row[found.start[i] : found.start[i] + found.length[i]]
        assert index.tokens_of_shard(shard)[position : position + len(part)].tolist() == part
        starts = index.document_starts(shard)
        assert starts[document] < position
        assert document + 1 == len(starts) or position < starts[document + 1]
        names = {name for name, text in documents(texts) if text == text_of(index, shard, document)}
        assert index.domains[domain] in names


def text_of(index: Index, shard: int, document: int) -> bytes:
    tokens, starts = np.asarray(index.tokens_of_shard(shard)), [*index.document_starts(shard), None]
    return tokens[starts[document] + 1 : starts[document + 1]].tobytes()


def test_no_rows_have_no_spans(index):
    found = longest_spans(index, Ragged(np.empty(0, dtype=np.int32), np.zeros(1, dtype=np.int64)))
    assert [len(column) for column in found] == [0] * 7


@pytest.fixture(scope="module")
def studied(tmp_path_factory) -> Path:
    """A study without models, whose sequences are sampled and counted."""
    root = tmp_path_factory.mktemp("studied")
    run_study(make_study(root / "study", make_indexes(root)), only="sequences")
    return root


@pytest.fixture
def study(studied, tmp_path) -> StudyConfig:
    shutil.copytree(studied, tmp_path, dirs_exist_ok=True)
    return load_study(tmp_path / "study")


def files(config: StudyConfig) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in config.tables.rglob("*.parquet")}


def test_an_older_study_gets_what_it_lacks_and_nothing_twice(study, monkeypatch):
    monkeypatch.setattr(frequencies, "PART", 100)
    before = files(study)
    assert dict(status(study)) == {"sequences": "done", "frequencies": "missing"}
    run_study(study, only="frequencies")
    assert dict(status(study)) == {"sequences": "done", "frequencies": "done"}
    after = files(study)
    assert before.items() < after.items()
    rows = len(TableStore(study.tables).read("sequences"))
    assert len(after) - len(before) == 3 * -(-rows // 100)
    run_study(study)
    assert files(study) == after
    again = next(file for file in after if "5-grams 000000100" in file.name)
    content = again.read_bytes()
    again.unlink()
    assert dict(status(study))["frequencies"] == "missing"
    run_study(study)
    assert again.read_bytes() == content
    assert {file for file, made in files(study).items() if after[file] != made} == {again}


def test_tables_of_a_study_join_and_add_up(study):
    run_study(study)
    con = connect(study.directory)
    wrong = """
        SELECT count(*) FROM frequencies AS f JOIN sequences AS s USING (sequence_id)
        LEFT JOIN (SELECT sequence_id, sum(count) AS there FROM domain_counts GROUP BY ALL) USING (sequence_id)
        WHERE coalesce(there, 0) <> sequence_count
    """
    assert con.execute(wrong).fetchall() == [(0,)]
    sequences = con.execute("SELECT count(*) FROM sequences").fetchall()[0][0]
    rows = con.execute("SELECT n, count(*), min(ngrams), max(ngrams) FROM ngram_statistics GROUP BY n ORDER BY n")
    assert rows.fetchall() == [(1, sequences, 16, 16), (5, sequences, 12, 12)]
    # A sequence can't occur more often than its rarest 5-gram.
    bounded = """SELECT bool_and(min_count >= sequence_count), bool_or(max_count > sequence_count)
                 FROM ngram_statistics JOIN frequencies USING (sequence_id, "index") WHERE n = 5"""
    assert con.execute(bounded).fetchall() == [(True, True)]


def test_other_lengths_are_added_to_those_that_are_there(study):
    run_study(study, only="frequencies")
    before = files(study)
    with (study.directory / FILE).open("a") as out:
        out.write("\n[frequencies]\nngrams = [1, 5, 8]\n")
    run_study(load_study(study.directory), only="frequencies")
    assert before.items() < files(study).items()
    assert sorted(set(TableStore(study.tables).read("ngram_statistics")["n"].to_pylist())) == [1, 5, 8]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ngrams = [0]", "between 1 and 16"),
        ("ngrams = 17", "between 1 and 16"),
        ("ngrams = [5, 5]", "twice"),
        ('ngrams = "five"', "whole number"),
        ("ngram = 5", "unknown key ngram"),
    ],
)
def test_mistakes_in_the_section_are_named(study, text, message):
    with (study.directory / FILE).open("a") as out:
        out.write(f"\n[frequencies]\n{text}\n")
    with pytest.raises(MemindexError, match=message) as raised:
        load_study(study.directory)
    assert FILE in str(raised.value)


@pytest.mark.parametrize("step", ["frequencies", "spans"])
def test_a_step_before_its_sequences_is_refused(tmp_path, step):
    study = make_study(tmp_path / "study", make_indexes(tmp_path))
    with pytest.raises(MemindexError, match="--only sequences first"):
        run_study(study, only=step)
    assert not study.tables.exists()


def test_statistics_of_another_sample_are_refused(study):
    run_study(study, only="frequencies")
    for table in ("sequences", "frequencies", "buckets"):
        shutil.rmtree(study.tables / table)
    text = (study.directory / FILE).read_text()
    (study.directory / FILE).write_text(text.replace("seed = 3", "seed = 4"))
    with pytest.raises(MemindexError, match="other settings"):
        run_study(load_study(study.directory))


@pytest.fixture
def world(tmp_path) -> Path:
    """A study with an imported run: the first continuations are right, the others stand elsewhere or nowhere."""
    root = make_world(tmp_path)
    texts = windows(root, 6).tolist()
    rows = [{"prefix": text[:6], "suffix": text[6:], "continuation": text[6:]} for text in texts[:3]]
    rows.append({"prefix": texts[3][:6], "suffix": texts[3][6:], "continuation": texts[4][:4]})
    rows.append({"prefix": texts[5][:6], "suffix": texts[5][6:], "continuation": [200, 201, *texts[0][:2]]})
    rows.append({"prefix": list(b"nowher"), "suffix": list(b"e!!!"), "continuation": [200, 255, 300, 201]})
    (root / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    run(root, "import", "jsonl", root / "rows.jsonl", "--model-id", "m")
    return root


def test_imported_sequences_and_continuations_are_looked_up_too(world):
    config = load_study(world / "study")
    (config.tables / "sequences" / "sample-made.parquet").unlink()
    run_study(config)
    found = {row["sequence_id"]: row for row in store(world).read("spans").to_pylist()}
    imported = sorted(found)
    assert len(imported) == 6
    ordered = [found[number] for number in imported]
    assert [row["length"] for row in ordered] == [4, 4, 4, 4, 2, 0]
    assert [row["start"] for row in ordered] == [0, 0, 0, 0, 2, 0]
    assert [row["count"] > 0 for row in ordered] == [True] * 5 + [False]
    assert [row["domain"] is None for row in ordered] == [False] * 5 + [True]
    five = [row for row in store(world).read("ngram_statistics").to_pylist() if row["n"] == 5]
    assert {row["min_count"] for row in five if row["sequence_id"] == imported[-1]} == {0}
    assert {row["min_count"] for row in five if row["sequence_id"] == imported[0]} == {1}
    by_domain = store(world).read("domain_counts").to_pylist()
    assert {row["count"] for row in by_domain if row["sequence_id"] in imported} == {1}


def test_spans_of_continuations_that_are_gone_are_removed(world):
    config = load_study(world / "study")
    (config.tables / "sequences" / "sample-made.parquet").unlink()
    run_study(config)
    [kept] = store(world).units("spans")
    shutil.copyfile(store(world).file("spans", kept), store(world).file("spans", "gone"))
    run_study(config, only="spans")
    assert store(world).units("spans") == [kept]
    store(world).file("runs", store(world).units("runs")[0]).unlink()
    store(world).file("spans", kept).unlink()
    run_study(config, only="spans")
    assert not store(world).units("spans")


def test_spans_of_a_model_with_other_tokens_are_not_looked_up(world):
    config = load_study(world / "study")
    (config.tables / "sequences" / "sample-made.parquet").unlink()
    [unit] = store(world).units("runs")
    made = store(world).read("runs").to_pydict()
    store(world).write("runs", unit, made | {"retokenized": [True]})
    run_study(config)
    assert len(store(world).units("spans")) == 1
    assert not len(store(world).read("spans"))


def test_duplicates_are_the_occurrences_elsewhere(tmp_path):
    root = make_world(tmp_path)
    # The first line of all twelve texts, what stands in one of them, and what stands in none.
    texts = [list(b"the same f"), windows(root, 1)[0].tolist(), list(b"nowhere!!!")]
    rows = [{"prefix": text[:6], "suffix": text[6:], "continuation": text[6:]} for text in texts]
    (root / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    run(root, "import", "jsonl", root / "rows.jsonl", "--model-id", "m")
    asked = "SELECT sequence_count, duplicates FROM memorization ORDER BY sequence_id"
    assert connect(root / "study").execute(asked).fetchall() == [(12, 11), (1, 0), (0, 0)]


def test_an_import_without_lookup_has_no_spans(tmp_path):
    root = make_world(tmp_path)
    rows = [{"prefix": [1, 2], "suffix": [97, 98], "continuation": [97, 99]}]
    (root / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    run(root, "import", "jsonl", root / "rows.jsonl", "--model-id", "m", "--no-lookup")
    config = load_study(root / "study")
    (config.tables / "sequences" / "sample-made.parquet").unlink()
    run_study(config)
    assert len(store(root).units("spans")) == 1
    assert not len(store(root).read("spans"))
    assert not spans.missing_spans(config)


def test_a_million_lookups_take_no_loop_over_rows(index):
    """Rows that were looked at one by one would take minutes."""
    ids = np.random.default_rng(0).choice(list(LETTERS), (20_000, 64)).astype(np.int32)
    before = time.process_time()
    found = ngram_statistics(index, Ragged(ids.reshape(-1), np.arange(20_001) * 64), 5)
    assert time.process_time() - before < 40
    assert (found.ngrams == 60).all()


@pytest.mark.parametrize("tokens", [1, 2, 3, 2**62, 2**63 - 1])
@pytest.mark.parametrize("width", [1, 4])
def test_prefixes_of_any_length_are_counted_with_their_queries(tmp_path, width, tokens):
    index = write_index(tmp_path, [[1, 2, 3, 1, 2], [2, 3]], 2, width)
    queries = [[1, 2, 3], [2, 3], [3], [9]]
    expected = [index.count([query[:tokens] for query in queries]), index.count(queries)]
    assert index.count_with_prefix(queries, tokens).T.tolist() == [counts.tolist() for counts in expected]
