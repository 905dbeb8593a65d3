"""Perturbation: what one wrong token of the prefix does to the continuation (Stoehr et al. 2024, arXiv 2403.19851).

Each prefix token in turn is replaced by another one, drawn from given ids, and the model reads the sequence with it:
the tokens of the continuation before the first that greedy decoding would no longer take are what is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from memindex.errors import MemindexError
from memindex.models.loading import LoadedModel
from memindex.models.reading import unembedding
from memindex.models.sampling import hashed
from memindex.probes.batches import Progress, in_batches, rows_that_fit
from memindex.probes.suffixes import checked, kept, say


@dataclass(frozen=True)
class Perturbed:
    """What single replaced tokens do; all int32 (rows, draws, prefix): a column per place in the prefix.

    Attributes:
        replacements: The id that was put there.
        kept: Tokens of the continuation before the first that is lost.
        batch_size: Rows per forward pass (the smallest used, when memory forced it down).
    """

    replacements: npt.NDArray[np.int32]
    kept: npt.NDArray[np.int32]
    batch_size: int


def perturb(
    loaded: LoadedModel,
    prefixes: npt.NDArray[Any],
    continuations: npt.NDArray[Any],
    sequence_ids: npt.NDArray[np.int64],
    choices: npt.NDArray[Any],
    draws: int = 1,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Perturbed:
    """Replace every prefix token once per draw.

    Args:
        loaded: The model.
        prefixes: Ids given to the model, integers of shape (rows, prefix).
        continuations: Ids that it emits after them, integers of shape (rows, tokens).
        sequence_ids: int64 (rows,), what replacements are drawn for beside the seed.
        choices: Ids to draw from, integers (ids,); an id that stands there twice is drawn twice as often.
        draws: Replacements of each token.
        seed: Seed of the draws.
        batch_size: Rows per forward pass; None chooses by the free memory. On a GPU it is halved when memory runs out.
        progress: Called after every batch with (sequences done, sequences in all).

    Raises:
        MemindexError: Fewer than two different choices, shapes that don't fit each other, ids outside the vocabulary,
            more tokens than the model reads, NaN logits, or a GPU too small for one row.
    """
    tokens, prefix = checked(loaded, prefixes, continuations), prefixes.shape[1]
    replacements = replace(tokens[:, :prefix].numpy(), sequence_ids, choices, draws, seed)
    found = np.zeros(replacements.shape, dtype=np.int32)
    step = partial(_read_replaced, loaded, tokens, torch.from_numpy(replacements), found)
    size = in_batches(len(tokens), batch_size or rows_that_fit(loaded, tokens.shape[1]), step, progress)
    return Perturbed(replacements.astype(np.int32), found, size)


def replace(
    prefixes: npt.NDArray[np.int64],
    sequence_ids: npt.NDArray[np.int64],
    choices: npt.NDArray[Any],
    draws: int,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Another id for every prefix token and draw, int64 (rows, draws, prefix)."""
    ordered = torch.from_numpy(np.sort(choices).astype(np.int64))
    if len(ordered) == 0 or ordered[0] == ordered[-1]:
        raise MemindexError("there is nothing to replace tokens by: give at least two different ids to choose from")
    old = torch.from_numpy(np.array(prefixes))[:, None]
    ids = torch.from_numpy(np.array(sequence_ids, dtype=np.int64))[:, None, None]
    noise = hashed(seed, ids, torch.arange(draws)[:, None], torch.arange(prefixes.shape[1]))
    # The old token's own places are left out: those after them move down.
    first, after = torch.searchsorted(ordered, old), torch.searchsorted(ordered, old, right=True)
    others = len(ordered) - (after - first)
    drawn = ((noise >> 1) & ((1 << 62) - 1)) % others
    drawn = drawn + torch.where(drawn >= first, after - first, 0)
    return ordered[drawn].numpy()


@torch.inference_mode()
def _read_replaced(
    loaded: LoadedModel, tokens: torch.Tensor, replacements: torch.Tensor, found: npt.NDArray[np.int32], rows: slice
) -> None:
    model, unembed = loaded.model, unembedding(loaded.model)
    given, new = tokens[rows].to(model.device), replacements[rows].to(model.device)
    following = slice(replacements.shape[2], None)
    for draw in range(replacements.shape[1]):
        for place in range(replacements.shape[2]):
            changed = given.clone()
            changed[:, place] = new[:, draw, place]
            last = model.base_model(input_ids=changed[:, :-1], use_cache=False).last_hidden_state
            said = say(loaded, unembed, last[:, replacements.shape[2] - 1 :], given[:, following])
            found[rows, draw, place] = kept(said.chosen).cpu().numpy()
