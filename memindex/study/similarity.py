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

#: Rows whose BLEU is taken at once.
_ROWS = 1 << 13


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
    """Sentence BLEU-4 of each continuation with its suffix as the reference, float32 (rows,) in 0..1.

    The figure of sacrebleu with tokens for words and without smoothing (Papineni et al. 2002): 0 where no four tokens
    in a row are right. Shorter suffixes use as many orders as they have tokens.

    Args:
        continuation: Ids, integers of shape (rows, length).
        suffix: Ids, integers of shape (rows, other length).
    """
    result = np.zeros(len(suffix), dtype=np.float32)
    if continuation.shape == suffix.shape:
        result[(continuation == suffix).all(axis=1)] = 1
    order = 4 if suffix.shape[1] >= 4 else min(suffix.shape[1], continuation.shape[1])
    # Most rows are all right or share no four tokens.
    unequal = np.flatnonzero(result < 1)
    rows = unequal[_share_a_run(continuation[unequal], suffix[unequal], order)]
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        result[some] = _bleu(continuation[some], suffix[some])
    return result


def _bleu(continuation: npt.NDArray[Any], suffix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The figure of rows that may share n-grams of any order; float64 (rows,)."""
    length = continuation.shape[1]
    orders = np.arange(1, min(4, length) + 1)
    with np.errstate(divide="ignore"):
        shares = np.log(_shared(continuation, suffix, len(orders)) / (length - orders + 1)[:, None])
    penalty = np.exp(min(0.0, 1 - suffix.shape[1] / length))
    found: npt.NDArray[np.float64] = penalty * np.exp(shares.mean(axis=0))
    return found


def _shared(one: npt.NDArray[Any], other: npt.NDArray[Any], orders: int) -> npt.NDArray[np.int64]:
    """N-grams that two rows have in common, each as often as it is in both; int64 (orders, rows), from n = 1 on."""
    width = one.shape[1] + other.shape[1]
    ids = grams = _small_ids(one, other)
    found = []
    for n in range(1, orders + 1):
        if n > 1:
            # An n-gram is the one before and a token more.
            longer = (before[:, :-1] * width + part[:, n - 1 :] for before, part in zip(grams, ids, strict=True))
            grams = _small_ids(*longer)
        both = np.sort(np.concatenate([_numbered(part, width) for part in grams], axis=1), axis=1)
        found.append((both[:, 1:] == both[:, :-1]).sum(axis=1))
    return np.array(found)


def _small_ids(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The same rows with the ids of each pair of them numbered from 0, so that small numbers stand for all."""
    ids = np.concatenate([one, other], axis=1)
    order = np.argsort(ids, axis=1)
    ordered = np.take_along_axis(ids, order, axis=1)
    new = np.zeros(ids.shape, dtype=np.int64)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    small = np.empty(ids.shape, dtype=np.int64)
    np.put_along_axis(small, order, np.cumsum(new, axis=1), axis=1)
    return small[:, : one.shape[1]], small[:, one.shape[1] :]


def _numbered(ids: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Each row sorted, equal ids told apart by how many of them came before, of which there are fewer than `most`."""
    ordered, places = np.sort(ids, axis=1), np.arange(ids.shape[1])
    begins = np.zeros(ordered.shape, dtype=np.int64)
    begins[:, 1:] = np.where(ordered[:, 1:] != ordered[:, :-1], places[1:], 0)
    return ordered * most + places - np.maximum.accumulate(begins, axis=1)


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
