"""Importing JSON lines: ids and text, the study's own sequences and others, log-probabilities; and the export."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from importing_world import PREFIX, SUFFIX, contents, make_world, rows, run, store, windows
from synthetic_corpus import train_bpe

import memindex
from memindex.errors import MemindexError
from memindex.importers.identity import base_of
from memindex.importers.results import compared
from memindex.ragged import from_lists
from memindex.study.similarity import bleu, edit_distance


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


def write(world, *lines, name="made.jsonl"):
    (world / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return world / name


def imported(world, *lines, options=("--model-id", "m")):
    run(world, "import", "jsonl", write(world, *lines), *options)
    return rows(world, "continuations")


def exported(world, *options):
    run(world, "export", "--out", world / "sequences.jsonl", *options)
    return [json.loads(line) for line in (world / "sequences.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_export_holds_the_study_s_sequences(world, capsys):
    lines = exported(world, "--suffix")
    sequences = store(world).read("sequences").to_pylist()
    assert [(line["sequence_id"], line["prefix"], line["suffix"]) for line in lines] == [
        (row["sequence_id"], row["prefix"], row["suffix"]) for row in sequences
    ]
    for line in lines:
        assert bytes(line["prefix"]).decode() == line["prefix_text"]
        assert bytes(line["suffix"]).decode() == line["suffix_text"]
        assert line["suffix_length"] == SUFFIX
    assert set(exported(world, "--no-text")[0]) == {"sequence_id", "prefix", "suffix_length"}
    run(world, "export", "--sample", "uniform")
    assert len(capsys.readouterr().out.splitlines()) == 30
    with pytest.raises(MemindexError, match="no sequences of the sample heldout"):
        exported(world, "--sample", "heldout")


@pytest.mark.parametrize("as_text", [False, True])
def test_continuations_of_the_study_s_sequences(world, as_text):
    lines = exported(world, "--suffix")
    truth = [line.pop("suffix") for line in lines]
    made = [[*suffix[: i % 5], *[120] * (i % 7)] for i, suffix in enumerate(truth)]
    for line, ids in zip(lines, made, strict=True):
        line["continuation"] = bytes(ids).decode() if as_text else ids
    got = imported(world, *lines)
    for row, ids, suffix in zip(got, made, truth, strict=True):
        cut = ids[:SUFFIX]
        equal = [i < len(cut) and cut[i] == suffix[i] for i in range(SUFFIX)]
        assert row["continuation"] == cut
        assert (row["score"], row["memorized"]) == (sum(equal) / SUFFIX, all(equal))
        assert row["matched"] == (equal.index(False) if False in equal else SUFFIX)
    assert not rows(world, "sequences"), "the study's own sequences are not repeated"
    con = memindex.connect(world / "study")
    assert con.sql("SELECT count(*), min(sample) FROM memorization").fetchall() == [(30, "uniform")]


def test_own_sequences_of_any_lengths(world):
    whole = bytes(windows(world, 1, length=12)[0].tolist()).decode()
    lines = [
        {
            "prefix": list(whole[:7].encode()),
            "suffix": list(whole[7:].encode()),
            "continuation": list(whole[7:].encode()),
        },
        {"prefix": whole[:3], "suffix": whole[3:6], "continuation": "zz", "domain": "mine", "document": 4},
        {"prefix": "zzz", "suffix": "yyyy", "continuation": "", "document": 7},
    ]
    got = imported(world, *lines, options=("--model-id", "m", "--name", "mine"))
    assert [row["sequence_id"] - base_of("mine") for row in got] == [0, 1, 2]
    assert [(r["score"], r["matched"], r["edit_distance"], r["bleu"]) for r in got] == [
        (1.0, 5, 0, 1.0), (0.0, 0, 3, 0.0), (0.0, 0, 4, 0.0)]  # fmt: skip
    assert got[2]["continuation"] == []
    sequences = rows(world, "sequences")
    assert [r["index"] for r in sequences] == ["index", "index", None]
    assert sequences[1]["document_offset"] is not None
    assert sequences[2]["document"] == 7
    assert sequences[1]["domain"] == "mine"
    assert sequences[0]["domain"].startswith("domain-")
    assert [row["sequence_count"] for row in rows(world, "frequencies")] == [1, 1, 0]
    (one,) = store(world).read("runs").to_pylist()
    assert (one["prefix_length"], one["suffix_length"]) == (None, None)


def test_ids_tell_sequences_apart_in_any_order(world):
    ids = windows(world, 4).tolist()
    lines = [{"id": 10 * n, "prefix": i[:PREFIX], "suffix": i[PREFIX:], "continuation": [1]} for n, i in enumerate(ids)]
    imported(world, *lines, options=("--model-id", "a", "--name", "s"))
    imported(world, *lines[::-1], options=("--model-id", "b", "--name", "s"))
    assert [row["sequence_id"] - base_of("s") for row in rows(world, "sequences")] == [0, 10, 20, 30]


def test_log_probabilities(world):
    suffix, wrong = [97] * SUFFIX, [98] * SUFFIX
    own = {"prefix": [99], "suffix": suffix}
    values = [-0.5, -1.5, -0.25, -2.0]
    lines = [
        {**own, "continuation": suffix, "logprobs": [*values, -9.0]},
        {**own, "continuation": wrong, "logprobs": values},
        {**own, "continuation": wrong, "token_logprobs": values, "token_ranks": [0, 1, 2, 3], "prefix_logprob": -7.0},
        {**own, "continuation": wrong, "suffix_logprob": -3.0, "suffix_logprob_top40": float("-inf")},
    ]
    got = imported(world, *lines)
    assert [row["token_logprobs"] for row in got] == [values, None, values, None]
    assert [row["suffix_logprob"] for row in got] == [-4.25, None, -4.25, -3.0]
    assert [row["token_ranks"] for row in got] == [None, None, [0, 1, 2, 3], None]
    assert [row["prefix_logprob"] for row in got] == [None, None, -7.0, None]
    assert got[3]["suffix_logprob_top40"] == float("-inf")


def test_text_that_says_the_suffix_is_the_suffix(tmp_path):
    """BPE cuts a text by itself otherwise than within a longer one; characters may be cut between prefix and suffix."""
    tokenizer = train_bpe(tmp_path / "tokenizer.json")
    world = make_world(tmp_path, tokenizer=str(tmp_path / "tokenizer.json"))
    text = "the quick brown fox jumps over café 日本語 😀 the lazy dogs"
    ids = tokenizer.encode(text).ids
    lines = []
    for cut in range(1, len(ids) - 1):
        before, after = tokenizer.decode(ids[:cut]), tokenizer.decode(ids[cut:])
        if "\ufffd" not in before:  # no runner gives half a character as text
            lines.append({"prefix": ids[:cut], "suffix": ids[cut:], "continuation": after + " and more"})
            lines.append({"prefix": ids[:cut], "suffix": ids[cut:], "continuation": after[: len(after) // 2] + "#"})
    got = imported(world, *lines)
    assert all(row["memorized"] for row in got[::2])
    assert not any(row["memorized"] for row in got[1::2])
    for row, line in zip(got[1::2], lines[1::2], strict=True):
        matched = tokenizer.decode(line["prefix"] + line["suffix"][: row["matched"]])
        said = tokenizer.decode(line["prefix"]) + line["continuation"]
        assert said.startswith(matched.rstrip("\ufffd"))
        longer = tokenizer.decode(line["prefix"] + line["suffix"][: row["matched"] + 1])
        assert not said.startswith(longer) or longer.endswith("\ufffd")


def test_models_and_unknown_fields(world, capsys):
    line = {"prefix": [97], "suffix": [97], "continuation": [97], "finish_reason": "length"}
    run(world, "import", "jsonl", write(world, {**line, "model": "org/one"}))
    assert "fields that are not read: finish_reason" in capsys.readouterr().err
    assert store(world).read("models").column("model_id").to_pylist() == ["org/one"]
    two = write(world, {**line, "model": "a"}, {**line, "model": "b"})
    with pytest.raises(MemindexError, match=r"several models \(a, b\)"):
        run(world, "import", "jsonl", two)
    with pytest.raises(MemindexError, match="name no model: give --model-id"):
        run(world, "import", "jsonl", write(world, line))


GOOD = {"prefix": [97], "suffix": [97, 98], "continuation": [97]}
BAD = {
    "not JSON": ("{", "line 2: not JSON"),
    "no object": ("[1]", "line 2: not a JSON object"),
    "no continuation": (
        {"prefix": [1], "suffix": [1]},
        "line 2: needs continuation, and sequence_id or prefix and suffix; found keys prefix, suffix",
    ),
    "no suffix": ({"prefix": [1], "continuation": [1]}, "found keys prefix, continuation"),
    "empty suffix": ({**GOOD, "suffix": []}, "line 2: its suffix is empty"),
    "float id": ({**GOOD, "suffix": [1.5]}, "suffix must be a list of token ids, or text; it is [1.5]"),
    "boolean id": ({**GOOD, "suffix": [True]}, "it is [true]"),
    "negative id": ({**GOOD, "prefix": [-1]}, "it is [-1]"),
    "width": ({**GOOD, "prefix": [300]}, "the index index knows 0 to 255"),
    "huge id": ({**GOOD, "continuation": [1 << 30]}, "is none of any vocabulary"),
    "id twice": ({**GOOD, "id": 0}, "line 2: sequence 0 is there twice, first in "),
    "id too large": ({**GOOD, "id": 1 << 32}, "id must be a whole number"),
    "mixed": ({"sequence_id": 3, "continuation": [1]}, "some lines name a sequence_id and others don't"),
    "ranks": ({**GOOD, "token_ranks": [1]}, "token_ranks has 1 entries for 2 tokens"),
    "null inside": ({**GOOD, "token_logprobs": [None, -1.0]}, "token_logprobs has a null inside"),
    "NaN": ({**GOOD, "suffix_logprob": float("nan")}, "suffix_logprob is NaN"),
    "above 0": ({**GOOD, "token_logprobs": [-1.0, 0.5]}, "token_logprobs is NaN or above 0"),
    "generated above 0": ({**GOOD, "continuation": [97, 98], "logprobs": [0.5, 0.5]}, "a list of numbers up to 0"),
    "negative rank": ({**GOOD, "token_ranks": [0, -1]}, "token_ranks is negative"),
    "type": ({**GOOD, "suffix_logprob": "much"}, "suffix_logprob must be float"),
    "logprobs": ({**GOOD, "continuation": [97, 98], "logprobs": ["a", "b"]}, "logprobs must be a list of numbers"),
    "surrogate": ({**GOOD, "continuation": "\ud800"}, "line 2: continuation holds half of a surrogate pair"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lines_give_one_line_and_leave_nothing(world, case):
    line, message = BAD[case]
    file = write(world, GOOD)
    file.write_text(file.read_text() + (line if isinstance(line, str) else json.dumps(line)) + "\n")
    before = contents(world)
    with pytest.raises(MemindexError, match=re.escape(message)) as error:
        run(world, "import", "jsonl", file, "--model-id", "m")
    assert "\n" not in str(error.value)
    assert contents(world) == before


def test_sequences_that_the_study_has_not(world):
    for line, message in (
        ({"sequence_id": 30, "continuation": [1]}, "the study has no sequence 30"),
        ({"sequence_id": 1, "prefix": [1, 2], "continuation": [1]}, "its prefix is not that of sequence 1"),
    ):
        with pytest.raises(MemindexError, match=message):
            imported(world, line)
    (world / "bytes.jsonl").write_bytes(b'{"continuation": "\xff"}\n')
    with pytest.raises(MemindexError, match="not UTF-8"):
        run(world, "import", "jsonl", world / "bytes.jsonl", "--model-id", "m")
    with pytest.raises(MemindexError, match="holds no line"):
        imported(world)


def test_comparing_ragged_rows_is_comparing_each(tmp_path):
    random = np.random.default_rng(0)
    suffixes = [random.integers(0, 3, random.integers(1, 12)).tolist() for _ in range(300)]
    made = [random.integers(0, 3, random.integers(0, 15)).tolist() for _ in range(300)]
    got = compared(from_lists(suffixes), from_lists(made))
    for row, (suffix, ids) in enumerate(zip(suffixes, made, strict=True)):
        cut = ids[: len(suffix)]
        equal = [i < len(cut) and cut[i] == suffix[i] for i in range(len(suffix))]
        assert got["continuation"].row(row).tolist() == cut
        assert got["score"][row] == np.float32(sum(equal) / len(suffix))
        assert got["matched"][row] == (equal.index(False) if False in equal else len(suffix))
        if cut:
            assert got["edit_distance"][row] == edit_distance(np.array([cut]), np.array([suffix]))[0]
            assert got["bleu"][row] == bleu(np.array([cut]), np.array([suffix]))[0]
            assert got["bleu"][row] == np.float32(sentence_bleu(cut, suffix))


def sentence_bleu(made, suffix):
    """Papineni et al. (2002) from its formula, with as many orders as the suffix (and the hypothesis) allows."""
    logs, orders = 0.0, 0
    for n in range(1, 5):
        grams = [tuple(made[i : i + n]) for i in range(len(made) - n + 1)]
        if not grams and len(suffix) < 4:
            break
        true = [tuple(suffix[i : i + n]) for i in range(len(suffix) - n + 1)]
        hits = sum(min(grams.count(g), true.count(g)) for g in set(grams))
        if not hits:
            return 0.0
        logs, orders = logs + np.log(hits / len(grams)), orders + 1
    brevity = min(0.0, 1 - len(suffix) / len(made))
    return float(np.exp(logs / orders + brevity))


NUMBERS = {
    "seed": (("--seed", 1 << 63), "--seed must be between 0 and 2^63 - 1"),
    "top_k": (("--top-k", 1 << 31), "--top-k must be between 0 and 2^31 - 1"),
    "parameters": (("--parameters", 1 << 63), "--parameters must be between"),
    "temperature": (("--temperature", "inf"), "--temperature must be above 0 and finite"),
    "no temperature": (("--temperature", "nan"), "--temperature must be above 0 and finite"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_that_no_table_holds_leave_nothing(world, case):
    options, message = NUMBERS[case]
    before = contents(world)
    with pytest.raises(MemindexError, match=re.escape(message)):
        imported(world, GOOD, options=("--model-id", "m", "--decoding", "sampled", *options))
    assert contents(world) == before


def test_another_tokenizer_is_another_import(world, tmp_path):
    train_bpe(tmp_path / "other.json")
    line = {"prefix": "abab", "suffix": "abab", "continuation": "abab"}
    imported(world, line, options=("--model-id", "m", "--no-lookup"))
    with pytest.raises(MemindexError, match="from other files or settings"):
        imported(world, line, options=("--model-id", "m", "--no-lookup", "--tokenizer", tmp_path / "other.json"))
