"""Noise: how well a model finds back to what it would have computed, and what it still emits.

Noise in the residual stream is relative and Gaussian: h' = h + alpha * rms(h) * e before the first layer, at every
token, where rms is the root mean square of the token's h and e is drawn from N(0, 1). (Chen, Han and Miyao, arXiv
2603.21658, name relative Gaussian noise; the formula is our reading of it.) Noise of a draw is the same for every
alpha, and depends on seed, draw, sequence and place alone, not on the batch.

Reading prefix and continuation once under noise tells what generation under the same noise would keep of the
continuation: up to its first mistake it reads the same tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from memindex.probes.hooks import INTO, Hook, Place, hooked, recorded, residual_stream
from memindex.probes.suffixes import checked, kept, say

#: Noise beyond that of the paper (0.5) by far: the stream would be mostly noise.
LARGEST = 1.0


@dataclass(frozen=True)
class Noised:
    """What noise does; the first axes of all are (rows, draws, alphas).

    Attributes:
        similarity: float32 (…, layers + 1), cosine of noised and clean residual stream before the first layer and after
            each, averaged over the tokens that the continuation is predicted from.
        kept: int32 (…,), tokens of the continuation before the first that is lost.
        logprob: float32 (…,), log-probability of the continuation; nats, teacher-forced.
        batch_size: Rows per forward pass (the smallest used, when memory forced it down).
    """

    similarity: npt.NDArray[np.float32]
    kept: npt.NDArray[np.int32]
    logprob: npt.NDArray[np.float32]
    batch_size: int


def add_noise(
    loaded: LoadedModel,
    prefixes: npt.NDArray[Any],
    continuations: npt.NDArray[Any],
    sequence_ids: npt.NDArray[np.int64],
    alphas: Sequence[float],
    draws: int = 1,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Noised:
    """Read sequences under noise of several strengths.

    Args:
        loaded: The model.
        prefixes: Ids given to the model, integers of shape (rows, prefix).
        continuations: Ids that it emits without noise, integers of shape (rows, tokens).
        sequence_ids: int64 (rows,), what noise is drawn for beside the seed.
        alphas: Strengths, 0 to 1, shares of the stream's root mean square.
        draws: How often noise is drawn.
        seed: Seed of the noise.
        batch_size: Rows per forward pass; None chooses by the free memory. On a GPU it is halved when memory runs out.
        progress: Called after every batch with (sequences done, sequences in all).

    Raises:
        MemindexError: Alphas outside 0 to 1, shapes that don't fit each other, ids outside the vocabulary, more tokens
            than the model reads, a model whose layers can't be found, NaN logits, or a GPU too small for one row.
    """
    check_alphas(alphas)
    tokens = checked(loaded, prefixes, continuations)
    places, shape = residual_stream(loaded.model), (len(tokens), draws, len(alphas))
    found = Noised(
        np.zeros((*shape, len(places)), np.float32), np.zeros(shape, np.int32), np.zeros(shape, np.float32), 0
    )
    ids = torch.from_numpy(np.array(sequence_ids, dtype=np.int64))
    step = partial(_read_noised, loaded, tokens, continuations.shape[1], ids, (tuple(alphas), draws, seed), found)
    hidden = int(loaded.model.config.get_text_config().hidden_size)
    # Clean and noised streams, and noise with the hashes that it is made of.
    streams = 2 * len(places) * continuations.shape[1] * loaded.model.dtype.itemsize + tokens.shape[1] * 32
    size = in_batches(
        len(tokens), batch_size or rows_that_fit(loaded, tokens.shape[1], streams * hidden), step, progress
    )
    return Noised(found.similarity, found.kept, found.logprob, size)


def check_alphas(alphas: Sequence[float]) -> None:
    """MemindexError where a strength means nothing."""
    for alpha in alphas:
        if not 0 <= alpha <= LARGEST:
            raise MemindexError(f"alpha must be between 0 and {LARGEST:g}, got {alpha:g}: it is a share of the stream")
    if not alphas:
        raise MemindexError("give at least one alpha")


def gaussian(ids: torch.Tensor, tokens: int, hidden: int, draw: int, seed: int) -> torch.Tensor:
    """Standard normal noise, float32 (rows, tokens, hidden), for sequences of these ids, int64 (rows,)."""
    place = torch.arange(tokens * hidden, device=ids.device)
    state = hashed(seed, torch.full_like(place, draw), ids[:, None], place)
    # Two uniform numbers of 24 bits, away from 0 and 1, make a normal one (Box and Muller 1958).
    first, second = ((((state >> by) & 0xFFFFFF).float() + 0.5) * 2.0**-24 for by in (40, 16))
    return ((-2 * first.log()).sqrt() * (2 * math.pi * second).cos()).view(len(ids), tokens, hidden)


@torch.inference_mode()
def _read_noised(
    loaded: LoadedModel,
    tokens: torch.Tensor,
    following: int,
    ids: torch.Tensor,
    settings: tuple[tuple[float, ...], int, int],
    found: Noised,
    rows: slice,
) -> None:
    model, (alphas, draws, seed) = loaded.model, settings
    given, unembed = tokens[rows].to(model.device), unembedding(loaded.model)
    places, columns = residual_stream(model), slice(-following, None)
    hidden = int(model.config.get_text_config().hidden_size)
    with recorded(model, places, columns) as clean:
        model.base_model(input_ids=given[:, :-1], use_cache=False)
    for draw in range(draws):
        noise = gaussian(ids[rows].to(model.device), given.shape[1] - 1, hidden, draw, seed)
        for number, alpha in enumerate(alphas):
            # Hooks at one place are called in the order they came in: what is recorded there is noised.
            with hooked(model, {Place(INTO, 0): _adder(alpha, noise)}), recorded(model, places, columns) as streams:
                last = model.base_model(input_ids=given[:, :-1], use_cache=False).last_hidden_state
            said = say(loaded, unembed, last[:, columns], given[:, columns])
            found.kept[rows, draw, number] = kept(said.chosen).cpu().numpy()
            found.logprob[rows, draw, number] = said.logprob.double().sum(dim=1).cpu().numpy()
            likeness = [_cosine(streams[place], clean[place]) for place in places]
            found.similarity[rows, draw, number] = torch.stack(likeness, dim=1).cpu().numpy()


def _adder(alpha: float, noise: torch.Tensor) -> Hook:
    def add(stream: torch.Tensor) -> torch.Tensor:
        exact = stream.float()
        size = exact.square().mean(dim=-1, keepdim=True).sqrt()
        return (exact + alpha * size * noise).to(stream.dtype)

    return add


def _cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Mean over tokens of the cosine, float32 (rows,)."""
    return torch.nn.functional.cosine_similarity(one.float(), other.float(), dim=-1).mean(dim=1)
