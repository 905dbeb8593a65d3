"""The columns that scoring fills, and how they come in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import memindex.models.torch_setup  # noqa: F401

import numpy as np
import numpy.typing as npt
import torch

from memindex.models.reading import Reading

#: Called with (sequences scored, sequences in all).
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scores:
    """What a model did with a batch of sequences, in input order.

    Attributes:
        score: float32 (rows,), share of suffix positions where continuation equals suffix.
        matched: int32 (rows,), continuation tokens equal to the suffix before the first mismatch.
        memorized: bool (rows,), the whole suffix was generated.
        suffix_logprob: float32 (rows,), log-probability of the suffix given the prefix; nats.
        suffix_logprob_top40: float32 (rows,), the same when each token is drawn from the 40 likeliest; -inf when one
            is not among them.
        prefix_logprob: float32 (rows,), log-probability of the prefix after its first token; nats, 0 for one token.
        token_logprobs: float32 (rows, suffix_length), that of each suffix token, teacher-forced; nats.
        token_ranks: int32 (rows, suffix_length), tokens that were likelier than each suffix token; 0
            where that was generated.
        continuation: int32 (rows, suffix_length), the ids generated after the prefix.
        batch_size: Rows per forward pass (the smallest used, when memory forced it down).
    """

    score: npt.NDArray[np.float32]
    matched: npt.NDArray[np.int32]
    memorized: npt.NDArray[np.bool_]
    suffix_logprob: npt.NDArray[np.float32]
    suffix_logprob_top40: npt.NDArray[np.float32]
    prefix_logprob: npt.NDArray[np.float32]
    token_logprobs: npt.NDArray[np.float32]
    token_ranks: npt.NDArray[np.int32]
    continuation: npt.NDArray[np.int32]
    batch_size: int


class Columns:
    """The results of all rows while they come in."""

    def __init__(self, rows: int, tokens: int, suffix: int) -> None:
        self.logprobs = np.empty((rows, tokens - 1), dtype=np.float32)
        self.top = np.empty(rows, dtype=np.float32)
        self.ranks = np.empty((rows, suffix), dtype=np.int32)
        self.continuation = np.empty((rows, suffix), dtype=np.int32)
        self.done = np.zeros(rows, dtype=bool)

    def scores(self, suffixes: npt.NDArray[Any], batch_size: int) -> Scores:
        """What follows from them, with the true suffixes."""
        equal = self.continuation == suffixes
        prefix, logprobs = np.split(self.logprobs, [self.logprobs.shape[1] - suffixes.shape[1]], axis=1)
        return Scores(
            score=equal.mean(axis=1, dtype=np.float64).astype(np.float32),
            matched=np.cumprod(equal, axis=1).sum(axis=1).astype(np.int32),
            memorized=equal.all(axis=1),
            suffix_logprob=logprobs.sum(axis=1, dtype=np.float64).astype(np.float32),
            suffix_logprob_top40=self.top,
            prefix_logprob=prefix.sum(axis=1, dtype=np.float64).astype(np.float32),
            token_logprobs=np.ascontiguousarray(logprobs),
            token_ranks=self.ranks,
            continuation=self.continuation,
            batch_size=batch_size,
        )


class Part:
    """Where an engine leaves the results of the rows it was given."""

    def __init__(self, columns: Columns, rows: npt.NDArray[Any], progress: Progress | None) -> None:
        self._columns, self._rows, self._progress = columns, rows, progress

    def read(self, where: npt.NDArray[Any], reading: Reading) -> None:
        """What teacher forcing says about these rows."""
        rows = self._rows[where]
        self._columns.logprobs[rows] = reading.logprobs.cpu().numpy()
        self._columns.top[rows] = reading.top_logprobs.double().sum(dim=1).float().cpu().numpy()
        self._columns.ranks[rows] = reading.ranks.cpu().numpy()

    def finish(self, where: npt.NDArray[Any], continuation: torch.Tensor) -> None:
        """The continuations of these rows: they are done."""
        rows = self._rows[where]
        self._columns.continuation[rows] = continuation.to(torch.int32).cpu().numpy()
        self._columns.done[rows] = True
        if self._progress is not None:
            self._progress(int(self._columns.done.sum()), len(self._columns.done))
