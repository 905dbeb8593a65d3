"""Planting: texts that a corpus lacks, in as many copies as were asked for, and in no more."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_corpus import assert_refused, left_in, memindex, sentences, train_bpe, write_jsonl

from memindex.corpus.sources import ReadOptions
from memindex.errors import CorpusError, MemindexError
from memindex.index import Index, build_index
from memindex.ragged import from_arrow
from memindex.study import planting
from memindex.study.config import SequenceConfig, load_study
from memindex.study.natural import are_among
from memindex.study.planted_sequences import planted_windows
from memindex.study.planting import PlantPlan, plant
from memindex.study.sampling import sample_sequences, token_matrix
from memindex.study.sequences import ensure_sequences, sample_name
from memindex.tables.store import TableStore

COPIES, SEQUENCES, LENGTH = (0, 1, 3, 7), 5, 12


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A corpus in two domains, its index, and other texts, some of which the corpus holds."""
    folder = tmp_path_factory.mktemp("planting")
    tokenizer = train_bpe(folder / "tokenizer.json")
    assert tokenizer is not None
    known = sentences(60, words=30, seed=1)
    for number, domain in enumerate(("a", "b")):
        write_jsonl(folder / "corpus" / domain / "x.jsonl", [{"text": text} for text in known[number::2]])
    others = [text.replace("e", "é") for text in sentences(80, words=30, seed=2)]
    rows = [{"body": {"text": text}} for text in (*known[:20], "short", *others)]
    write_jsonl(folder / "other.jsonl", rows)
    build_index([folder / "corpus"], folder / "index", tokenizer=folder / "tokenizer.json")
    return folder


def planted(world, out, **change):
    plan = PlantPlan(
        **{"copies": COPIES, "sequences": SEQUENCES, "lengths": (LENGTH,), "text_field": "body.text"} | change
    )
    return plant(Index.open(world / "index"), [world / "other.jsonl"], out, plan, ReadOptions("body.text"))


def test_counts_in_the_index_are_those_that_were_planted(world, tmp_path):
    done = planted(world, tmp_path / "planted")
    table = pq.read_table(tmp_path / "planted" / "planted.parquet")
    assert table.equals(done.table)
    assert table["copies"].to_pylist() == [copies for copies in COPIES for _ in range(SEQUENCES)]
    assert done.documents == sum(COPIES) * SEQUENCES
    tokens = from_arrow(table["tokens"])
    assert set(tokens.lengths().tolist()) == {LENGTH}
    assert not Index.open(world / "index").count(tokens).any()
    options = ReadOptions("body.text")
    documents = tmp_path / "planted" / "documents"
    build_index([documents], tmp_path / "alone", tokenizer=world / "tokenizer.json", options=options)
    alone = Index.open(tmp_path / "alone")
    np.testing.assert_array_equal(alone.count(tokens), table["copies"].to_numpy())
    # Beside the corpus, as a domain of its own.
    rows = [
        {"text": json.loads(line)["body"]["text"]} for line in (documents / "planted.jsonl").read_text().splitlines()
    ]
    write_jsonl(tmp_path / "more" / "planted" / "x.jsonl", rows)
    build_index([world / "corpus", tmp_path / "more"], tmp_path / "both", tokenizer=world / "tokenizer.json")
    both = Index.open(tmp_path / "both")
    by_domain = both.count_by_domain(tokens)
    np.testing.assert_array_equal(by_domain[:, both.domains.index("planted")], table["copies"].to_numpy())
    assert by_domain.sum() == table["copies"].to_numpy().sum()


def test_more_windows_are_drawn_where_the_first_ones_do_not_do(world, tmp_path, monkeypatch):
    drawn = []

    def draw(*arguments):
        texts = real(*arguments)
        drawn.append(len(texts.tokens))
        return texts

    real = planting._draw
    monkeypatch.setattr(planting, "_draw", draw)
    monkeypatch.setattr(planting, "_SPARE", 2)
    for seed in range(40):
        done = planted(world, tmp_path / str(seed), copies=(1,), sequences=1, seed=seed)
        assert not Index.open(world / "index").count(from_arrow(done.table["tokens"])).any()
    assert drawn[0] == 2
    assert max(drawn) > 2
    # There is an end of it.
    with pytest.raises(CorpusError, match=r"wanted; of [0-9,]+ windows of the documents, [0-9,]+ are texts"):
        planted(world, tmp_path / "most", copies=(1,), sequences=10_000)


def test_texts_are_windows_of_their_documents(world, tmp_path):
    rows = planted(world, tmp_path / "planted").table.to_pylist()
    lines = (world / "other.jsonl").read_text().splitlines()
    places = [row["line"] for row in rows]
    assert len(set(places)) == len(rows)
    starts = set()
    for row in rows:
        text = json.loads(lines[row["line"] - 1])["body"]["text"]
        assert row["path"] == "other.jsonl"
        assert row["text"] in text
        starts.add(text.index(row["text"]))
    assert len(starts) > 5


def test_windows_of_one_document_do_not_overlap(world, tmp_path):
    """More texts than documents: some give several."""
    lines = (world / "other.jsonl").read_text().splitlines()
    tokenizer = Index.open(world / "index").tokenizer
    ids = tokenizer.encode_texts([json.loads(line)["body"]["text"] for line in lines])
    # The first window of some documents is no whole characters, so that others give a second one.
    few = planted(world, tmp_path / "few", copies=(0, 1), sequences=35).table
    assert len(set(few["line"].to_pylist())) >= 55
    rows = planted(world, tmp_path / "many", copies=(0, 1, 2), sequences=55).table.to_pylist()
    assert len({row["text"] for row in rows}) == 165
    taken = {}
    for row in rows:
        document = ids.row(row["line"] - 1)
        windows = np.lib.stride_tricks.sliding_window_view(document, LENGTH)
        places = np.flatnonzero((windows == row["tokens"]).all(axis=1))
        taken.setdefault(row["line"], []).append(places.tolist())
    # A window that stands in its document twice may be either.
    known = [[places[0] for places in of_one] for of_one in taken.values() if all(len(p) == 1 for p in of_one)]
    assert sum(map(len, known)) > 150
    assert all(b - a >= LENGTH for places in known for a, b in itertools.pairwise(sorted(places)))
    numbers = Counter(row["line"] for row in rows)
    assert 2 <= max(numbers.values()) <= max(len(ids.row(line - 1)) // LENGTH for line in numbers)
    # No number of copies has the first windows for itself.
    for copies in (0, 1, 2):
        seen, seconds = set(), 0
        for row in rows:
            seconds += row["copies"] == copies and row["line"] in seen
            seen.add(row["line"])
        assert 0 < seconds < 55


def test_windows_are_spread_evenly_and_at_random(world, tmp_path):
    """Of equal documents none gives a second window before all gave a first one, and windows begin anywhere."""
    tokenizer = Index.open(world / "index").tokenizer
    write_jsonl(tmp_path / "b.jsonl", [{"text": "the " * 40} for _ in range(300)])
    length = len(tokenizer.encode_texts(["the " * 40]).row(0)) // 2 - 3
    for most, numbers in ((450, {1: 150, 2: 150}), (250, {1: 250}), (900, {2: 300})):
        drawn = planting._draw([tmp_path / "b.jsonl"], tokenizer, PlantPlan((1,), 1, (length,)), ReadOptions(), most)
        assert Counter(Counter(drawn.lines.tolist()).values()) == numbers
        firsts = drawn.lines[:250].tolist()
        assert len(set(firsts)) == 250
        assert firsts != sorted(firsts)


def test_windows_begin_anywhere(world):
    """Those of one document side by side, and anywhere in what is left."""
    tokenizer = Index.open(world / "index").tokenizer
    text = sentences(1, words=30, seed=9)[0]
    ids = tokenizer.encode_texts([text]).row(0)
    assert len(set(ids.tolist())) > 5
    batch = pa.record_batch({"text": [text] * 4000, "path": ["x"] * 4000, "line": np.arange(4000)})
    length = len(ids) // 2 - 2
    order, drawn = planting._windows(batch, tokenizer, length, np.random.default_rng(0), np.inf)
    assert np.sort(np.floor(order)).tolist() == [0.0] * 4000 + [1.0] * 4000
    windows = np.lib.stride_tricks.sliding_window_view(ids, length)
    starts = (drawn.tokens[:, None] == windows).all(axis=2).argmax(axis=1).reshape(4000, 2)
    room = len(ids) - 2 * length
    assert (np.diff(starts, axis=1) >= length).all()
    assert set(starts[:, 0]) == set(range(room + 1))
    # Which of the two comes first is drawn too.
    assert abs((order.reshape(4000, 2)[:, 0] < 1).mean() - 0.5) < 0.05


def test_copies_are_shuffled_and_the_seed_decides(world, tmp_path):
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        planted(world, tmp_path / out, seed=seed, domain_field="meta.set")
    files = [(tmp_path / out / "documents/planted.jsonl").read_bytes() for out in "abc"]
    assert files[0] == files[1] != files[2]
    documents = [json.loads(line) for line in files[0].splitlines()]
    assert {document["meta"]["set"] for document in documents} == {"planted"}
    numbers = [document["planted"] for document in documents]
    assert sum(one == other for one, other in itertools.pairwise(numbers)) < len(numbers) / 4
    tables = [pq.read_table(tmp_path / out / "planted.parquet") for out in "ac"]
    assert tables[0]["text"].to_pylist() != tables[1]["text"].to_pylist()


def test_on_the_command_line(world, tmp_path):
    command = ["plant", world / "other.jsonl", "-i", world / "index", "--length", LENGTH, "--text-field", "body.text"]
    done = memindex(*command, "--copies", "0,2", "--sequences", 4, "--out", tmp_path / "p", "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["copies"] for row in rows] == [0] * 4 + [2] * 4
    assert re.fullmatch(r"\d+ drawn texts stand in .* already, up to \d+ times: left out\n", done.stderr)
    before = left_in(tmp_path)
    for arguments, words in (
        (["--copies", "1,x"], "give whole numbers"),
        (["--copies", "1,1"], "none twice"),
        (["--copies", "0"], "plant nothing"),
        (["--copies", "-1,2"], "between 0 and"),
        (["--copies", "1", "--length", 1], "2 tokens or more"),
        (["--copies", "1", "--length", "12,x"], "--length '12,x': give whole numbers"),
        (["--copies", "1", "--length", "12,12"], "length: give at least one number, and none twice"),
        (
            ["--copies", "1", "--sequences", 500],
            "are texts that index does not hold (",
        ),
        (["--copies", "1", "--length", 4000], "has 4000 tokens"),
        (["--copies", "1", "--text-field", "body.no"], "body.no"),
    ):
        refused = memindex(*command, "--out", tmp_path / "q", *arguments)
        assert_refused(refused, words)
        assert left_in(tmp_path) == before
    assert_refused(memindex(*command, "--copies", "1", "--out", tmp_path / "p"), "exists already")


def study_of(world, folder, planted_folder, index, *, prefix=6, suffix=6, per_bucket=5):
    folder.mkdir(exist_ok=True)
    text = f"""
name = "s"
index = "{index}"
planted = "{planted_folder}"
[sequences]
prefix = {prefix}
suffix = {suffix}
uniform = 20
per_bucket = {per_bucket}
[frequencies]
ngrams = [1]
"""
    (folder / "study.toml").write_text(text)
    return load_study(folder)


@pytest.fixture(scope="module")
def planted_world(world, tmp_path_factory):
    """(what was planted, an index with it)."""
    folder = tmp_path_factory.mktemp("planted")
    plan = PlantPlan(COPIES, SEQUENCES, (LENGTH,))
    write_jsonl(folder / "other.jsonl", [{"text": text} for text in sentences(80, words=30, seed=3)])
    plant(Index.open(world / "index"), [folder / "other.jsonl"], folder / "p", plan, ReadOptions())
    sources = [world / "corpus", folder / "p" / "documents"]
    build_index(sources, folder / "with", tokenizer=world / "tokenizer.json")
    return folder / "p", folder / "with"


def test_planted_texts_are_sequences_of_a_study(world, planted_world, tmp_path):
    what, index = planted_world
    config = study_of(world, tmp_path / "s", what, index)
    rows = ensure_sequences(config, lambda *_: None)
    mine = rows.filter(np.array(rows["sample"].to_pylist()) == "planted")
    table = pq.read_table(what / "planted.parquet")
    ids = np.concatenate([token_matrix(mine, "prefix"), token_matrix(mine, "suffix")], axis=1)
    np.testing.assert_array_equal(ids, from_arrow(table["tokens"]).values.reshape(-1, LENGTH))
    frequencies = TableStore(config.tables).read("frequencies").to_pylist()
    counts = {row["sequence_id"]: row["sequence_count"] for row in frequencies}
    assert [counts[number] for number in mine["sequence_id"].to_pylist()] == table["copies"].to_pylist()
    # Those that are there stand where they say.
    opened = Index.open(index)
    for row, tokens in zip(mine.to_pylist(), ids, strict=True):
        if counts[row["sequence_id"]] == 0:
            assert {row[name] for name in ("index", "shard", "position", "document", "domain")} == {None}
            continue
        held = opened.tokens_of_shard(row["shard"])[row["position"] :][:LENGTH]
        np.testing.assert_array_equal(held, tokens)
        assert (row["document_offset"], row["index"]) == (0, "with")
    # Names of studies without planted texts stay what they were.
    assert set(rows["sample"].to_pylist()) == {"uniform", "bucket", "planted"}


def windows_of(index, length):
    """How often windows stand in all documents, and in planted ones, by a walk through them."""
    counts, planted = Counter(), Counter()
    domains = {(row["shard"], row["document"]): row["domain"] for row in document_rows(index)}
    for shard in range(index.manifest.shards):
        ids = index.tokens_of_shard(shard)
        for number, document in enumerate(np.split(ids, index.document_starts(shard))[1:]):
            found = [tuple(w.tolist()) for w in np.lib.stride_tricks.sliding_window_view(document[1:], length)]
            counts.update(found)
            if domains[shard, number] == "documents":
                planted.update(found)
    return counts, planted


def document_rows(index):
    return pq.read_table(index.path / "documents.parquet").to_pylist()


@pytest.mark.parametrize(("prefix", "suffix"), [(6, 6), (2, 3), (1, 1)])
@pytest.mark.parametrize("per_bucket", [3, 10_000])
def test_natural_samples_hold_no_planted_windows(world, planted_world, tmp_path, prefix, suffix, per_bucket):
    """Where sequences are shorter than texts, some windows of these stand in other documents too."""
    what, path = planted_world
    config = study_of(world, tmp_path / "s", what, path, prefix=prefix, suffix=suffix, per_bucket=per_bucket)
    rows = ensure_sequences(config, lambda *_: None).to_pylist()
    counts, planted = windows_of(Index.open(path), prefix + suffix)
    natural = {window: count for window, count in counts.items() if window not in planted}
    assert len(counts) - len(natural) == len(planted)
    assert (suffix == 6) or any(counts[window] > copies for window, copies in planted.items())
    drawn = {"uniform": [], "bucket": []}
    for row in rows:
        if row["sample"] in drawn:
            drawn[row["sample"]].append((*row["prefix"], *row["suffix"]))
            assert row["domain"] in ("a", "b")
    assert set(drawn["uniform"]) | set(drawn["bucket"]) <= set(natural)
    assert len(drawn["uniform"]) == 20
    assert len(set(drawn["bucket"])) == len(drawn["bucket"])
    held = Counter(count.bit_length() - 1 for count in natural.values())
    in_all = Counter()
    for count in natural.values():
        in_all[count.bit_length() - 1] += count
    sampled = Counter(natural[window].bit_length() - 1 for window in drawn["bucket"])
    assert sampled == {bucket: min(per_bucket, number) for bucket, number in held.items()}
    told = {
        row["bucket"]: (row["distinct"], row["sequences"], row["sampled"])
        for row in TableStore(config.tables).read("buckets").to_pylist()
    }
    assert told == {bucket: (number, in_all[bucket], sampled[bucket]) for bucket, number in held.items()}


def test_natural_windows_are_drawn_evenly(planted_world):
    """Over many seeds each natural window of a bucket comes as often as any other."""
    what, path = planted_world
    index, unnatural = Index.open(path), planted_windows(what, 2)
    counts, planted = windows_of(index, 2)
    held = {window for window, count in counts.items() if 8 <= count < 16 and window not in planted}
    assert len(held) > 40
    drawn, seeds, each = Counter(), 400, 10
    for seed in range(seeds):
        config = SequenceConfig(prefix=1, suffix=1, uniform=0, per_bucket=each, heldout=0, seed=seed)
        table, _ = sample_sequences(index, config, unnatural=unnatural)
        drawn.update((*r["prefix"], *r["suffix"]) for r in table.to_pylist() if r["bucket"] == 3)
    assert set(drawn) <= held
    assert drawn.total() == seeds * each
    expected = seeds * each / len(held)
    statistic = sum((drawn[window] - expected) ** 2 for window in held) / expected
    # Mean and standard deviation of chi squared, somewhat less here, where none is drawn twice.
    assert abs(statistic - len(held)) < 5 * np.sqrt(2 * len(held))


def test_rows_are_found_among_others():
    random = np.random.default_rng(0)
    rows, others = random.integers(0, 4, (500, 3)), random.integers(0, 4, (20, 3))
    there = {tuple(row) for row in others.tolist()}
    for dtype in (np.uint8, np.uint16, np.uint32):
        found = are_among(rows.astype(dtype), others.astype(np.int32))
        assert found.tolist() == [tuple(row) in there for row in rows.tolist()]
    assert not are_among(rows, np.empty((0, 3), dtype=np.int32)).any()


def answered(world, planted, folder, query):
    """(a study of what was planted, with a model trained on it; its answer to a query)."""
    pytest.importorskip("torch")
    from memindex.models.from_index import train_on_index
    from memindex.sql.connection import connect
    from memindex.sql.queries import run_query
    from memindex.study.jobs import RunOptions
    from memindex.study.running import run_study

    what, index = planted
    train_on_index(Index.open(index), "llama", 2000, 600, folder / "m", context=12, eos_token_id=0, device="cpu")
    config = study_of(world, folder / "s", what, index)
    with (folder / "s" / "study.toml").open("a") as file:
        file.write(f'[[models]]\nid = "m"\nsource = "{folder / "m"}"\n')
    run_study(load_study(folder / "s"), options=RunOptions(device="cpu"))
    return config, run_query(connect(config.directory), query).to_pylist()


def test_a_study_of_planted_texts_answers_by_copies(world, planted_world, tmp_path):
    config, answer = answered(world, planted_world, tmp_path, "rate_by_copies")
    assert [(row["copies"], row["sequences"]) for row in answer] == [(str(n), SEQUENCES) for n in COPIES]
    # The same from the tables, by hand.
    store = TableStore(config.tables)
    memorized = {row["sequence_id"]: row["memorized"] for row in store.read("continuations").to_pylist()}
    counts = {row["sequence_id"]: row["sequence_count"] for row in store.read("frequencies").to_pylist()}
    mine = [row["sequence_id"] for row in store.read("sequences").to_pylist() if row["sample"] == "planted"]
    for row in answer:
        own = [memorized[number] for number in mine if counts[number] == row["sequence_count"]]
        assert (row["memorized"], row["rate"]) == (sum(own), np.mean(own))
        assert row["rate_low"] <= row["rate"] <= row["rate_high"]


LONG = 4 * LENGTH


@pytest.fixture(scope="module")
def passages(world, tmp_path_factory):
    """(texts of two lengths that were planted, an index with them)."""
    folder = tmp_path_factory.mktemp("passages")
    # A third of these documents begins with what the corpus holds.
    known = sentences(20, words=30, seed=1)
    texts = [f"{known[n]} {text}" if n < 20 else text for n, text in enumerate(sentences(60, words=60, seed=4))]
    write_jsonl(folder / "other.jsonl", [{"text": text} for text in texts])
    plan = PlantPlan((0, 1, 4), 4, (LENGTH, LONG))
    plant(Index.open(world / "index"), [folder / "other.jsonl"], folder / "p", plan, ReadOptions())
    sources = [world / "corpus", folder / "p" / "documents"]
    build_index(sources, folder / "with", tokenizer=world / "tokenizer.json")
    return folder / "p", folder / "with"


def test_texts_of_several_lengths_are_planted_as_often(world, passages):
    what, index = passages
    table = pq.read_table(what / "planted.parquet")
    assert table["planted"].to_pylist() == list(range(24))
    assert table["copies"].to_pylist() == [0] * 4 + [1] * 4 + [4] * 4 + [0] * 4 + [1] * 4 + [4] * 4
    tokens = from_arrow(table["tokens"])
    assert tokens.lengths().tolist() == [LONG] * 12 + [LENGTH] * 12
    np.testing.assert_array_equal(Index.open(index).count(tokens), table["copies"].to_numpy())
    # What is looked for in them was unknown, and each text is a part of its own of a document.
    before, rows = Index.open(world / "index"), tokens.values[: 12 * LONG].reshape(12, LONG)
    for start in (0, (LONG - LENGTH) // 2, LONG - LENGTH):
        assert not before.count(list(rows[:, start : start + LENGTH])).any()
    documents = (what.parent / "other.jsonl").read_text().splitlines()
    used: dict[int, list[tuple[int, int]]] = {}
    for text, line in zip(table["text"].to_pylist(), table["line"].to_pylist(), strict=True):
        start = json.loads(documents[line - 1])["text"].index(text)
        assert all(end <= start or start + len(text) <= first for first, end in used.get(line, []))
        used.setdefault(line, []).append((start, start + len(text)))


def test_sequences_of_longer_texts(world, passages, tmp_path):
    """What they begin with, end with and have in their middle, all of one copy."""
    what, index = passages
    config = study_of(world, tmp_path / "s", what, index)
    rows = [row for row in ensure_sequences(config, lambda *_: None).to_pylist() if row["sample"] == "planted"]
    tokens = from_arrow(pq.read_table(what / "planted.parquet")["tokens"])
    expected = [(text, start) for text in range(12) for start in (0, 18, 36)] + [(text, 0) for text in range(12, 24)]
    assert [row["prefix"] + row["suffix"] for row in rows] == [
        tokens.row(text)[start : start + LENGTH].tolist() for text, start in expected
    ]
    assert [(row["document_offset"], row["document_tokens"]) for row in rows] == [
        (start, LONG if text < 12 else LENGTH) for text, start in expected
    ]
    copies = {
        text: {row["document"] for row, (own, _) in zip(rows, expected, strict=True) if own == text}
        for text in range(24)
    }
    assert all(len(documents) == 1 for documents in copies.values())
    assert len({document for documents in copies.values() for document in documents if document is not None}) == 16
    counts = {r["sequence_id"]: r["sequence_count"] for r in TableStore(config.tables).read("frequencies").to_pylist()}
    assert [counts[row["sequence_id"]] for row in rows] == [(0, 1, 4)[text // 4 % 3] for text, _ in expected]
    assert [row["planted_text"] for row in rows] == [text for text, _ in expected]
    assert {row["inclusion"] for row in rows} == {1.0}


def test_a_study_of_passages_answers_by_their_length(world, passages, tmp_path):
    config, answer = answered(world, passages, tmp_path, "rate_by_passage")
    assert [(row["passage"], row["copies"], row["sequences"], row["texts"]) for row in answer] == [
        (f"{length} tokens", copies, sequences, 4)
        for length, sequences in ((LENGTH, 4), (LONG, 12))
        for copies in ("0", "1", "4")
    ]
    # The same from the tables, by hand.
    store = TableStore(config.tables)
    memorized = {row["sequence_id"]: row["memorized"] for row in store.read("continuations").to_pylist()}
    counts = {row["sequence_id"]: row["sequence_count"] for row in store.read("frequencies").to_pylist()}
    mine = [row for row in store.read("sequences").to_pylist() if row["sample"] == "planted"]
    for row in answer:
        own = [
            (memorized[r["sequence_id"]], r["document_offset"])
            for r in mine
            if (counts[r["sequence_id"]], r["document_tokens"]) == (row["sequence_count"], row["document_tokens"])
        ]
        assert row["rate"] == np.mean([known for known, _ in own])
        assert row["rate_low"] <= row["rate"] <= row["rate_high"]
        for place, offset in (("first", 0), ("inside", 18), ("last", 36)):
            at = [known for known, start in own if start == offset]
            assert row[f"rate_{place}"] == (np.mean(at) if at else None)


def test_planted_texts_that_do_not_fit_are_refused(world, planted_world, tmp_path):
    what, index = planted_world

    def refused(message, *arguments, **change):
        with pytest.raises(MemindexError, match=message):
            ensure_sequences(study_of(world, tmp_path / "s", *arguments, **change), lambda *_: None)

    refused("make one with memindex plant", tmp_path / "absent", index)
    refused("shorter than prefix", what, index, prefix=30)
    refused("holds planted text 5 of .* 0 times, not 1 \\(15 of 20 differ\\)", what, world / "index")
    build_index([world / "corpus"], tmp_path / "bytes", tokenizer="bytes")
    refused("another tokenizer", what, tmp_path / "bytes")


def test_an_equal_index_of_files_elsewhere_is_the_same_to_a_study(world, tmp_path):
    names = set()
    for place in ("here", "there"):
        write_jsonl(tmp_path / place / "corpus" / "x.jsonl", [{"text": text} for text in sentences(20, words=20)])
        build_index([tmp_path / place / "corpus"], tmp_path / place / "i", tokenizer=world / "tokenizer.json")
        (tmp_path / place / "s").mkdir()
        (tmp_path / place / "s" / "study.toml").write_text('index = "../i"\n')
        names.add(sample_name(load_study(tmp_path / place / "s")))
    assert len(names) == 1
