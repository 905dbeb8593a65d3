"""Edit distance and BLEU against their definitions, written out in plain Python."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from memindex.study import similarity
from memindex.study.similarity import bleu, edit_distance


def levenshtein(a: list[int], b: list[int]) -> int:
    """Wagner and Fischer's table, one row at a time."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        diagonal, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            diagonal, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, diagonal + (x != y))
    return row[-1]


def bleu_4(candidate: list[int], reference: list[int]) -> float:
    """Papineni et al. 2002: geometric mean of the clipped precisions of 1- to 4-grams, for equal lengths."""
    orders = range(1, min(4, len(reference)) + 1)
    product = 1.0
    for n in orders:
        grams, known = (Counter(tuple(t[i : i + n]) for i in range(len(t) - n + 1)) for t in (candidate, reference))
        product *= sum((grams & known).values()) / sum(grams.values())
    return product ** (1 / len(orders))


def near_pairs(rows: int, lengths: tuple[int, int], ids: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that share runs of ids at the same and at shifted places, from few ids, so that n-grams repeat."""
    random = np.random.default_rng(seed)
    suffix = random.choice(ids, (rows, lengths[1]))
    continuation = random.choice(ids, (rows, lengths[0]))
    shortest = min(lengths)
    for row in range(rows):
        kept, shift = random.integers(0, shortest + 1), random.integers(0, shortest)
        run = suffix[row, shift : shift + kept]
        place = random.integers(0, lengths[0] - len(run) + 1)
        continuation[row, place : place + len(run)] = run
    return continuation.astype(np.int32), suffix.astype(np.int32)


SMALL = np.array([0, 1, 2, 3])
LARGE = np.array([0, 0xD7FF, 0xD800, 0xDFFF, 0xFFFF, 65_536, 100_277, 0x10FFFE])
HUGE = np.array([0, 5, 0x10FFFF, 0x110000, 2**31 - 1])


@pytest.mark.parametrize("ids", [SMALL, LARGE, HUGE], ids=["small", "large", "huge"])
@pytest.mark.parametrize("lengths", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (32, 32), (7, 3), (1, 9), (50, 32)])
def test_edit_distance_is_levenshteins(ids: np.ndarray, lengths: tuple[int, int]) -> None:
    continuation, suffix = near_pairs(120, lengths, ids, seed=sum(lengths))
    found = edit_distance(continuation, suffix)
    assert found.dtype == np.int32
    assert found.tolist() == [levenshtein(*pair) for pair in zip(continuation.tolist(), suffix.tolist(), strict=True)]
    assert len(set(found.tolist())) > 1


@pytest.mark.parametrize("ids", [SMALL, LARGE, HUGE], ids=["small", "large", "huge"])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 32, 50])
def test_bleu_is_papinenis(ids: np.ndarray, length: int) -> None:
    continuation, suffix = near_pairs(120, (length, length), ids, seed=length)
    found = bleu(continuation, suffix)
    expected = [bleu_4(*pair) for pair in zip(continuation.tolist(), suffix.tolist(), strict=True)]
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert len(set(expected)) > 1


def test_many_rows_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    continuation, suffix = near_pairs(50, (8, 8), SMALL, seed=3)
    expected = bleu(continuation, suffix)
    monkeypatch.setattr(similarity, "_CELLS", 200)
    monkeypatch.setattr(similarity, "_ROWS", 7)
    assert bleu(continuation, suffix).tolist() == expected.tolist()


def test_nothing_to_compare_is_no_error() -> None:
    nothing = np.empty((0, 32), np.int32)
    assert edit_distance(nothing, nothing).shape == bleu(nothing, nothing).shape == (0,)


@pytest.mark.parametrize("lengths", [(32, 32), (5, 9), (9, 5), (3, 3), (64, 10)])
def test_bleu_is_sacrebleus(lengths: tuple[int, int]) -> None:
    metric = pytest.importorskip("sacrebleu.metrics.bleu").BLEU(
        tokenize="none", smooth_method="none", effective_order=True
    )
    continuation, suffix = near_pairs(150, lengths, SMALL, seed=9)
    pairs = zip(*([" ".join(map(str, ids)) for ids in part.tolist()] for part in (continuation, suffix)), strict=True)
    expected = [metric.corpus_score([one], [[other]]).score / 100 for one, other in pairs]
    assert bleu(continuation, suffix).tolist() == pytest.approx(expected, abs=1e-6)
    assert len(set(expected)) > 1


def test_the_library_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    edit_distance(*near_pairs(30, (32, 32), SMALL, seed=1))
    assert "".join(capfd.readouterr()) == ""


def test_the_known_thresholds() -> None:
    """One wrong token of 32, at the end and in the middle."""
    suffix = np.arange(64, dtype=np.int32).reshape(2, 32)
    continuation = suffix.copy()
    continuation[0, 31] = continuation[1, 16] = 99
    assert edit_distance(continuation, suffix).tolist() == [1, 1]
    end = math.prod([31 / 32, 30 / 31, 29 / 30, 28 / 29]) ** 0.25
    middle = math.prod([31 / 32, 29 / 31, 27 / 30, 25 / 29]) ** 0.25
    assert bleu(continuation, suffix).tolist() == pytest.approx([end, middle], rel=1e-6)
