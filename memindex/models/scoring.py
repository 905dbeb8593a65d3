"""Exact greedy scoring of sequences: one teacher-forced pass, then only what it leaves open is decoded.

A forward pass over prefix + suffix gives, at every suffix position, the argmax and the log-probability of
the true token. Up to and including the first mismatch the argmaxes ARE the greedy continuation, because the
model has read nothing but true tokens there; a memorized sequence therefore costs one pass. The rest is
decoded in `decoding`, from the keys and values that the pass has left.

The result is that of step-by-step greedy generation of `suffix_length` tokens with the end-of-document id
treated as a token like any other (a continuation is compared position by position, so it must not end
early). In float32 the two agree token for token; in half precision near-ties may flip, which is why a run
records its dtype and batch size.
"""

from __future__ import annotations

import warnings
from typing import Any

import memindex.models.torch_setup  # noqa: F401

import numpy as np
import numpy.typing as npt
import torch
from torch._dynamo.exc import TorchDynamoException

from memindex.errors import MemindexError
from memindex.models.decoding import Lengths
from memindex.models.engine import Engine, choose_engine
from memindex.models.loading import LoadedModel
from memindex.models.sampling import GREEDY, Decoding
from memindex.models.scores import Columns, Part, Progress, Scores
from memindex.models.slot_engine import READ_ROWS

__all__ = ["Decoding", "Scorer", "Scores", "score_sequences"]


class Scorer:
    """Scores sequences of one shape with one model; made once and used for many batches.

    Args:
        loaded: The model.
        prefix_length: Tokens given to the model.
        suffix_length: Tokens compared.
        decoding: How continuations are chosen; greedy by default.
        batch_size: Rows per forward pass; None chooses by the free memory. On a GPU it is halved when memory runs out.
        compiled: Whether torch.compile prepares the model's layers (GPU only); None does so for models and numbers of
            sequences where that pays.
        rows: Most sequences that `score` will get at a time; None takes those of the first call.

    Attributes:
        batch_size: Rows per forward pass, the smallest so far; None before the first.
        compiled: Whether the layers were compiled.

    Raises:
        MemindexError: Lengths below 1 or beyond the model's context, or a batch size below 1.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prefix_length: int,
        suffix_length: int,
        *,
        decoding: Decoding = GREEDY,
        batch_size: int | None = None,
        compiled: bool | None = None,
        rows: int | None = None,
    ) -> None:
        if min(prefix_length, suffix_length) < 1:
            raise MemindexError("there is nothing to score: prefix and suffix have at least one token each")
        if batch_size is not None and batch_size < 1:
            raise MemindexError(f"batch_size must be 1 or more, got {batch_size}")
        length, context = prefix_length + suffix_length, loaded.facts["context"]
        if context is not None and length > context:
            raise MemindexError(f"prefix + suffix are {length} tokens, {loaded.model_id} reads at most {context}")
        self.loaded, self.prefix_length, self.suffix_length = loaded, prefix_length, suffix_length
        self.decoding = decoding
        self._wanted, self._compile, self._rows = batch_size, compiled, rows or 1
        self._engine: Engine | None = None
        self.batch_size: int | None = None

    @property
    def compiled(self) -> bool:
        """Whether the model's layers were compiled."""
        return self._engine is not None and self._engine.compiled

    def score(
        self,
        prefixes: npt.NDArray[Any],
        suffixes: npt.NDArray[Any],
        sequence_ids: npt.NDArray[Any] | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """Score sequences by the continuation of their prefixes.

        Args:
            prefixes: Ids given to the model, integers of shape (rows, prefix_length).
            suffixes: Ids that follow in the corpus, integers of shape (rows, suffix_length).
            sequence_ids: int64 (rows,), what sampling is seeded with beside the seed; None numbers the rows.
            progress: Called after every batch.

        Raises:
            MemindexError: Shapes that don't fit each other or the scorer, ids outside the model's vocabulary, no rows,
                NaN logits, or a GPU too small for one row.
        """
        self._check(prefixes, suffixes)
        rows = len(suffixes)
        ids = np.arange(rows) if sequence_ids is None else np.asarray(sequence_ids, dtype=np.int64)
        if ids.shape != (rows,):
            raise MemindexError(f"{rows} sequences need an id each, sequence_ids have shape {ids.shape}")
        tokens = np.concatenate([prefixes, suffixes], axis=1).astype(np.int64)
        columns = Columns(rows, tokens.shape[1], self.suffix_length)
        while not columns.done.all():
            left = np.flatnonzero(~columns.done)
            try:
                self._ready(len(left)).run(tokens[left], ids[left], Part(columns, left, progress))
            except torch.OutOfMemoryError:
                self._shrink(len(left))
            except TorchDynamoException as error:
                self._do_without_compiling(error)
        return columns.scores(suffixes, self.batch_size or 1)

    def _ready(self, rows: int) -> Engine:
        if self._engine is None:
            lengths = Lengths(self.prefix_length, self.suffix_length)
            most = max(rows, self._rows)
            self._engine = choose_engine(self.loaded, lengths, self.decoding, most, self._wanted, self._compile)
        size = min(self._engine.batch_size, rows)
        self.batch_size = size if self.batch_size is None else max(size, self.batch_size)
        return self._engine

    def _shrink(self, rows: int) -> None:
        """Halve the rows from now on; what is scored stays so. Nothing may keep the engine, its slots are large."""
        # Without an engine, memory ran out while one was made.
        tried = min(self._wanted or READ_ROWS, rows) if self._engine is None else self._engine.batch_size
        if tried == 1:
            raise MemindexError("the GPU has too little memory for one sequence; use --dtype bfloat16") from None
        self._wanted = self.batch_size = tried // 2
        self.close()
        torch.cuda.empty_cache()

    def _do_without_compiling(self, error: TorchDynamoException) -> None:
        """Go on with the layers as they are: torch.compile needs a C compiler, and not every machine has one."""
        if not self.compiled:
            raise error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(f"torch.compile failed, so scoring goes on without it: {reason[0]}", stacklevel=4)
        self._compile = False
        self.close()

    def close(self) -> None:
        """Free what scoring needs beside the model."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _check(self, prefixes: npt.NDArray[Any], suffixes: npt.NDArray[Any]) -> None:
        for name, ids, length in (
            ("prefixes", prefixes, self.prefix_length),
            ("suffixes", suffixes, self.suffix_length),
        ):
            if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
                raise MemindexError(f"{name} must be integers of shape (rows, length), got {ids.dtype} {ids.shape}")
            if ids.size == 0:
                raise MemindexError(f"there is nothing to score: {name} has shape {ids.shape}")
            if ids.shape[1] != length:
                raise MemindexError(f"{name} have {ids.shape[1]} tokens, the scorer was made for {length}")
            vocabulary = self.loaded.facts["vocabulary"]
            if ids.min() < 0 or ids.max() >= vocabulary:
                wrong = ids.min() if ids.min() < 0 else ids.max()
                raise MemindexError(
                    f"{name} hold token id {wrong}, {self.loaded.model_id} knows 0 to {vocabulary - 1}; "
                    "use sequences of an index with the model's tokenizer"
                )
        if len(prefixes) != len(suffixes):
            raise MemindexError(f"{len(prefixes)} prefixes do not pair with {len(suffixes)} suffixes")


def score_sequences(
    loaded: LoadedModel,
    prefixes: npt.NDArray[Any],
    suffixes: npt.NDArray[Any],
    batch_size: int | None = None,
    progress: Progress | None = None,
    *,
    decoding: Decoding = GREEDY,
    sequence_ids: npt.NDArray[Any] | None = None,
    compiled: bool | None = None,
) -> Scores:
    """Score sequences in one go: `Scorer` and its `score`, whose arguments and errors these are."""
    lengths = [ids.shape[1] if ids.ndim == 2 else 1 for ids in (prefixes, suffixes)]
    if min(lengths) < 1:
        raise MemindexError(f"there is nothing to score: shapes {prefixes.shape} and {suffixes.shape}")
    scorer = Scorer(loaded, *lengths, decoding=decoding, batch_size=batch_size, compiled=compiled)
    try:
        return scorer.score(prefixes, suffixes, sequence_ids, progress)
    finally:
        scorer.close()
