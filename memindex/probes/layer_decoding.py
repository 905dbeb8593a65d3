"""Layer decoding: what every layer's hidden states would say if they were the last.

The final norm and the unembedding are applied to the residual stream after each layer ("logit lens", nostalgebraist
2020), and to the embeddings. The stream after the last layer is taken before its norm, which transformers' own
`hidden_states` have already applied: it must not be applied twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from memindex.models.loading import LoadedModel
from memindex.probes.batches import Progress, in_batches, rows_that_fit
from memindex.probes.hooks import recorded, residual_stream, unembedder
from memindex.probes.suffixes import Unembed, checked, say


@dataclass(frozen=True)
class LayerDecoding:
    """What each layer says about each emitted token; all (rows, layers + 1, tokens), the embeddings first.

    Attributes:
        probability: float32, of the token.
        rank: int32, tokens that were likelier.
        entropy: float32, of the layer's distribution; nats.
        batch_size: Rows per forward pass (the smallest used, when memory forced it down).
    """

    probability: npt.NDArray[np.float32]
    rank: npt.NDArray[np.int32]
    entropy: npt.NDArray[np.float32]
    batch_size: int


def decode_layers(
    loaded: LoadedModel,
    prefixes: npt.NDArray[Any],
    continuations: npt.NDArray[Any],
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> LayerDecoding:
    """Decode every layer in the places where a model emitted its continuations.

    Args:
        loaded: The model.
        prefixes: Ids given to the model, integers of shape (rows, prefix).
        continuations: Ids that it emitted, integers of shape (rows, tokens).
        batch_size: Rows per forward pass; None chooses by the free memory. On a GPU it is halved when memory runs out.
        progress: Called after every batch with (sequences done, sequences in all).

    Raises:
        MemindexError: Shapes that don't fit each other, ids outside the vocabulary, more tokens than the model reads, a
            model whose layers can't be found or whose logits are more than norm and unembedding, NaN logits, or a GPU
            too small for one row.
    """
    tokens = checked(loaded, prefixes, continuations)
    places, following = residual_stream(loaded.model), continuations.shape[1]
    shape = (len(tokens), len(places), following)
    found = (np.zeros(shape, np.float32), np.zeros(shape, np.int32), np.zeros(shape, np.float32))
    step = partial(_decode, loaded, unembedder(loaded), tokens, following, found)
    hidden = int(loaded.model.config.get_text_config().hidden_size)
    kept = len(places) * following * hidden * loaded.model.dtype.itemsize
    size = in_batches(len(tokens), batch_size or rows_that_fit(loaded, tokens.shape[1], kept), step, progress)
    return LayerDecoding(*found, batch_size=size)


@torch.inference_mode()
def _decode(
    loaded: LoadedModel,
    unembed: Unembed,
    tokens: torch.Tensor,
    following: int,
    found: tuple[npt.NDArray[Any], ...],
    rows: slice,
) -> None:
    given = tokens[rows].to(loaded.model.device)
    places = residual_stream(loaded.model)
    with recorded(loaded.model, places, slice(-following, None)) as streams:
        loaded.model.base_model(input_ids=given[:, :-1], use_cache=False)
    for number, place in enumerate(places):
        said = say(loaded, unembed, streams.pop(place), given[:, -following:])
        for column, values in zip(found, (said.logprob.exp(), said.rank, said.entropy), strict=True):
            column[rows, number] = values.cpu().numpy()
