"""Planting: texts that a corpus lacks, in as many copies as were asked for, and in no more."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from synthetic_corpus import assert_refused, left_in, memindex, sentences, train_bpe, write_jsonl

from memindex.corpus.sources import ReadOptions
from memindex.index import Index, build_index
from memindex.ragged import from_arrow
from memindex.study.planting import PlantPlan, plant

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
    plan = PlantPlan(**{"copies": COPIES, "sequences": SEQUENCES, "length": LENGTH, "text_field": "body.text"} | change)
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
        (
            ["--copies", "1", "--sequences", 500],
            "found that index does not hold (20 stand there, up to 1 times)",
        ),
        (["--copies", "1", "--length", 4000], "has 4000 tokens"),
        (["--copies", "1", "--text-field", "body.no"], "body.no"),
    ):
        refused = memindex(*command, "--out", tmp_path / "q", *arguments)
        assert_refused(refused, words)
        assert left_in(tmp_path) == before
    assert_refused(memindex(*command, "--copies", "1", "--out", tmp_path / "p"), "exists already")
