"""Sampling and running studies: the sequences are what they say they are, and finished work is never done twice."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from memindex.errors import MemindexError
from memindex.index import Index, build_index
from memindex.study.config import FILE, SequenceConfig, load_study
from memindex.study.frequencies import count_sequences
from memindex.study.protocol import ScoringConfig
from memindex.study.running import RunOptions, run_study, status
from memindex.study.sampling import bucket_totals, sample_sequences, token_matrix
from memindex.study.study_toml import study_toml
from memindex.tables.store import TableStore

HEADER = b"# Licensed under these terms, as is, without any warranty of any kind, to anybody who asks.\n"
BUCKET_COLUMNS = ("bucket", "distinct", "sequences", "sampled")
CONFIG = SequenceConfig(prefix=8, suffix=8, uniform=200, per_bucket=20, heldout=50, seed=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Two folders of texts; most begin with the same header."""
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for part, files in (("train", 60), ("heldout", 12)):
        for i in range(files):
            folder = root / part / f"domain-{i % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            text = bytes(random.integers(97, 123, 200).tolist())
            (folder / f"{i}.txt").write_bytes((HEADER if i % 4 else b"") + text)
    (root / "train" / "domain-0" / "short.txt").write_bytes(b"tiny")
    return root


@pytest.fixture(scope="module", params=[1, 3], ids=["one shard", "three shards"])
def indexes(request, corpus, tmp_path_factory) -> tuple[Index, Index]:
    out = tmp_path_factory.mktemp("indexes")
    for part in ("train", "heldout"):
        build_index([corpus / part], out / part, tokenizer="bytes", shards=request.param)
    return Index.open(out / "train"), Index.open(out / "heldout")


def documents(corpus: Path, part: str) -> dict[str, bytes]:
    root = corpus / part
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.txt")}


def test_every_sequence_stands_where_the_table_says(corpus, indexes):
    index, heldout = indexes
    table, _ = sample_sequences(index, CONFIG, heldout)
    paths = {
        opened.name: {
            (row["shard"], row["document"]): row for row in pq.read_table(opened.path / "documents.parquet").to_pylist()
        }
        for opened in indexes
    }
    texts = {"train": documents(corpus, "train"), "heldout": documents(corpus, "heldout")}
    assert table.column("sequence_id").to_pylist() == list(range(len(table)))
    for row in table.to_pylist():
        document = paths[row["index"]][(row["shard"], row["document"])]
        text = texts[row["index"]][document["path"]]
        start = row["document_offset"]
        assert bytes(row["prefix"]) + bytes(row["suffix"]) == text[start : start + 16]
        assert row["domain"] == document["domain"] == document["path"].split("/")[0]
        assert row["position"] == document["first_token"] + start


def test_counts_and_buckets_equal_a_recount_of_the_raw_texts(corpus, indexes):
    index, heldout = indexes
    table, _ = sample_sequences(index, CONFIG, heldout)
    counts = count_sequences(index, table)
    texts = list(documents(corpus, "train").values())
    for name, length in (("sequence", 16), ("prefix", 8), ("suffix", 8)):
        windows = Counter(t[i : i + length] for t in texts for i in range(len(t) - length + 1))
        prefix, suffix = token_matrix(table, "prefix"), token_matrix(table, "suffix")
        ids = {"sequence": np.concatenate([prefix, suffix], axis=1), "prefix": prefix, "suffix": suffix}[name]
        assert [windows[bytes(row.tolist())] for row in ids] == counts[f"{name}_count"].tolist()
    for sample, bucket, count in zip(
        table.column("sample").to_pylist(), table.column("bucket").to_pylist(), counts["sequence_count"], strict=True
    ):
        assert (bucket is None) == (sample != "bucket")
        if bucket is not None:
            assert 2**bucket <= count < 2 ** (bucket + 1)


def test_each_bucket_holds_as_many_sequences_of_each_domain(corpus, indexes):
    config = replace(CONFIG, uniform=0, per_bucket=5, heldout=0, per_domain=30)
    table, totals = sample_sequences(indexes[0], config)
    assert table.equals(sample_sequences(indexes[0], config)[0])
    rows = [row for row in table.to_pylist() if row["sample"] == "domain"]
    windows = {(*row["prefix"], *row["suffix"]) for row in rows}
    assert len(windows) == len(rows)
    texts = documents(corpus, "train")
    counts = Counter(t[i : i + 16] for t in texts.values() for i in range(len(t) - 15))
    where = {(path.split("/")[0], t[i : i + 16]) for path, t in texts.items() for i in range(len(t) - 15)}
    drawn = Counter((row["bucket"], row["domain"]) for row in rows)
    for (bucket, domain), number in drawn.items():
        there = sum(domain == name and counts[window].bit_length() - 1 == bucket for name, window in where)
        # A window that stands in several domains is drawn for one of them.
        assert number == 30 if bucket == 0 else number <= min(30, there)
    assert {domain for bucket, domain in drawn if bucket == max(drawn)[0]} == {"domain-0", "domain-1", "domain-2"}
    for row in rows:
        text = bytes([*row["prefix"], *row["suffix"]])
        assert (row["domain"], text) in where
        assert counts[text].bit_length() - 1 == row["bucket"]
    # What the corpus holds, and how much of it was sampled, does not depend on it.
    columns = bucket_totals(indexes[0], config, totals, table)
    without = replace(config, per_domain=0)
    other, other_totals = sample_sequences(indexes[0], without)
    assert columns == bucket_totals(indexes[0], without, other_totals, other)


def test_each_bucket_holds_as_many_distinct_sequences_as_asked_or_all(corpus, indexes):
    table, totals = sample_sequences(indexes[0], CONFIG)
    rows = [row for row in table.to_pylist() if row["sample"] == "bucket"]
    texts = list(documents(corpus, "train").values())
    windows = Counter(t[i : i + 16] for t in texts for i in range(len(t) - 15))
    distinct = Counter(count.bit_length() - 1 for count in windows.values())
    drawn = Counter(row["bucket"] for row in rows)
    assert drawn == {bucket: min(20, number) for bucket, number in distinct.items()}
    assert len({(*row["prefix"], *row["suffix"]) for row in rows}) == len(rows)
    in_all = Counter()
    for count in windows.values():
        in_all[count.bit_length() - 1] += count
    columns = bucket_totals(indexes[0], CONFIG, totals, table)
    told = {b: (d, n, s) for b, d, n, s in zip(*(columns[c].to_pylist() for c in BUCKET_COLUMNS), strict=True)}
    assert told == {bucket: (distinct[bucket], in_all[bucket], drawn[bucket]) for bucket in distinct}


def test_uniform_sample_covers_the_corpus_evenly(corpus, indexes):
    config = SequenceConfig(prefix=8, suffix=8, uniform=3000, per_bucket=0, heldout=0)
    table, _ = sample_sequences(indexes[0], config)
    assert len(set(zip(table.column("shard").to_pylist(), table.column("position").to_pylist(), strict=True))) == 3000
    texts = documents(corpus, "train")
    windows = Counter()
    for path, text in texts.items():
        windows[path.split("/")[0]] += max(len(text) - 15, 0)
    total = sum(windows.values())
    for domain, number in Counter(table.column("domain").to_pylist()).items():
        share = windows[domain] / total
        assert abs(number - 3000 * share) < 5 * np.sqrt(3000 * share * (1 - share))


def test_a_corpus_with_fewer_windows_than_asked_gives_them_all(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abcdefghij")
    build_index([tmp_path / "a.txt"], tmp_path / "ix", tokenizer="bytes")
    config = SequenceConfig(prefix=2, suffix=2, uniform=1000, per_bucket=0, heldout=0)
    table, _ = sample_sequences(Index.open(tmp_path / "ix"), config)
    assert sorted(table.column("position").to_pylist()) == list(range(1, 8))


def test_sequences_longer_than_every_document_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc")
    build_index([tmp_path / "a.txt"], tmp_path / "ix", tokenizer="bytes")
    with pytest.raises(MemindexError, match="no document of 64 tokens"):
        sample_sequences(Index.open(tmp_path / "ix"), SequenceConfig())


def test_the_same_seed_gives_the_same_sequences(indexes):
    index, heldout = indexes
    assert sample_sequences(index, CONFIG, heldout)[0].equals(sample_sequences(index, CONFIG, heldout)[0])


def make_study(folder: Path, index: Index, heldout: Index, models: list[Path]) -> Path:
    folder.mkdir(parents=True)
    (folder / FILE).write_text(study_toml(folder, index.path, heldout.path, models, CONFIG))
    return folder


def test_study_toml_reads_back_what_was_written(tmp_path, indexes):
    index, heldout = indexes
    study = make_study(tmp_path / 'a "quoted" name', index, heldout, [Path("org/model")])
    config = load_study(study)
    assert (config.index, config.heldout, config.sequences) == (index.path, heldout.path, CONFIG)
    assert [(m.id, m.source) for m in config.models] == [("model", "org/model")]
    assert config.name == 'a "quoted" name'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 1\n", "index is missing"),
        ('index = "i"\ncolour = 1\n', "unknown key colour"),
        ('index = "i"\n[sequences]\nprefx = 3\n', "unknown key prefx"),
        ('index = "i"\n[[models]]\nid = "m"\n', "source"),
        ("index = \n", "line 1"),
        ('index = "i"\n[sequences]\nprefix = "many"\n', "prefix"),
        ('index = "i"\n[sequences]\nprefix = 0\n', "prefix"),
        ('index = "i"\n[sequences]\nuniform = -1\n', "uniform"),
        ("index = 5\n", "index"),
        ('index = "i"\nmodels = 3\n', "models"),
        ('index = "i"\n[sequences]\nprefix = 9223372036854775807\n', "prefix must be at most"),
        ('index = "i"\n[sequences]\nseed = 99999999999999999999999\n', "seed must be at most"),
        ('index = "a/i"\nheldout = "b/i"\n', "both called i"),
        ('index = "i"\n' + '[[models]]\nid = "m"\nsource = "s"\n' * 2, "two models have the id m"),
    ],
)
def test_mistakes_in_study_toml_are_named(tmp_path, text, message):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(MemindexError, match=message) as raised:
        load_study(tmp_path)
    assert FILE in str(raised.value)


def test_a_study_toml_that_is_no_text_is_refused(tmp_path):
    (tmp_path / FILE).write_bytes(b'name = "\xff"\n')
    with pytest.raises(MemindexError, match=FILE):
        load_study(tmp_path)


def test_models_of_one_name_get_ids_that_differ(tmp_path, indexes):
    index, heldout = indexes
    study = make_study(tmp_path / "study", index, heldout, [Path("a/llama"), Path("b/llama")])
    assert [m.id for m in load_study(study).models] == ["a/llama", "b/llama"]


def test_scoring_alone_needs_sequences(tmp_path, indexes):
    study = make_study(tmp_path / "study", *indexes, [])
    with pytest.raises(MemindexError, match="no sequences yet"):
        run_study(load_study(study), only="scores")
    assert not (study / "tables").exists()


def test_sampled_sequences_are_independent_of_the_training_windows(tmp_path):
    """With equal seeds: a sequence must lie in a training window as often as chance says, not always."""
    pytest.importorskip("torch")
    from memindex.models.stream import TokenStream

    text = bytes(np.random.default_rng(0).integers(97, 123, 200_000).tolist())
    (tmp_path / "a.txt").write_bytes(text)
    build_index([tmp_path / "a.txt"], tmp_path / "ix", tokenizer="bytes")
    index = Index.open(tmp_path / "ix")
    config = SequenceConfig(prefix=32, suffix=32, uniform=2000, per_bucket=0, heldout=0, seed=0)
    positions = sample_sequences(index, config)[0].column("position").to_numpy()
    starts = np.sort(TokenStream([index.path / "tokenized.0"], "u1", 255).starts(200_000 // 128, 129, seed=0))
    before = starts[np.searchsorted(starts, positions, side="right") - 1]
    inside = (positions + 64 <= before + 129).mean()
    # One pass of windows of 129 ids, 128 apart: 66 of 128 places hold 64 ids whole. Five standard deviations.
    assert abs(inside - 66 / 128) < 5 * np.sqrt(0.25 / 2000)


def test_a_changed_model_is_refused_and_another_dtype_is_another_run(tmp_path, indexes):
    index, heldout = indexes
    study = make_study(tmp_path / "study", index, heldout, [tiny_model(tmp_path / "m-1", index)])
    run_study(load_study(study))
    run_study(load_study(study), scoring=ScoringConfig(dtype="bfloat16"))
    store = TableStore(study / "tables")
    assert sorted(row["dtype"] for row in store.read("runs").to_pylist()) == ["bfloat16", "float32"]
    shutil.rmtree(tmp_path / "m-1")
    tiny_model(tmp_path / "m-1", index, seed=1)
    with pytest.raises(MemindexError, match="changed since it was scored"):
        run_study(load_study(study))


def test_changed_settings_are_refused_instead_of_mixed(tmp_path, indexes):
    study = make_study(tmp_path / "study", *indexes, [])
    run_study(load_study(study), only="sequences")
    text = (study / FILE).read_text()
    (study / FILE).write_text(text.replace("seed = 3", "seed = 4"))
    with pytest.raises(MemindexError, match="other settings"):
        run_study(load_study(study), only="sequences")


def tiny_model(out: Path, index: Index, seed: int = 0) -> Path:
    pytest.importorskip("torch")
    from memindex.models.from_index import train_on_index

    train_on_index(index, "llama", 5000, 20_000, out, context=32, seed=seed, device="cpu")
    return out


def test_a_run_fills_the_tables_and_is_not_repeated(tmp_path, indexes):
    index, heldout = indexes
    study = make_study(tmp_path / "study", index, heldout, [tiny_model(tmp_path / "m-1", index)])
    config = load_study(study)
    assert {state for _, state in status(config)} == {"missing"}
    run_study(config)
    assert {state for _, state in status(config)} == {"done"}
    store = TableStore(config.tables)
    sequences, continuations = store.read("sequences"), store.read("continuations")
    assert continuations.column("sequence_id").to_pylist() == sequences.column("sequence_id").to_pylist()
    run = store.read("runs").to_pylist()[0]
    assert (run["model_id"], run["prefix_length"], run["sequences"]) == ("m-1", 8, len(sequences))
    assert json.loads(run["versions"])["memindex"]
    model = store.read("models").to_pylist()[0]
    assert (model["architecture"], model["vocabulary"], model["source"]) == ("llama", 256, "../m-1")
    assert model["trained_tokens"] >= 19_900
    before = {file: file.stat().st_mtime_ns for file in config.tables.rglob("*.parquet")}
    run_study(config)
    assert {file: file.stat().st_mtime_ns for file in config.tables.rglob("*.parquet")} == before


SMALL = RunOptions(unit_size=64)


class StopError(Exception):
    """Stands for whatever ends a run in the middle."""


def stop_while_scoring(stage: str, done: int, total: int) -> None:
    if stage.startswith("score") and done > 150:
        raise StopError


def test_an_interrupted_run_goes_on_and_gives_the_same_tables(tmp_path, indexes):
    index, heldout = indexes
    model = tiny_model(tmp_path / "m-1", index)
    whole = load_study(make_study(tmp_path / "whole", index, heldout, [model]))
    run_study(whole, options=SMALL)
    broken = load_study(make_study(tmp_path / "broken", index, heldout, [model]))
    with pytest.raises(StopError):
        run_study(broken, options=SMALL, progress=stop_while_scoring)
    assert not TableStore(broken.tables).units("runs")
    assert len(TableStore(broken.tables).units("continuations")) == 2
    run_study(broken, options=SMALL)
    for table in ("sequences", "frequencies", "buckets", "continuations", "models"):
        assert TableStore(broken.tables).read(table).equals(TableStore(whole.tables).read(table)), table
    runs = [TableStore(study.tables).read("runs").to_pylist()[0] for study in (whole, broken)]
    assert runs[0].pop("seconds") > 0
    assert runs[1].pop("seconds") > 0
    assert runs[0]["batch_size"] == 64
    for run in runs:
        del run["created"]
    assert runs[0] == runs[1]


def test_units_of_another_state_of_the_model_are_not_reused(tmp_path, indexes):
    index, heldout = indexes
    model = tiny_model(tmp_path / "m-1", index)
    study = load_study(make_study(tmp_path / "study", index, heldout, [model]))
    with pytest.raises(StopError):
        run_study(study, options=SMALL, progress=stop_while_scoring)
    shutil.rmtree(model)
    tiny_model(model, index, seed=1)
    run_study(study, options=SMALL)
    fresh = load_study(make_study(tmp_path / "fresh", index, heldout, [model]))
    run_study(fresh, options=SMALL)
    for table in ("continuations", "models"):
        assert TableStore(study.tables).read(table).equals(TableStore(fresh.tables).read(table)), table
