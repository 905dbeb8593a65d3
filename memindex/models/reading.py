"""Teacher forcing: what a model says about the tokens that really follow, from one forward pass.

Logits exist for a few thousand positions at a time and are reduced at once: at 64 tokens and a vocabulary of 50,000
those of a whole batch would take more memory than the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from memindex.errors import MemindexError

#: Tokens that top-k sampling draws from where its probability is reported (Hayes et al. 2024, arXiv 2410.19482).
TOP = 40

#: Logits at a time.
CHUNK = 1 << 28
CPU_CHUNK = 1 << 26

#: From hidden states (…, hidden size) to logits (…, vocabulary).
Unembed = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Reading:
    """What a model says about a batch of sequences.

    Attributes:
        logprobs: float32 (rows, tokens - 1), log-probability of each token after the first; nats.
        ranks: int32 (rows, tokens - 1), tokens likelier than each token after the first.
        argmax: int64 (rows, tokens - 1), the likeliest token in the place of each token after the first.
        hidden: (rows, tokens - 1, hidden size), what the logits are made from.
    """

    logprobs: torch.Tensor
    ranks: torch.Tensor
    argmax: torch.Tensor
    hidden: torch.Tensor


def read(model: PreTrainedModel, unembed: Unembed, ids: torch.Tensor, summarize: Any = None, **options: Any) -> Reading:
    """Read `ids`, int64 (rows, tokens), once; `options` go to the model's attention."""
    hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False, **options).last_hidden_state
    flat, targets = hidden.flatten(0, 1), ids[:, 1:].flatten()
    size = _chunk(model)
    parts = [
        (summarize or summary)(unembed(some), wanted)
        for some, wanted in zip(torch.split(flat, size), torch.split(targets, size), strict=True)
    ]
    logprobs, ranks, argmax = (torch.cat(column).view(ids.shape[0], -1) for column in zip(*parts, strict=True))
    return Reading(logprobs, ranks, argmax, hidden)


def summary(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(log-probability, rank, argmax) of (positions, vocabulary) logits; a NaN among them makes the first NaN."""
    exact = logits.float()
    true = exact.gather(-1, targets[:, None])
    logprobs = true[:, 0] - exact.logsumexp(dim=-1)
    return logprobs, (exact > true).sum(dim=-1, dtype=torch.int32), logits.argmax(dim=-1)


def top_logprobs(
    model: PreTrainedModel, unembed: Unembed, hidden: torch.Tensor, targets: torch.Tensor, ranks: torch.Tensor
) -> torch.Tensor:
    """Log-probability of each row's tokens when each is drawn from the TOP likeliest; float32 (rows,), nats.

    -inf where one of them is not among these: only the other rows' logits have to be sorted.

    Args:
        model: The model.
        unembed: Its unembedding.
        hidden: (rows, tokens, hidden size).
        targets: int64 (rows, tokens).
        ranks: int32 (rows, tokens), as in `Reading`.
    """
    result = torch.full((len(hidden),), float("-inf"), device=hidden.device)
    rows = (ranks < TOP).all(dim=1).nonzero()[:, 0]
    step = max(1, _chunk(model) // targets.shape[1])
    for some in torch.split(rows, step):
        logits = unembed(hidden[some]).float()
        true = logits.gather(-1, targets[some][..., None])[..., 0]
        kept = logits.topk(min(TOP, logits.shape[-1]), dim=-1, sorted=False).values.logsumexp(dim=-1)
        # A tie at the last place may leave the token out of the kept ones' sum; it has a rank among them all the same.
        result[some] = (true - kept).clamp(max=0).double().sum(dim=1).float()
    return result


def refuse_nan(found: torch.Tensor) -> None:
    """MemindexError where the flag is set."""
    if bool(found):
        raise MemindexError("the model gives NaN logits; load it with --dtype float32, or check its weights")


def _chunk(model: PreTrainedModel) -> int:
    """Positions at a time."""
    vocabulary = model.config.get_text_config().vocab_size
    return int(max(1, (CHUNK if model.device.type == "cuda" else CPU_CHUNK) // vocabulary))
