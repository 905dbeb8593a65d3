"""Result columns of imported rows: computed from the ids where there are any, else what a score by itself tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.errors import MemindexError
from memindex.ragged import Ragged, to_arrow
from memindex.study.similarity import bleu, edit_distance

#: Rows compared at a time: BLEU looks at every pair of positions.
_SLICE = 8192

#: Far more than rounding of a score does, far less than a step from one score to the next.
_NEAR = 1e-3


def compared(suffix: Ragged, continuation: Ragged) -> dict[str, Any]:
    """The columns of continuations that ids determine.

    A continuation that is longer than its suffix is cut; in a shorter one the missing positions are wrong.

    Returns:
        score, matched, memorized, edit_distance and bleu, each of shape (rows,), and the cut continuation.
    """
    lengths, generated = suffix.lengths(), np.minimum(continuation.lengths(), suffix.lengths())
    score, near = (np.zeros(suffix.rows, dtype=np.float32) for _ in range(2))
    matched, distance = (np.zeros(suffix.rows, dtype=np.int32) for _ in range(2))
    for length, width in np.unique(np.stack([lengths, generated], axis=1), axis=0).tolist():
        group = np.flatnonzero((lengths == length) & (generated == width))
        for start in range(0, len(group), _SLICE):
            rows = group[start : start + _SLICE]
            right, made = _matrix(suffix, rows, length), _matrix(continuation, rows, width)
            equal = np.zeros(right.shape, dtype=bool)
            equal[:, :width] = right[:, :width] == made
            score[rows] = equal.mean(axis=1, dtype=np.float64)
            matched[rows] = np.cumprod(equal, axis=1).sum(axis=1)
            distance[rows] = edit_distance(made, right) if width else length
            near[rows] = bleu(made, right) if width else 0
    return {
        "score": score,
        "matched": matched,
        "memorized": matched == lengths,
        "edit_distance": distance,
        "bleu": near,
        "continuation": _cut(continuation, generated),
    }


def from_score(score: npt.NDArray[np.float64], length: int, suffix: Ragged | None) -> dict[str, Any]:
    """The columns of continuations that a score tells: all of a memorized sequence, the score alone of others.

    Args:
        score: Share of suffix positions that were right, checked by `check_score`; float64 (rows,).
        length: Tokens of the suffix.
        suffix: The suffixes, where they are known.
    """
    right = np.round(score * length).astype(np.int64)
    whole = right == length
    continuation: Any = pa.nulls(len(score), pa.list_(pa.int32()))
    if suffix is not None:
        continuation = _kept(suffix, whole)
    return {
        "score": (right / length).astype(np.float32),
        "matched": pa.array(np.where(whole, length, 0).astype(np.int32), mask=~whole & (right > 0)),
        "memorized": whole,
        "edit_distance": pa.array(np.zeros(len(score), dtype=np.int32), mask=~whole),
        "bleu": pa.array(np.ones(len(score), dtype=np.float32), mask=~whole),
        "continuation": continuation,
    }


def check_score(score: npt.NDArray[np.float64], length: int, where: str) -> None:
    """Refuse what is no share of `length` positions."""
    wrong = ~((score >= 0) & (score <= 1))
    if wrong.any():
        raise MemindexError(f"{where}: a score is {score[np.flatnonzero(wrong)[0]]:g}, it must lie in 0..1")
    uneven = np.abs(score * length - np.round(score * length)) > _NEAR
    if uneven.any():
        value = score[np.flatnonzero(uneven)[0]]
        raise MemindexError(
            f"{where}: the score {value:.9g} is no share of {length} positions: "
            "is the suffix of another length (--suffix), or a line cut off?"
        )


def token_lists(ragged: Ragged | None, rows: int) -> pa.Array:
    """A token column; all NULL when the tokens are not known."""
    return pa.nulls(rows, pa.list_(pa.int32())) if ragged is None else to_arrow(ragged)


def _matrix(ragged: Ragged, rows: npt.NDArray[np.intp], length: int) -> npt.NDArray[Any]:
    """The first `length` ids of rows that have so many."""
    ids: npt.NDArray[Any] = ragged.values[ragged.offsets[rows][:, None] + np.arange(length)]
    return ids


def _cut(ragged: Ragged, lengths: npt.NDArray[np.int64]) -> Ragged:
    place = np.arange(len(ragged.values)) - np.repeat(ragged.offsets[:-1], ragged.lengths())
    kept = place < np.repeat(lengths, ragged.lengths())
    return Ragged(ragged.values[kept], np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def _kept(ragged: Ragged, rows: npt.NDArray[np.bool_]) -> pa.Array:
    """A token column of the rows asked for, NULL in the others."""
    lists = token_lists(ragged, ragged.rows)
    return lists.take(pa.array(np.arange(ragged.rows), mask=~rows))
