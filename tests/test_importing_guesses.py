"""Importing the LM extraction benchmark: trials, losses, guesses, and files that are not what they should be."""

from __future__ import annotations

import re

import numpy as np
import pytest
from importing_world import PREFIX, SUFFIX, contents, make_world, rows, run, store, windows

from memindex.errors import MemindexError
from memindex.importers.identity import base_of

ROWS = 10
BASE = base_of("lm-extraction train")


@pytest.fixture
def world(tmp_path):
    make_world(tmp_path)
    ids = windows(tmp_path, ROWS).astype("<u2")
    np.save(tmp_path / "train_prefix.npy", ids[:, :PREFIX])
    np.save(tmp_path / "train_suffix.npy", ids[:, PREFIX:])
    return tmp_path


def benchmark(world):
    return ["--prefix-file", world / "train_prefix.npy", "--suffix-file", world / "train_suffix.npy",
            "--model-id", "gpt-neo", "--decoding", "sampled", "--top-k", 10]  # fmt: skip


def suffixes(world):
    return np.load(world / "train_suffix.npy").astype(np.int64)


def guesses(world, seed):
    """Guesses of shape (rows, suffix): some right, some wrong in one place, some all wrong."""
    made = suffixes(world)
    random = np.random.default_rng(seed)
    for row in range(len(made)):
        made[row, : random.integers(0, SUFFIX + 1)] = 1
    return made


def check(made, expected, true):
    """Result columns against counting by hand."""
    assert len(made) == len(expected)
    for row, guess, suffix in zip(made, expected.tolist(), true.tolist(), strict=True):
        equal = [a == b for a, b in zip(guess, suffix, strict=True)]
        assert row["continuation"] == guess
        assert row["score"] == sum(equal) / SUFFIX
        assert row["memorized"] == all(equal)
        assert row["matched"] == (equal.index(False) if False in equal else SUFFIX)
        assert row["edit_distance"] == levenshtein(guess, suffix)


def levenshtein(a, b):
    before = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
        before = row
    return before[-1]


def test_generations_with_and_without_the_prompt_are_the_same(world):
    made = guesses(world, 0)
    np.save(world / "short.npy", made)
    np.save(world / "long.npy", np.concatenate([np.load(world / "train_prefix.npy").astype(np.int64), made], axis=1))
    run(world, "import", "lm-extraction", world / "short.npy", *benchmark(world))
    check(rows(world, "continuations"), made, suffixes(world))
    assert [row["sequence_id"] for row in rows(world, "sequences")] == list(range(BASE, BASE + ROWS))
    (one,) = store(world).read("runs").to_pylist()
    assert (one["run_id"], one["decoding"], one["top_k"]) == ("gpt-neo lm-extraction train", "sampled", 10)
    run(world, "import", "lm-extraction", world / "long.npy", *benchmark(world), "--model-id", "again")
    columns = [(r["run_id"], r["sequence_id"], r["continuation"], r["bleu"]) for r in rows(world, "continuations")]
    first, again = ([row[1:] for row in columns if row[0].startswith(model)] for model in ("gpt-neo", "again"))
    assert len(first) == ROWS
    assert first == again
    assert len(rows(world, "sequences")) == ROWS


def test_trials_are_runs_or_the_best_of_them(world):
    trials = [guesses(world, seed) for seed in range(3)]
    losses = np.random.default_rng(3).random((3, ROWS, 1)).astype(np.float32)
    for number in range(3):
        np.save(world / f"{number}.npy", trials[number])
        np.save(world / f"loss{number}.npy", losses[number])
    np.save(world / "stacked.npy", np.stack(trials, axis=1))
    files = [world / f"{number}.npy" for number in range(3)]
    run(world, "import", "lm-extraction", *files, *benchmark(world))
    run(world, "import", "lm-extraction", world / "stacked.npy", *benchmark(world), "--model-id", "stacked")
    for number in range(3):
        for run_id in (
            f"gpt-neo lm-extraction train trial {number}",
            f"stacked lm-extraction train trial stacked.{number}",
        ):
            check([r for r in rows(world, "continuations") if r["run_id"] == run_id], trials[number], suffixes(world))
    options = [word for number in range(3) for word in ("--losses", world / f"loss{number}.npy")]
    run(world, "import", "lm-extraction", *files, *benchmark(world), *options)
    best = np.array([trials[losses[:, row, 0].argmin()][row] for row in range(ROWS)])
    check(
        [r for r in rows(world, "continuations") if r["run_id"] == "gpt-neo lm-extraction train"], best, suffixes(world)
    )


def test_guesses_for_the_last_rows(world):
    made = guesses(world, 1)[-4:]
    np.save(world / "0.npy", made)
    with pytest.raises(MemindexError, match=r"10 rows of 4 or 10 tokens are expected.*--last"):
        run(world, "import", "lm-extraction", world / "0.npy", *benchmark(world))
    run(world, "import", "lm-extraction", world / "0.npy", *benchmark(world), "--last", 4)
    check(rows(world, "continuations"), made, suffixes(world)[-4:])
    assert [row["sequence_id"] - BASE for row in rows(world, "continuations")] == [6, 7, 8, 9]
    prompts = np.load(world / "train_prefix.npy")[:4].astype(np.int64)
    np.save(world / "wrong.npy", np.concatenate([prompts, made], axis=1))
    with pytest.raises(MemindexError, match="start with other prefixes"):
        run(world, "import", "lm-extraction", world / "wrong.npy", *benchmark(world), "--last", 4, "--model-id", "x")


@pytest.mark.parametrize("form", [lambda row: str(row).replace(" ", ""), lambda row: str([np.int64(i) for i in row])])
def test_a_csv_of_guesses_takes_the_most_confident_one(world, form, capsys):
    made = guesses(world, 2)
    lines = [(7, made[7]), (2, made[2]), (7, made[0]), (9, made[9]), (2, made[9])]
    text = "".join(f'{row},"{form(guess.tolist())}"\n' for row, guess in lines)
    (world / "guess1.csv").write_text("Example ID,Suffix Guess\n" + text)
    run(world, "import", "lm-extraction", world / "guess1.csv", *benchmark(world))
    assert "3 of 10 rows have a guess" in capsys.readouterr().err
    check(rows(world, "continuations"), made[[2, 7, 9]], suffixes(world)[[2, 7, 9]])


def test_a_npy_that_is_cut_off(world):
    np.save(world / "0.npy", guesses(world, 0))
    data = (world / "0.npy").read_bytes()
    before = contents(world)
    for size in (0, 5, 100, len(data) - 1):
        (world / "cut.npy").write_bytes(data[:size])
        with pytest.raises(MemindexError, match="not a whole"):
            run(world, "import", "lm-extraction", world / "cut.npy", *benchmark(world))
    assert contents(world) == before


def header(text):
    return b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(117).encode() + b"\n"


@pytest.mark.parametrize(
    "data",
    [
        header("{((("),
        header("if\n  x\n y"),
        header("{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999999999, 4)}"),
        header("{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999, 4)}"),
    ],
)
def test_a_npy_with_a_spoilt_header(world, data):
    (world / "bad.npy").write_bytes(data)
    with pytest.raises(MemindexError, match="not a whole"):
        run(world, "import", "lm-extraction", world / "bad.npy", *benchmark(world))


def test_an_archive_is_no_npy(world):
    np.savez(world / "0.npz", guesses(world, 0))
    with pytest.raises(MemindexError, match="not a whole"):
        run(world, "import", "lm-extraction", world / "0.npz", *benchmark(world))


BAD = {
    "floats": (np.zeros((ROWS, SUFFIX)), "wanted are ids"),
    "objects": (np.array([[None] * SUFFIX] * ROWS, dtype=object), "not a whole .npy file"),
    "ragged": (np.zeros((ROWS, SUFFIX + 1), dtype=int), "10 rows of 4 or 10 tokens are expected"),
    "negative": (np.full((ROWS, SUFFIX), -1), "token id -1 is none"),
    "huge": (np.full((ROWS, SUFFIX), 1 << 40), "is none of any vocabulary"),
}


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_are_no_guesses(world, case):
    array, message = BAD[case]
    np.save(world / "bad.npy", array, allow_pickle=True)
    before = contents(world)
    with pytest.raises(MemindexError, match=re.escape(message)):
        run(world, "import", "lm-extraction", world / "bad.npy", *benchmark(world))
    assert contents(world) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no CSV of the columns Example ID, Suffix Guess"),
        ('Example ID,Suffix Guess\n1,"[1,2,3]"\n', "another length than the suffixes, 4 tokens"),
        ('Example ID,Suffix Guess\n10,"[1,2,3,4]"\n', "Example ID 10: 10 rows were attacked"),
        ('Example ID,Suffix Guess\n-1,"[1,2,3,4]"\n', "Example ID -1"),
        ('Example ID,Suffix Guess\nx,"[1,2,3,4]"\n', "invalid value 'x'"),
        ('Example ID,Suffix Guess\n1,"[4294967297,2,3,4]"\n', "token id 4294967297 is none of any vocabulary"),
        ("Example ID,Suffix Guess\n1,\n", "a list of tokens is not one"),
        ("Example ID,Suffix Guess\n", "holds no guess"),
    ],
)
def test_csv_that_is_no_list_of_guesses(world, text, message):
    (world / "guess.csv").write_text(text)
    before = contents(world)
    with pytest.raises(MemindexError, match=re.escape(message)):
        run(world, "import", "lm-extraction", world / "guess.csv", *benchmark(world))
    assert contents(world) == before


def test_losses_and_suffixes_that_do_not_fit(world):
    np.save(world / "0.npy", guesses(world, 0))
    np.save(world / "loss.npy", np.full((ROWS, 1), np.nan))
    with pytest.raises(MemindexError, match="a loss is NaN"):
        run(world, "import", "lm-extraction", world / "0.npy", *benchmark(world), "--losses", world / "loss.npy")
    np.save(world / "loss.npy", np.float64(1))
    with pytest.raises(MemindexError, match=f"wanted is a loss for {ROWS} rows"):
        run(world, "import", "lm-extraction", world / "0.npy", *benchmark(world), "--losses", world / "loss.npy")
    np.save(world / "loss.npy", np.zeros((ROWS, 2)))
    with pytest.raises(MemindexError, match="2 losses a row do not pair with 1 trial"):
        run(world, "import", "lm-extraction", world / "0.npy", *benchmark(world), "--losses", world / "loss.npy")
    np.save(world / "train_suffix.npy", suffixes(world)[1:])
    with pytest.raises(MemindexError, match="they do not belong together"):
        run(world, "import", "lm-extraction", world / "0.npy", *benchmark(world))
    with pytest.raises(MemindexError, match="no such file"):
        run(world, "import", "lm-extraction", world / "1.npy", *benchmark(world))
