"""When in training sequences were read: against a walk over every window, and against what a training did read."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from leave_one_out import rate_ends
from synthetic_corpus import sentences, train_bpe, write_jsonl

pytest.importorskip("torch")
pytest.importorskip("transformers")

from memindex.corpus.sources import ReadOptions
from memindex.index import Index, build_index
from memindex.models.exposures import Training, training_of
from memindex.models.from_index import train_on_index
from memindex.models.stream import TokenStream, passes
from memindex.ragged import from_lists, to_arrow
from memindex.sql.connection import connect
from memindex.sql.queries import run_query
from memindex.study import exposures
from memindex.study.config import load_study
from memindex.study.exposures import missing_exposures
from memindex.study.jobs import RunOptions
from memindex.study.planting import PlantPlan, plant
from memindex.study.running import run_study, status
from memindex.tables.store import TableStore

pytestmark = pytest.mark.models

CPU = RunOptions(device="cpu")


def sequence_table(sequences, prefix, planted):
    return pa.table(
        {
            "sequence_id": np.arange(100, 100 + len(sequences)),
            "sample": ["planted" if is_planted else "bucket" for is_planted in planted],
            "prefix": to_arrow(from_lists([s[:prefix] for s in sequences])),
            "suffix": to_arrow(from_lists([s[prefix:] for s in sequences])),
        }
    )


def by_hand(index, sequences, planted, training):
    """Rows of both tables, by looking at every window for every occurrence."""
    ids = np.concatenate([index.tokens_of_shard(shard) for shard in range(index.manifest.shards)])
    rows, copies, length = [], [], len(sequences[0])
    for number, sequence in enumerate(sequences):
        places = [p for p in range(len(ids) - length + 1) if ids[p : p + length].tolist() == list(sequence)]
        whole, cut, before = [], set(), 0
        for of_pass, starts in enumerate(passes(len(ids), training.context + 1, training.seed)):
            if before >= training.windows:
                break
            read = {int(start): before + i for i, start in enumerate(starts) if before + i < training.windows}
            before += len(starts)
            for copy, p in enumerate(places):
                holding = [s for s in starts.tolist() if s <= p and p + length <= s + training.context + 1]
                whole += [read[s] for s in holding if s in read]
                if not holding and any(s < p + length and p <= s + training.context for s in read):
                    cut.add(p)
                firsts = [s for s in read if s <= p <= s + training.context]
                if planted[number] and firsts:
                    s = max(firsts)
                    step, row = divmod(read[s], training.batch_size)
                    is_whole = p + length <= s + training.context + 1
                    copies.append((100 + number, copy, of_pass, step, row, p - s, is_whole))
        steps = [window // training.batch_size for window in whole]
        tokens = [min((step + 1) * training.batch_size, training.planned) * training.context for step in steps]
        ends = [f(values) if whole else None for values in (steps, tokens) for f in (min, max)]
        rows.append((100 + number, len(whole), len(cut), *ends))
    return rows, sorted(copies)


@pytest.mark.parametrize("seed", range(40))
def test_exposures_are_those_of_every_window(tmp_path, monkeypatch, seed):
    random = np.random.default_rng(seed)
    texts = ["".join(random.choice(list("abc"), random.integers(1, 25))) for _ in range(random.integers(2, 14))]
    write_jsonl(tmp_path / "x.jsonl", [{"text": text} for text in texts])
    build_index([tmp_path / "x.jsonl"], tmp_path / "i", tokenizer="bytes", shards=int(random.integers(1, 3)))
    index = Index.open(tmp_path / "i")
    tokens = sum(map(len, index.shards))
    length = int(random.integers(2, 6))
    sequences = [tuple(row) for row in random.choice(list(b"abc"), (30, length)).tolist()]
    sequences = list(dict.fromkeys([*sequences, tuple(b"zz" * length)[:length]]))
    planted = random.random(len(sequences)) < 0.5
    # Small batches, and some sequences that are too frequent.
    monkeypatch.setattr(exposures, "_OCCURRENCES", int(random.integers(1, 30)))
    monkeypatch.setattr(exposures, "MOST_OCCURRENCES", most := int(random.integers(3, 12)))
    context = int(random.integers(1, min(tokens - 1, 9)))
    planned = int(random.integers(1, 4 * tokens // context + 2))
    training = Training(seed, context, int(random.integers(1, 5)), int(random.integers(1, planned + 1)), planned)
    table = sequence_table(sequences, int(random.integers(1, length)), planted)
    of_sequences, of_copies = exposures._tables(index, table, training)
    rows, copies = by_hand(index, sequences, planted, training)
    counts = dict(zip(table["sequence_id"].to_pylist(), index.count(sequences).tolist(), strict=True))
    assert 0 in counts.values()
    names = ("sequence_id", "exposures", "cut", "first_step", "last_step", "first_tokens", "last_tokens")
    found = list(zip(*(of_sequences[name].to_pylist() for name in names), strict=True))
    assert found == [row for row in rows if counts[row[0]] <= most]
    names = ("sequence_id", "copy", "pass", "step", "step_row", "window_offset", "whole")
    found = list(zip(*(of_copies[name].to_pylist() for name in names), strict=True))
    assert found == [row for row in copies if counts[row[0]] <= most]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A study of planted texts with a model, two checkpoints of it, and one that was trained on another index.

    With what the training read: for each step its windows' first places.
    """
    root = tmp_path_factory.mktemp("exposures")
    train_bpe(root / "tokenizer.json")
    write_jsonl(root / "corpus" / "a" / "x.jsonl", [{"text": text} for text in sentences(60, words=30, seed=1)])
    build_index([root / "corpus"], root / "without", tokenizer=root / "tokenizer.json")
    write_jsonl(root / "other.jsonl", [{"text": text} for text in sentences(80, words=30, seed=3)])
    plan = PlantPlan((0, 1, 4, 9), 12, (12,))
    plant(Index.open(root / "without"), [root / "other.jsonl"], root / "p", plan, ReadOptions())
    sources = [root / "corpus", root / "p" / "documents"]
    build_index(sources, root / "with", tokenizer=root / "tokenizer.json", shards=2)
    read: list[list[int]] = []
    real = TokenStream.windows

    def spy(self, starts, length):
        read.append(starts.tolist())
        return real(self, starts, length)

    same = {"context": 24, "batch_size": 8, "eos_token_id": 0, "device": "cpu"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenStream, "windows", spy)
        index = Index.open(root / "with")
        train_on_index(index, "llama", 2000, 16_000, root / "m", checkpoints=(3000, 9000), **same)
    train_on_index(Index.open(root / "without"), "llama", 2000, 2000, root / "elsewhere", **same)
    models = {"m": "m", "elsewhere": "elsewhere"}
    models |= {file.name: f"m/checkpoints/{file.name}" for file in (root / "m" / "checkpoints").iterdir()}
    listed = "".join(f'[[models]]\nid = "{name}"\nsource = "../{place}"\n' for name, place in models.items())
    (root / "s").mkdir()
    settings = "[sequences]\nprefix = 6\nsuffix = 6\nuniform = 30\nper_bucket = 5\n"
    (root / "s" / "study.toml").write_text(f'index = "../with"\nplanted = "../p"\n{settings}{listed}')
    assert dict(status(load_study(root / "s")))["exposures"] == "missing"
    run_study(load_study(root / "s"), options=CPU)
    assert set(dict(status(load_study(root / "s"))).values()) == {"done"}
    return root, read


def tables(root, name):
    return TableStore(root / "s" / "tables").read(name).to_pandas()


def test_exposures_are_what_the_training_read(world):
    root, read = world
    index, found = Index.open(root / "with"), tables(root, "exposures")
    ids = np.concatenate([index.tokens_of_shard(shard) for shard in range(2)])
    records = {
        name: json.loads((root / "m" / "checkpoints" / name / "training.json").read_text())
        for name in (file.name for file in (root / "m" / "checkpoints").iterdir())
    }
    steps = {"m": len(read)} | {name: record["steps"] for name, record in records.items()}
    assert len(steps) == len(set(steps.values())) == 3
    assert set(found["model_id"]) == set(steps)
    sequences = tables(root, "sequences").set_index("sequence_id")
    assert set(found["sequence_id"]) == set(sequences.index)
    seen = 0
    for row in found.itertuples():
        sequence = [*sequences["prefix"][row.sequence_id], *sequences["suffix"][row.sequence_id]]
        windows = np.lib.stride_tricks.sliding_window_view(ids, len(sequence))
        places = np.flatnonzero((windows == sequence).all(axis=1))
        held = [
            step
            for step, starts in enumerate(read[: steps[row.model_id]])
            for start in starts
            for place in places
            if start <= place and place + len(sequence) <= start + 25
        ]
        assert row.exposures == len(held)
        seen += len(held)
        if held:
            assert (row.first_step, row.last_step) == (held[0], held[-1])
            ends = [24 * sum(map(len, read[: step + 1])) for step in (held[0], held[-1])]
            assert [row.first_tokens, row.last_tokens] == ends
        else:
            assert np.isnan(row.last_tokens)
    assert seen > 500


def test_planted_copies_are_found_in_their_windows(world):
    root, read = world
    found, rows = tables(root, "planted_exposures"), tables(root, "exposures")
    index = Index.open(root / "with")
    ids = np.concatenate([index.tokens_of_shard(shard) for shard in range(2)])
    sequences, frequencies = (tables(root, name).set_index("sequence_id") for name in ("sequences", "frequencies"))
    copies = frequencies["sequence_count"][sequences["sample"] == "planted"]
    of_model = found[found["model_id"] == "m"]
    assert not of_model.duplicated(["sequence_id", "copy", "pass"]).any()
    assert of_model.groupby("sequence_id")["copy"].nunique().to_dict() == copies[copies > 0].to_dict()
    for row in of_model.itertuples():
        place = read[row.step][row.step_row] + row.window_offset
        sequence = [*sequences["prefix"][row.sequence_id], *sequences["suffix"][row.sequence_id]]
        assert ids[place : place + 12].tolist() == sequence
        assert row.whole == (row.window_offset + 12 <= 25)
    assert 0 < of_model["whole"].mean() < 1
    for name in rows["model_id"].unique():
        whole = Counter(found[(found["model_id"] == name) & found["whole"]]["sequence_id"])
        planted = rows[(rows["model_id"] == name) & rows["sequence_id"].isin(copies.index)]
        assert planted.set_index("sequence_id")["exposures"].to_dict() == {n: whole[n] for n in copies.index}


def test_what_is_there_is_kept_and_another_training_is_looked_up_anew(world, monkeypatch):
    root, _ = world
    config, store = load_study(root / "s"), TableStore(root / "s" / "tables")
    assert len(store.units("exposures")) == 3
    assert store.units("exposures") == store.units("planted_exposures")
    files = {name: store.file("exposures", name) for name in store.units("exposures")}
    before = {name: file.stat().st_mtime_ns for name, file in files.items()}
    run_study(config, only="exposures")
    assert {name: file.stat().st_mtime_ns for name, file in files.items()} == before
    files["m"].unlink()
    assert list(missing_exposures(config, config.models)) == ["m"]
    # Where only one model lacks its file, only that is written; one of another sample is not taken for this one.
    store.write("exposures", "m", store.read("exposures", ["m"]), {"sample": "other"})
    assert dict(status(config))["exposures"] == "missing"
    run_study(config, only="exposures")
    changed = {name for name, file in files.items() if file.stat().st_mtime_ns != before[name]}
    assert changed == {"m"}
    assert not missing_exposures(config, config.models)


def test_a_record_that_says_too_little_is_none():
    config = {"seed": 1, "context": 8, "batch_size": 2, "tokens": 100}
    assert training_of({"config": config, "trained_tokens": 48}) == Training(1, 8, 2, 6, 12)
    assert training_of(None) is None
    assert training_of({"trained_tokens": 48}) is None
    assert training_of({"config": config | {"context": 0}, "trained_tokens": 48}) is None
    assert training_of({"config": config | {"seed": None}, "trained_tokens": 48}) is None


def test_rates_by_exposures_and_recency(world):
    root, _ = world
    con = connect(root / "s")
    memorized = con.sql("SELECT model_id, sequence_id, sample, memorized, score, sequence_count FROM memorization").df()
    rows = memorized[memorized["sample"] == "planted"].merge(tables(root, "exposures"), on=["model_id", "sequence_id"])
    assert len(rows) == 3 * 48
    answer = run_query(con, "rate_by_exposures").to_pandas()
    rows["bucket"] = [-1 if n == 0 else n.bit_length() - 1 for n in rows["exposures"].tolist()]
    groups = rows.groupby(["model_id", "bucket"])
    assert len(answer) == len(groups) > 6
    for row in answer.itertuples():
        group = groups.get_group((row.run_label, -1 if pd.isna(row.exposure_bucket) else row.exposure_bucket))
        assert (row.sequences, row.memorized) == (len(group), group["memorized"].sum())
        assert (row.mean_exposures, row.mean_score) == pytest.approx((group["exposures"].mean(), group["score"].mean()))
        assert row.rate_low <= row.rate <= row.rate_high
    assert set(answer["times_read"]) >= {"0", "1", "2–3", "4–7"}
    answer = run_query(con, "rate_by_recency").to_pandas()
    trained = tables(root, "models").set_index("model_id")["trained_tokens"]
    rows["since"] = 1 - rows["last_tokens"] / rows["model_id"].map(trained)
    read = rows[rows["exposures"] > 0].assign(tenth=lambda r: np.floor(10 * r["since"] + 1e-12).astype(int))
    groups = read.groupby(["model_id", "sequence_count", "tenth"]).filter(lambda group: len(group) >= 5)
    groups = groups.groupby(["model_id", "sequence_count", "tenth"])
    assert len(answer) == len(groups) > 4
    for row in answer.itertuples():
        group = groups.get_group((row.run_label, row.sequence_count, row.tenth))
        assert (row.sequences, row.memorized) == (len(group), group["memorized"].sum())
        assert row.mean_since == pytest.approx(group["since"].mean())
        assert row.planted == ("1 copy" if row.sequence_count == 1 else f"{row.sequence_count} copies")
        assert row.last_read == f"{10 * row.tenth}–{10 * row.tenth + 10} %"
        assert row.rate_low <= row.rate <= row.rate_high


def test_rates_by_repetition(world, tmp_path):
    root = tmp_path
    shutil.copytree(world[0] / "s" / "tables", root / "s" / "tables")
    shutil.copy(world[0] / "s" / "study.toml", root / "s")
    # Here all pieces stand where the whole does: of every other sequence, let them stand elsewhere too.
    for file in (root / "s" / "tables" / "ngram_statistics").glob("*.parquet"):
        table = pq.read_table(file)
        median = pc.multiply(table["median_count"], pc.add(pc.bit_wise_and(table["sequence_id"], 1), 1))
        place = table.schema.get_field_index("median_count")
        pq.write_table(table.set_column(place, table.schema.field(place), median.cast("float64")), file)
    con = connect(root / "s")
    columns = "model_id, sequence_id, sample, memorized, sequence_count, prefix_count, suffix_count"
    rows = con.sql(f"SELECT {columns} FROM memorization WHERE sample IN ('bucket', 'planted')").df()
    statistics = tables(root, "ngram_statistics")
    rows = rows[rows["sequence_count"] > 0].merge(statistics[statistics["n"] == 5], on="sequence_id")
    rows["bucket"] = [n.bit_length() - 1 for n in rows["sequence_count"].tolist()]
    bound = (rows["prefix_count"] == rows["sequence_count"]) & (rows["suffix_count"] == rows["sequence_count"])
    bound &= rows["median_count"] < 2 * rows["sequence_count"]
    assert 0 < bound.sum() < len(rows)
    both = pd.concat([rows.assign(pieces="any"), rows[bound].assign(pieces="as often as the whole")])
    groups = both.groupby(["model_id", both["sample"].replace("bucket", "natural"), "pieces", "bucket"])
    answer = run_query(con, "rate_by_repetition").to_pandas()
    assert len(answer) == len(groups) > 12
    for row in answer.itertuples():
        group = groups.get_group((row.run_label, row.repetition, row.pieces, row.frequency_bucket))
        assert (row.sequences, row.memorized) == (len(group), group["memorized"].sum())
        assert row.rate_low <= row.rate <= row.rate_high
        assert row.repetition == "natural" or row.documents == row.sequences
    assert set(answer["repetition"]) == {"natural", "planted"}
    texts = con.sql("SELECT model_id, sequence_id, cluster FROM memorization").df()
    con.close()
    rows, both = (some.merge(texts, on=["model_id", "sequence_id"]) for some in (rows, both))
    compared = 0
    for row in answer.itertuples():
        if row.repetition == "planted":
            assert math.isnan(row.planted_rate)
            assert math.isnan(row.difference)
            continue
        of_model = both[(both["model_id"] == row.run_label) & (both["pieces"] == row.pieces)]
        natural = of_model[(of_model["sample"] == "bucket") & (of_model["bucket"] == row.frequency_bucket)]
        planted = rows[(rows["model_id"] == row.run_label) & (rows["sample"] == "planted")]
        doses = planted.groupby("sequence_count")
        at, rate = np.log2(list(doses.groups)), doses["memorized"].mean().to_numpy()
        asked = np.log2(natural["sequence_count"].to_numpy())
        if asked.max() > at.max():
            assert math.isnan(row.planted_rate)
            continue
        compared += 1
        # What a dose counts: the mean of the tent around it at the natural counts.
        weight = np.array([np.interp(asked, at, np.eye(len(at))[dose]).mean() for dose in range(len(at))])
        ends = np.array([rate_ends(group["memorized"], group["cluster"]) for _, group in doses])
        below = np.sqrt(((weight * (rate - ends[:, 0])) ** 2)[weight > 0].sum())
        above = np.sqrt(((weight * (ends[:, 1] - rate)) ** 2)[weight > 0].sum())
        expected = np.interp(asked, at, rate).mean()
        assert row.planted_rate == pytest.approx(expected)
        assert (row.planted_low, row.planted_high) == pytest.approx((expected - below, expected + above), nan_ok=True)
        own, (low, high) = natural["memorized"].mean(), rate_ends(natural["memorized"], natural["cluster"])
        assert row.difference == pytest.approx(own - expected)
        wide = (own - expected - np.hypot(own - low, above), own - expected + np.hypot(high - own, below))
        assert (row.difference_low, row.difference_high) == pytest.approx(wide, nan_ok=True)
    assert compared > 3
