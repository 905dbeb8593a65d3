"""Importing scores over training sequences: every form of Pythia's and mynlp's files, and what is wrong with one."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from importing_world import PREFIX, SUFFIX, contents, make_world, rows, run, store, windows

import memindex
from memindex.errors import MemindexError
from memindex.importers import writing
from memindex.importers.checking import Protocol
from memindex.importers.identity import base_of
from memindex.importers.scored import ScoredSource

LENGTHS = ("--prefix", PREFIX, "--suffix", SUFFIX)
BASE = base_of("pile 6+4")


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


def parquet(file, **columns):
    pq.write_table(pa.table(columns), file)
    return file


def memorized_list(file, index, ids):
    return parquet(file, index=index, tokens=ids.tolist(), __index_level_0__=index)


def test_the_id_of_a_sequence_is_made_of_its_source_and_number():
    # SHA-256 of "pile 32+32" starts with these bytes: `printf 'pile 32+32' | sha256sum`.
    import hashlib

    number = int(hashlib.sha256(b"pile 32+32").hexdigest()[:8], 16) % 2**31
    assert base_of("pile 32+32") == number * 2**32
    assert base_of("pile 32+32") + 2**32 - 1 < 2**63


def test_a_list_of_memorized_sequences(world, capsys):
    ids = windows(world, 5)
    ids[4] = 1  # five of them: the last one is not in the corpus
    file = memorized_list(world / "duped.12b.parquet", [7, 3, 146_000_000, 11, 12], ids)
    run(world, "import", "pythia", file, "--model-id", "pythia-12b", "--revision", "step143000", *LENGTHS)
    said = capsys.readouterr()
    assert "memorized sequences only" in said.err
    assert "4 of 5 new sequences occur in the study's index" in said.err
    assert said.out == "pythia-12b pile 6+4: 5 rows, 5 memorized; 5 new sequences of 'pile 6+4'\n"
    order = np.argsort([7, 3, 146_000_000, 11, 12])
    made = rows(world, "continuations")
    assert [row["sequence_id"] - BASE for row in made] == [3, 7, 11, 12, 146_000_000]
    for row, place in zip(made, order, strict=True):
        assert row["continuation"] == ids[place, PREFIX:].tolist()
        assert (row["score"], row["matched"], row["memorized"]) == (1.0, SUFFIX, True)
        assert (row["edit_distance"], row["bleu"]) == (0, 1.0)
        assert (row["suffix_logprob"], row["token_ranks"]) == (None, None)
    sequences = rows(world, "sequences")
    assert [row["prefix"] + row["suffix"] for row in sequences] == ids[order].tolist()
    assert {row["sample"] for row in sequences} == {"imported"}
    assert [row["index"] for row in sequences] == ["index", "index", "index", None, "index"]
    (one,) = store(world).read("runs").to_pylist()
    assert (one["prefix_length"], one["suffix_length"], one["sequences"]) == (PREFIX, SUFFIX, 5)
    assert (one["made_by"], one["decoding"], one["device"], one["seconds"]) == ("pythia", "greedy", None, None)
    (model,) = store(world).read("models").to_pylist()
    assert (model["source"], model["revision"], model["parameters"]) == ("pythia-12b", "step143000", None)


def test_found_sequences_stand_where_the_tables_say(world):
    ids = windows(world, 40)
    run(world, "import", "pythia", memorized_list(world / "a.parquet", range(40), ids), "--model-id", "m", *LENGTHS)
    index = memindex.Index.open(world / "index")
    documents = pq.read_table(world / "index" / "documents.parquet").to_pylist()
    for row in rows(world, "sequences"):
        here = index.tokens_of_shard(row["shard"])[row["position"] : row["position"] + PREFIX + SUFFIX]
        assert here.tolist() == row["prefix"] + row["suffix"]
        document = next(d for d in documents if (d["shard"], d["document"]) == (row["shard"], row["document"]))
        assert row["domain"] == document["domain"]
        assert row["position"] == document["first_token"] + row["document_offset"]
    text = "".join(file.read_text() + "\0" for file in sorted((world / "corpus").rglob("*.txt")))
    for row, sequence in zip(rows(world, "frequencies"), rows(world, "sequences"), strict=True):
        for name in ("prefix", "suffix"):
            part = bytes(sequence[name]).decode()
            assert row[f"{name}_count"] == len(re.findall(f"(?={part})", text))
        assert row["sequence_count"] == 1
    con = memindex.connect(world / "study")
    assert con.sql("SELECT count(*), count(domain), avg(frequency_bucket) FROM memorization").fetchall() == [
        (40, 40, 0)
    ]


def test_models_share_the_sequences_of_one_source(world):
    ids = windows(world, 8)
    few = memorized_list(world / "70m.parquet", [2, 5], ids[[2, 5]])
    many = memorized_list(world / "12b.parquet", [1, 2, 3], ids[1:4])
    run(world, "import", "pythia", few, "--model-id", "small", *LENGTHS)
    run(world, "import", "pythia", many, "--model-id", "large", *LENGTHS)
    assert [row["sequence_id"] - BASE for row in rows(world, "sequences")] == [1, 2, 3, 5]
    assert len(rows(world, "frequencies")) == 4
    con = memindex.connect(world / "study")
    both = "SELECT sequence_id FROM memorization GROUP BY ALL HAVING count(DISTINCT model_id) = 2"
    assert con.sql(both).fetchall() == [(BASE + 2,)]


def test_other_tokens_under_the_same_number_are_refused(world):
    ids = windows(world, 8)
    run(world, "import", "pythia", memorized_list(world / "a.parquet", range(4), ids[:4]), "--model-id", "a", *LENGTHS)
    before = contents(world)
    other = memorized_list(world / "b.parquet", range(4), ids[4:])
    with pytest.raises(MemindexError, match=r"has other tokens here.*another --name"):
        run(world, "import", "pythia", other, "--model-id", "b", *LENGTHS)
    assert contents(world) == before
    run(world, "import", "pythia", other, "--model-id", "b", "--name", "other", *LENGTHS)
    assert len(rows(world, "sequences")) == 8


def test_scores_of_several_models_in_one_file(world, capsys):
    ids = windows(world, 3)
    scores = {"70M": [0.0, 0.25, 1.0], "12B": [1.0, 0.75, 1.0]}
    file = parquet(world / "train.parquet", Index=[0, 1, 2], Tokens=ids.tolist(), **scores)
    with pytest.raises(MemindexError, match="choose one of 70M, 12B with --column"):
        run(world, "import", "pythia", file, "--model-id", "m", *LENGTHS)
    run(world, "import", "pythia", file, "--column", "70M", "--model-id", "m", *LENGTHS)
    assert "memorized sequences only" not in capsys.readouterr().err
    known = [
        (row["score"], row["matched"], row["memorized"], row["edit_distance"]) for row in rows(world, "continuations")
    ]
    assert known == [(0.0, 0, False, None), (0.25, None, False, None), (1.0, SUFFIX, True, 0)]
    made = [row["continuation"] for row in rows(world, "continuations")]
    assert made == [None, None, ids[2, PREFIX:].tolist()]
    con = memindex.connect(world / "study")
    assert con.sql("SELECT sum(score), sum(memorized::INT) FROM memorization").fetchall() == [(1.25, 1)]


@pytest.mark.parametrize(
    "text",
    [
        "0,0.25\n7,1.0\n9,0.0",
        "index,accuracy\n0,0.25\n7,1.0\n9,0.0\n",
        "Index,Accuracy\n0,.25\n7,1\n9,0\n",
        ",idx,score\n0,0,0.25\n1,7,1.0\n2,9,0.0\n",
        ",0,0.25\n0,7,1.0\n1,9,0.0\n",
        "score,idx\n0.25,0\n1,7\n0.0,9\n",
    ],
    ids=["no header", "header", "capitals", "row numbers", "first row as header", "other order"],
)
def test_csv_of_number_and_score(world, text, capsys):
    file = world / "memorization_evals_70m-deduped-v0_6_10_143000.csv"
    file.write_text(text)
    run(world, "import", "mynlp", file)
    known = [(row["sequence_id"], row["score"], row["continuation"]) for row in rows(world, "continuations")]
    base = base_of("pile-deduped 6+4")
    assert known == [(base, 0.25, None), (base + 7, 1.0, None), (base + 9, 0.0, None)]
    assert [row["prefix"] for row in rows(world, "sequences")] == [None] * 3
    assert not rows(world, "frequencies")
    (model,) = store(world).read("models").to_pylist()
    assert model["model_id"] == "pythia-70m-deduped-v0"
    assert (model["source"], model["revision"]) == ("EleutherAI/pythia-70m-deduped-v0", "step143000")
    assert (model["family"], model["corpus"]) == ("pythia", "the Pile, deduplicated")
    assert (model["layers"], model["non_embedding_parameters"]) == (6, 18_915_328)
    # The first edition was trained in other batches.
    assert model["trained_tokens"] is None
    assert "hold no tokens" in capsys.readouterr().err


def test_tokens_come_from_the_training_data(world):
    training = np.random.default_rng(0).integers(97, 123, (20, 2049)).astype("<u2")
    ids = windows(world, 2)
    training[[4, 6], : PREFIX + SUFFIX] = ids
    training.tofile(world / "document.bin")
    for rank, text in enumerate([",idx,score\n0,4,1.0\n1,5,0.5\n", ",idx,score\n0,6,0.0\n"]):
        (world / f"memorization_evals_1b_6_10_1000_{rank}.csv").write_text(text)
    files = sorted(world.glob("memorization_evals_*"))
    run(world, "import", "mynlp", *files, "--training-data", world / "document.bin")
    (model,) = rows(world, "models")
    assert (model["parameters"], model["trained_tokens"]) == (1_011_781_632, 1000 * 2_097_152)
    sequences = rows(world, "sequences")
    assert [row["prefix"] + row["suffix"] for row in sequences] == training[4:7, : PREFIX + SUFFIX].tolist()
    assert [row["index"] for row in sequences] == ["index", None, "index"]
    assert [row["continuation"] for row in rows(world, "continuations")] == [ids[0, PREFIX:].tolist(), None, None]
    (world / "cut.bin").write_bytes(b"12345")
    with pytest.raises(MemindexError, match=r"5 bytes are no whole number of sequences"):
        run(world, "import", "mynlp", *files, "--model-id", "x", "--training-data", world / "cut.bin")
    (world / "memorization_evals_1b_6_10_1000_2.csv").write_text(",idx,score\n0,20,1.0\n")
    with pytest.raises(MemindexError, match="has 20 sequences, the files speak of 20"):
        run(world, "import", "mynlp", world / "memorization_evals_1b_6_10_1000_2.csv", "--model-id", "x",
            "--training-data", world / "document.bin")  # fmt: skip


def test_tokens_as_text_and_arrow_streams(world):
    ids = windows(world, 3)
    plain = "".join(f'{i},"{row.tolist()}"\n' for i, row in enumerate(ids))
    (world / "a.csv").write_text("index,tokens\n" + plain)
    (world / "b.csv").write_text("index,tokens\n" + plain.replace(",", "  ").replace('  "', ',"'))
    table = pa.table({"index": [0, 1, 2], "tokens": ids.tolist()})
    for name, new in (("c", pa.ipc.new_stream), ("d", pa.ipc.new_file)):
        with new(str(world / f"{name}.arrow"), table.schema) as writer:
            writer.write_table(table)
    for name in ("a.csv", "b.csv", "c.arrow", "d.arrow"):
        run(world, "import", "pythia", world / name, "--model-id", name, *LENGTHS)
    assert [row["prefix"] + row["suffix"] for row in rows(world, "sequences")] == ids.tolist()
    assert len(rows(world, "continuations")) == 12


def test_a_rerun_does_nothing_and_other_files_are_refused(world, capsys):
    ids = windows(world, 6)
    file = memorized_list(world / "a.parquet", range(6), ids)
    run(world, "import", "pythia", file, "--model-id", "m", *LENGTHS)
    before = contents(world)
    capsys.readouterr()
    run(world, "import", "pythia", file, "--model-id", "m", *LENGTHS, "--json")
    said = capsys.readouterr()
    assert "was imported before" in said.err
    assert json.loads(said.out)["already"] is True
    memorized_list(file, range(5), ids[:5])
    with pytest.raises(MemindexError, match="from other files or settings"):
        run(world, "import", "pythia", file, "--model-id", "m", *LENGTHS)
    with pytest.raises(MemindexError, match="of revision None: give step1"):
        run(world, "import", "pythia", file, "--model-id", "m", "--name", "n", "--revision", "step1", *LENGTHS)
    assert contents(world) == before


BAD = {
    "columns": ("x.csv", "a,b\n1,2\n", "wanted are index"),
    "empty": ("x.csv", "", "the file is empty"),
    "no rows": ("x.csv", "index,score\n", "holds no row"),
    "not a number": ("x.csv", "index,score\n1,0.5\n2,abc\n", "abc"),
    "ragged": ("x.csv", "index,score\n1,0.5\n2\n", "Expected 2 columns, got 1"),
    "NaN": ("x.csv", "index,score\n1,nan\n", "no score"),
    "missing": ("x.csv", "index,score\n1,\n", "no score"),
    "too large": ("x.csv", "index,score\n1,1.5\n", "must lie in 0..1"),
    "negative": ("x.csv", "index,score\n1,-0.25\n", "must lie in 0..1"),
    "other length": ("x.csv", "index,score\n1,0.33\n", "no share of 4 positions"),
    "negative index": ("x.csv", "index,score\n-1,0.5\n", "no number of a sequence"),
    "huge index": ("x.csv", "index,score\n4294967296,0.5\n", "no number of a sequence"),
    "twice": ("x.csv", "index,score\n1,0.5\n2,0.5\n1,0.25\n", "sequence 1 is there twice"),
    "short": ("x.csv", 'index,tokens\n1,"[1, 2, 3]"\n', "has 3 tokens"),
    "column twice": ("x.csv", "index,score,score\n1,0.5,0.5\n", "has the column score twice"),
    "no ids": ("x.csv", 'index,tokens\n1,"[a, b]"\n', "is not one"),
    "not UTF-8": ("x.csv", b"\xff\xfe\x00", "not a CSV file"),
    "not Parquet": ("x.parquet", "PAR1 no", "not a readable parquet file"),
    "width": ("x.csv", 'index,tokens\n1,"[1,2,3,4,5,6,7,8,9,300]"\n', "token id 300: the index index knows 0 to"),
    "negative id": ("x.csv", 'index,tokens\n1,"[1,2,3,4,5,6,7,8,9,-5]"\n', "token id -5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_line_and_leaves_nothing(world, case):
    name, content, message = BAD[case]
    (world / name).write_bytes(content.encode() if isinstance(content, str) else content)
    before = contents(world)
    with pytest.raises(MemindexError, match=re.escape(message)) as error:
        run(world, "import", "pythia", world / name, "--model-id", "m", *LENGTHS)
    assert "\n" not in str(error.value)
    assert contents(world) == before


def test_bad_input_late_in_a_file_leaves_nothing(world):
    """The last of 300,000 rows is wrong: two units would have been written by then."""
    lines = [f"{i},0.25" for i in range(300_000)]
    (world / "x.csv").write_text("\n".join([*lines, "300000,0.3"]))
    before = contents(world)
    with pytest.raises(MemindexError, match="no share of 4 positions"):
        run(world, "import", "pythia", world / "x.csv", "--model-id", "m", *LENGTHS)
    assert contents(world) == before


def test_names_of_mynlp_files(world):
    for name, message in (
        ("results.csv", "is not called memorization_evals"),
        ("memorization_evals_70m_48_32_143000.csv", "must be the larger one"),
    ):
        (world / name).write_text("0,1.0\n")
        with pytest.raises(MemindexError, match=message):
            run(world, "import", "mynlp", world / name)
    for name in ("memorization_evals_70m_6_10_1.csv", "memorization_evals_160m_6_10_1.csv"):
        (world / name).write_text("0,1.0\n")
    with pytest.raises(MemindexError, match="of different models"):
        run(world, "import", "mynlp", *world.glob("memorization_evals_*_6_*"))
    run(world, "import", "mynlp", world / "results.csv", "--model-id", "m", "--prefix", 6, "--suffix", 4)


def test_the_numbers_of_sequences_are_no_scores(world):
    (world / "x.csv").write_text("index,70M,160M\n1,0.5,1\n")
    with pytest.raises(MemindexError, match="--column index: that column holds no scores"):
        run(world, "import", "pythia", world / "x.csv", "--model-id", "m", "--column", "index", *LENGTHS)


def test_two_imports_at_once_write_their_sequences_once(world, monkeypatch):
    """Each waits before it writes, so that without turns both would find the sequences missing."""
    (world / "x.csv").write_text("index,score\n1,0.5\n2,1\n")
    source = ScoredSource("pythia", (world / "x.csv",), PREFIX, SUFFIX)
    read = writing.read_all

    def slow(*arguments):
        time.sleep(0.3)
        return read(*arguments)

    monkeypatch.setattr(writing, "read_all", slow)
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(writing.import_run, store(world), source, "x", Protocol(name)) for name in "ab"]
        assert sorted(run.result().new_sequences for run in runs) == [0, 2]
    assert len(rows(world, "sequences")) == 2
    assert len(rows(world, "continuations")) == 4
