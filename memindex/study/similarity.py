"""How near a continuation comes to its suffix when it is not the same: edit distance and BLEU, over token ids.

Approximate memorization is a BLEU above 0.75 (Ippolito et al. 2023, arXiv 2210.17546) or an edit distance of at
most a tenth of the length.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

#: Pairs of positions that are compared at once: 1 byte each, and small enough to stay in the processor's cache.
_CELLS = 1 << 20


def edit_distance(continuation: npt.NDArray[Any], suffix: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Levenshtein distance of each row, int32 (rows,): tokens to insert, delete or replace; by rapidfuzz.

    Args:
        continuation: Ids, integers of shape (rows, length).
        suffix: Ids, integers of shape (rows, other length).
    """
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cpdist

    if max(continuation.max(initial=0), suffix.max(initial=0)) >= sys.maxunicode:
        continuation, suffix = _renumbered(continuation, suffix)
    pairs = _letters(continuation), _letters(suffix)
    distances: npt.NDArray[np.int32] = cpdist(*pairs, scorer=Levenshtein.distance, dtype=np.int32, workers=-1)
    return distances


def _renumbered(*ids: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The same arrays with small ids for large ones: there are only 1.1 million characters."""
    _, small = np.unique(np.concatenate([part.reshape(-1) for part in ids]), return_inverse=True)
    ends = np.cumsum([part.size for part in ids])[:-1]
    return [part.reshape(like.shape) for part, like in zip(np.split(small, ends), ids, strict=True)]


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
        suffix: Ids, integers of shape (rows, other length).
    """
    from sacrebleu.metrics.bleu import BLEU

    # Where all orders match, as below, effective_order changes only those of short suffixes; without it the library
    # writes a line of advice for every row.
    metric = BLEU(tokenize="none", smooth_method="none", effective_order=True)
    result = np.zeros(len(suffix), dtype=np.float32)
    if continuation.shape == suffix.shape:
        result[(continuation == suffix).all(axis=1)] = 1
    order = 4 if suffix.shape[1] >= 4 else min(suffix.shape[1], continuation.shape[1])
    # Most rows are all right or share no four tokens; the library, which takes one row at a time, sees the others.
    unequal = np.flatnonzero(result < 1)
    shared = _share_a_run(continuation[unequal], suffix[unequal], order)
    for row in unequal[shared]:
        pair = [" ".join(map(str, ids.tolist())) for ids in (continuation[row], suffix[row])]
        # A corpus of one sentence: the same figure as sentence_score's, which logs a line of advice for every row.
        result[row] = metric.corpus_score([pair[0]], [[pair[1]]]).score / 100
    return result


def _share_a_run(continuation: npt.NDArray[Any], suffix: npt.NDArray[Any], length: int) -> npt.NDArray[np.bool_]:
    """Whether `length` tokens in a row stand in both, anywhere; bool (rows,)."""
    found = np.zeros(len(suffix), dtype=np.bool_)
    at_once = max(1, _CELLS // (continuation.shape[1] * suffix.shape[1]))
    for start in range(0, len(suffix), at_once):
        part = slice(start, start + at_once)
        equal = continuation[part, :, None] == suffix[part, None, :]
        first, second = (max(size - length + 1, 0) for size in equal.shape[1:])
        runs = equal[:, :first, :second].copy()
        for shift in range(1, length):
            runs &= equal[:, shift : shift + first, shift : shift + second]
        found[part] = runs.any(axis=(1, 2))
    return found
