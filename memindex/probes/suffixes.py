"""What a model says about the tokens that follow a prefix, from the residual stream or the last hidden states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from memindex.errors import MemindexError
from memindex.models.loading import LoadedModel
from memindex.models.reading import logits_at_a_time, refuse_nan

try:
    from memindex.probes.logits_kernel import reduce_logits as _kernel
except ImportError:  # Triton comes with torch where torch knows GPUs.
    _kernel = None  # type: ignore[assignment]

#: From hidden states (positions, hidden size) to logits (positions, vocabulary).
Unembed = Callable[[torch.Tensor], torch.Tensor]


class Said(NamedTuple):
    """About each token that follows; all (rows, tokens).

    Attributes:
        logprob: float32, its log-probability; nats.
        rank: int32, tokens that were likelier.
        chosen: bool, whether it is the one that greedy decoding takes.
        entropy: float32, of the distribution in its place; nats.
    """

    logprob: torch.Tensor
    rank: torch.Tensor
    chosen: torch.Tensor
    entropy: torch.Tensor


def say(loaded: LoadedModel, unembed: Unembed, hidden: torch.Tensor, following: torch.Tensor) -> Said:
    """What hidden states (rows, tokens, hidden size) say about the tokens that follow each, int64 (rows, tokens).

    Raises:
        MemindexError: NaN logits.
    """
    at_a_time = _at_a_time(loaded)
    parts = zip(torch.split(hidden.flatten(0, 1), at_a_time), torch.split(following.flatten(), at_a_time), strict=True)
    columns = zip(*(_say(unembed(some), tokens) for some, tokens in parts), strict=True)
    said = Said(*(torch.cat(column).view(following.shape) for column in columns))
    refuse_nan(said.logprob.isnan().any())
    return said


def choose(loaded: LoadedModel, unembed: Unembed, hidden: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """`say(…).chosen` alone, bool (rows, tokens): without the other passes over the logits.

    Raises:
        MemindexError: NaN logits.
    """
    found = []
    for some in torch.split(hidden.flatten(0, 1), _at_a_time(loaded)):
        logits = unembed(some)
        best = logits.argmax(dim=-1, keepdim=True)
        # NaN is the largest of all to argmax.
        found.append((best, logits.gather(-1, best).isnan()))
    best, nan = (torch.cat(parts).view(following.shape) for parts in zip(*found, strict=True))
    refuse_nan(nan.any())
    return best == following


def _at_a_time(loaded: LoadedModel) -> int:
    """Positions whose logits are held at once."""
    return max(1, logits_at_a_time(loaded.model.device) // int(loaded.facts["vocabulary"]))


def _say(logits: torch.Tensor, tokens: torch.Tensor) -> Said:
    if _kernel is not None and logits.is_cuda:
        logprob, rank, best, entropy = _kernel(logits, tokens)
        return Said(logprob, rank, best == tokens, entropy)
    chosen = logits.argmax(dim=-1) == tokens
    logits = logits.float()
    true = logits.gather(-1, tokens[:, None])
    total = logits.logsumexp(dim=-1)
    rank = (logits > true).sum(dim=-1, dtype=torch.int32)
    # Where a token can't come (-inf), nothing is expected of it.
    shares = (logits - total[:, None]).exp_()
    expected = torch.where(shares == 0, shares, shares * logits).sum(dim=-1)
    return Said(true[:, 0] - total, rank, chosen, total - expected)


def kept(chosen: torch.Tensor) -> torch.Tensor:
    """Tokens before the first that greedy decoding would not take, int64 (rows,), of `Said.chosen`."""
    return chosen.long().cumprod(dim=1).sum(dim=1)


def checked(loaded: LoadedModel, prefixes: npt.NDArray[Any], following: npt.NDArray[Any]) -> torch.Tensor:
    """Prefixes and what follows them side by side, int64 (rows, tokens), on the CPU.

    Raises:
        MemindexError: Shapes that don't fit each other, ids outside the model's vocabulary, or more tokens than the
            model reads.
    """
    if prefixes.ndim != 2 or following.ndim != 2 or len(prefixes) != len(following):
        raise MemindexError(
            f"prefixes {prefixes.shape} and suffixes {following.shape} are no two matrices of one length"
        )
    if min(prefixes.shape[1], following.shape[1]) < 1:
        raise MemindexError("prefix and suffix have at least one token each")
    tokens = np.concatenate([prefixes, following], axis=1).astype(np.int64)
    vocabulary, context = loaded.facts["vocabulary"], loaded.facts["context"]
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocabulary:
        raise MemindexError(f"{loaded.model_id} knows token ids 0 to {vocabulary - 1}, the sequences hold others")
    if context is not None and tokens.shape[1] > context:
        raise MemindexError(f"prefix + suffix are {tokens.shape[1]} tokens, {loaded.model_id} reads at most {context}")
    return torch.from_numpy(tokens)
