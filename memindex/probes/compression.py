"""Compression: how few of the last context tokens still give a memorized continuation, word for word.

A context of k tokens works when greedy decoding after the last k tokens of the prefix gives the whole suffix. One
teacher-forced pass over those k tokens and the suffix decides that: it works if and only if the argmax is right at
every position of the suffix, because decoding reads true tokens as long as it makes no mistake. More context may spoil
what less of it gave, so no bisection is exact: every length is read, in batches of equal length.

The ratio of the fewest tokens to the whole context is the compression ratio of Chen, Han and Miyao (arXiv 2603.21658),
who don't say which tokens they drop; here the earliest go first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from memindex.models.loading import LoadedModel
from memindex.models.reading import logits_at_a_time, refuse_nan, unembedding
from memindex.probes.batches import Progress, in_batches, rows_that_fit
from memindex.probes.suffixes import checked


@dataclass(frozen=True)
class Compression:
    """How much context each sequence needs, in input order; all lengths in tokens.

    Attributes:
        works: bool (rows, prefix), in column k - 1 whether the last k tokens of the prefix give the whole suffix.
        needed: int32 (rows,), the fewest that do; 0 where none does.
        needed_monotone: int32 (rows,), the fewest such that they and every longer context do; 0 where the whole prefix
            does not.
        failures: int32 (rows,), lengths above `needed` that don't.
        batch_size: Rows per forward pass (the smallest used, when memory forced it down).
    """

    works: npt.NDArray[np.bool_]
    needed: npt.NDArray[np.int32]
    needed_monotone: npt.NDArray[np.int32]
    failures: npt.NDArray[np.int32]
    batch_size: int


def compress(
    loaded: LoadedModel,
    prefixes: npt.NDArray[Any],
    suffixes: npt.NDArray[Any],
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Compression:
    """Try every context length of every sequence; exact, as far as the model's arithmetic is.

    Args:
        loaded: The model.
        prefixes: Ids given to the model, integers of shape (rows, prefix).
        suffixes: Ids it should continue with, integers of shape (rows, suffix).
        batch_size: Rows per forward pass; None chooses by the free memory. On a GPU it is halved when memory runs out.
        progress: Called after every batch with (sequences done, sequences in all).

    Raises:
        MemindexError: Shapes that don't fit each other, ids outside the model's vocabulary, more tokens than the model
            reads, NaN logits, or a GPU too small for one row.
    """
    tokens = checked(loaded, prefixes, suffixes)
    prefix, suffix = prefixes.shape[1], suffixes.shape[1]
    works = np.zeros((len(tokens), prefix), dtype=bool)
    size = batch_size or rows_that_fit(loaded, prefix + suffix)
    size = in_batches(len(tokens), size, partial(_try_lengths, loaded, tokens, suffix, works), progress)
    return _summary(works, size)


@torch.inference_mode()
def _try_lengths(
    loaded: LoadedModel, tokens: torch.Tensor, suffix: int, works: npt.NDArray[np.bool_], rows: slice
) -> None:
    given = tokens[rows].to(loaded.model.device)
    nan = torch.zeros((), dtype=torch.bool, device=given.device)
    prefix = given.shape[1] - suffix
    columns = [_gives_suffix(loaded, given[:, prefix - length :], suffix, nan) for length in range(1, prefix + 1)]
    refuse_nan(nan)
    works[rows] = torch.stack(columns, dim=1).cpu().numpy()


def _gives_suffix(loaded: LoadedModel, tokens: torch.Tensor, suffix: int, nan: torch.Tensor) -> torch.Tensor:
    """Whether greedy decoding gives the last `suffix` tokens after those before them, bool (rows,).

    Sets `nan` where a logit is.
    """
    model, unembed = loaded.model, unembedding(loaded.model)
    hidden = model.base_model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state[:, -suffix:]
    chosen = []
    for part in hidden.flatten(0, 1).split(max(1, logits_at_a_time(model.device) // loaded.facts["vocabulary"])):
        logits = unembed(part)
        best = logits.argmax(dim=-1)
        # NaN counts as the largest.
        nan |= logits.gather(-1, best[:, None]).isnan().any()
        chosen.append(best)
    return (torch.cat(chosen).view(len(tokens), suffix) == tokens[:, -suffix:]).all(dim=1)


def _summary(works: npt.NDArray[np.bool_], batch_size: int) -> Compression:
    prefix = works.shape[1]
    needed = np.where(works.any(axis=1), works.argmax(axis=1) + 1, 0)
    # Of the lengths in descending order, those before the first that fails.
    unbroken = np.cumprod(works[:, ::-1], axis=1).sum(axis=1)
    return Compression(
        works=works,
        needed=needed.astype(np.int32),
        needed_monotone=np.where(unbroken > 0, prefix - unbroken + 1, 0).astype(np.int32),
        failures=np.where(needed > 0, prefix - needed + 1 - works.sum(axis=1), 0).astype(np.int32),
        batch_size=batch_size,
    )
