"""Exact greedy scoring of sequences: one teacher-forced pass, then only what it leaves open is decoded.

A forward pass over prefix + suffix gives, at every suffix position, the argmax and the log-probability of
the true token. Up to and including the first mismatch the argmaxes ARE the greedy continuation, because the
model has read nothing but true tokens there; a memorized sequence therefore costs one pass. The rest is
decoded in `decoding`.

The result is that of step-by-step greedy generation of `suffix_length` tokens with the end-of-document id
treated as a token like any other (a continuation is compared position by position, so it must not end
early). In float32 the two agree token for token; in half precision near-ties may flip, which is why a run
records its dtype and batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from memindex.errors import MemindexError
from memindex.models.decoding import complete, teacher_forced
from memindex.models.loading import LoadedModel

#: Called with (sequences scored, sequences in all).
Progress = Callable[[int, int], None]

#: Most rows per batch on the CPU, and most bytes of float32 logits they may have.
CPU_BATCH = 256
CPU_LOGITS = 1 << 28


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
        token_ranks: int32 (rows, suffix_length), tokens that were likelier than each suffix token.
        continuation: int32 (rows, suffix_length), the ids generated greedily after the prefix.
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


def score_sequences(
    loaded: LoadedModel,
    prefixes: npt.NDArray[Any],
    suffixes: npt.NDArray[Any],
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score sequences by greedy continuation of their prefixes.

    Args:
        loaded: The model.
        prefixes: Ids given to the model, integers of shape (rows, prefix_length).
        suffixes: Ids that follow in the corpus, integers of shape (rows, suffix_length).
        batch_size: Rows per forward pass; None chooses. On a GPU it is halved when memory runs out.
        progress: Called after every batch.

    Raises:
        MemindexError: Shapes that don't fit each other or the model's context, ids outside its vocabulary,
            no rows, NaN logits, or a GPU too small for one row.
    """
    _check(loaded, prefixes, suffixes)
    if batch_size is not None and batch_size < 1:
        raise MemindexError(f"batch_size must be 1 or more, got {batch_size}")
    rows, length = suffixes.shape
    size = batch_size or _default_batch(loaded, prefixes.shape[1], length)
    logprobs = np.empty((rows, prefixes.shape[1] + length - 1), dtype=np.float32)
    top = np.empty(rows, dtype=np.float32)
    ranks = np.empty((rows, length), dtype=np.int32)
    continuation = np.empty((rows, length), dtype=np.int32)
    begin = 0
    while begin < rows:
        part = slice(begin, min(begin + size, rows))
        try:
            columns = _score_batch(loaded, prefixes[part], suffixes[part])
            logprobs[part], top[part], ranks[part], continuation[part] = columns
        except torch.OutOfMemoryError:
            if size == 1:
                raise MemindexError("the GPU has too little memory for one sequence; use --dtype bfloat16") from None
            size = max(1, min(size, rows) // 2)
            torch.cuda.empty_cache()
            continue
        begin = part.stop
        if progress is not None:
            progress(begin, rows)
    return _summarize(suffixes, logprobs, top, ranks, continuation, min(size, rows))


def _summarize(
    suffixes: npt.NDArray[Any],
    logprobs: npt.NDArray[np.float32],
    top: npt.NDArray[np.float32],
    ranks: npt.NDArray[np.int32],
    continuation: npt.NDArray[np.int32],
    batch_size: int,
) -> Scores:
    equal = continuation == suffixes
    prefix, logprobs = np.split(logprobs, [logprobs.shape[1] - suffixes.shape[1]], axis=1)
    return Scores(
        score=equal.mean(axis=1, dtype=np.float64).astype(np.float32),
        matched=np.cumprod(equal, axis=1).sum(axis=1).astype(np.int32),
        memorized=equal.all(axis=1),
        suffix_logprob=logprobs.sum(axis=1, dtype=np.float64).astype(np.float32),
        suffix_logprob_top40=top,
        prefix_logprob=prefix.sum(axis=1, dtype=np.float64).astype(np.float32),
        token_logprobs=np.ascontiguousarray(logprobs),
        token_ranks=ranks,
        continuation=continuation,
        batch_size=batch_size,
    )


def _score_batch(
    loaded: LoadedModel, prefixes: npt.NDArray[Any], suffixes: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], ...]:
    ids = torch.from_numpy(np.concatenate([prefixes, suffixes], axis=1).astype(np.int64)).to(loaded.model.device)
    with torch.inference_mode():
        forced = teacher_forced(loaded.model, ids, prefixes.shape[1])
        continuation = complete(loaded.model, ids, prefixes.shape[1], forced)
        top = forced.top_logprobs.double().sum(dim=1).float()
        return tuple(column.cpu().numpy() for column in (forced.logprobs, top, forced.ranks, continuation.int()))


def _check(loaded: LoadedModel, prefixes: npt.NDArray[Any], suffixes: npt.NDArray[Any]) -> None:
    for name, ids in (("prefixes", prefixes), ("suffixes", suffixes)):
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
            raise MemindexError(f"{name} must be integers of shape (rows, length), got {ids.dtype} {ids.shape}")
        if ids.size == 0:
            raise MemindexError(f"there is nothing to score: {name} has shape {ids.shape}")
        vocabulary = loaded.facts["vocabulary"]
        if ids.min() < 0 or ids.max() >= vocabulary:
            wrong = ids.min() if ids.min() < 0 else ids.max()
            raise MemindexError(
                f"{name} hold token id {wrong}, {loaded.model_id} knows 0 to {vocabulary - 1}; "
                "use sequences of an index with the model's tokenizer"
            )
    if len(prefixes) != len(suffixes):
        raise MemindexError(f"{len(prefixes)} prefixes do not pair with {len(suffixes)} suffixes")
    length, context = prefixes.shape[1] + suffixes.shape[1], loaded.facts["context"]
    if length > context:
        raise MemindexError(f"prefix + suffix are {length} tokens, {loaded.model_id} reads at most {context}")


def _default_batch(loaded: LoadedModel, prefix: int, suffix: int) -> int:
    """Rows that fit in half the free GPU memory: cache, logits of the suffix, and a few wide activations."""
    facts, width = loaded.facts, loaded.model.dtype.itemsize
    if loaded.model.device.type != "cuda":
        return int(max(1, min(CPU_BATCH, CPU_LOGITS // (4 * suffix * facts["vocabulary"]))))
    length = prefix + 2 * suffix
    cache = 2 * facts["layers"] * facts["hidden_size"] * length * width
    logits = suffix * facts["vocabulary"] * (2 * width + 8)
    activations = 24 * facts["hidden_size"] * length * width
    free, _ = torch.cuda.mem_get_info(loaded.model.device)
    return int(max(1, min(1024, free // 2 // (cache + logits + activations))))
