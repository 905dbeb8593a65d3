"""How near a continuation comes to its suffix when it is not the same: edit distance and BLEU, over token ids.

Approximate memorization is a BLEU above 0.75 (Ippolito et al. 2023, arXiv 2210.17546) or an edit distance of at
most a tenth of the length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def edit_distance(continuation: npt.NDArray[Any], suffix: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Levenshtein distance of each row, int32 (rows,): tokens to insert, delete or replace; by rapidfuzz.

    Args:
        continuation: Ids, integers of shape (rows, length).
        suffix: Ids, integers of shape (rows, other length).
    """
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cpdist

    pairs = [_letters(ids) for ids in (continuation, suffix)]
    distances: npt.NDArray[np.int32] = cpdist(*pairs, scorer=Levenshtein.distance, dtype=np.int32, workers=-1)
    return distances


def _letters(ids: npt.NDArray[Any]) -> list[str]:
    """Each row as a text with one character per token."""
    # NumPy takes zeros at a text's end for padding, so every id moves up by one.
    letters = np.ascontiguousarray(ids + 1).astype("<u4")
    texts: list[str] = letters.view(f"<U{letters.shape[1]}")[:, 0].tolist()
    return texts


def bleu(continuation: npt.NDArray[Any], suffix: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Sentence BLEU-4 of each continuation with its suffix as the reference, float32 (rows,) in 0..1; by sacrebleu.

    Tokens are the words. Without smoothing: 0 where no four tokens in a row are right. Shorter suffixes use as many
    orders as they have tokens.

    Args:
        continuation: Ids, integers of shape (rows, length).
        suffix: Ids, integers of shape (rows, length).
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize="none", smooth_method="none", effective_order=suffix.shape[1] < 4)
    result: npt.NDArray[np.float32] = (continuation == suffix).all(axis=1).astype(np.float32)
    # Most rows are all right or share no four tokens; the library, which takes one row at a time, sees the others.
    for row in np.flatnonzero((result < 1) & _shares_a_run(continuation, suffix, min(4, suffix.shape[1]))):
        pair = [" ".join(map(str, ids.tolist())) for ids in (continuation[row], suffix[row])]
        result[row] = metric.sentence_score(pair[0], [pair[1]]).score / 100
    return result


def _shares_a_run(continuation: npt.NDArray[Any], suffix: npt.NDArray[Any], length: int) -> npt.NDArray[np.bool_]:
    """Whether `length` tokens in a row stand in both, anywhere; bool (rows,)."""
    equal = continuation[:, :, None] == suffix[:, None, :]
    last = equal.shape[1] - length + 1
    runs = equal[:, :last, :last].copy()
    for shift in range(1, length):
        runs &= equal[:, shift : shift + last, shift : shift + last]
    found: npt.NDArray[np.bool_] = runs.any(axis=(1, 2))
    return found
