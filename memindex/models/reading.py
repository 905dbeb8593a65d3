"""Teacher forcing: what a model says about the tokens that really follow, from one forward pass.

Logits exist for a few thousand positions at a time and are reduced at once: at 64 tokens and a vocabulary of 50,000
those of a whole batch would take more memory than the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import memindex.models.torch_setup  # noqa: F401

import torch
from transformers import PreTrainedModel

from memindex.errors import MemindexError
from memindex.models.tensor_rows import TensorRows

#: Tokens that top-k sampling draws from where its probability is reported (Hayes et al. 2024, arXiv 2410.19482).
TOP = 40

#: Logits at a time, on a large GPU and on a CPU.
CHUNK = 1 << 29
CPU_CHUNK = 1 << 26

#: A logit in the model's type, as float32, and what reductions keep of it on the way.
BYTES_PER_LOGIT = 12

#: Neighbouring tokens of the vocabulary whose largest logit stands for them in the search for the likeliest.
_GROUP = 64

#: From hidden states (…, hidden size) to logits (…, vocabulary).
Unembed = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Reading(TensorRows):
    """What a model says about a batch of sequences.

    Attributes:
        logprobs: float32 (rows, prefix + suffix - 1), log-probability of each token after the first; nats.
        top_logprobs: float32 (rows, suffix), that of each suffix token when it is drawn from the TOP likeliest; -inf
            where it is not one of them.
        ranks: int32 (rows, suffix), tokens likelier than each suffix token; at least 1 where another, equally likely
            one is the argmax.
        argmax: int64 (rows, suffix), the likeliest token in the place of each suffix token.
    """

    logprobs: torch.Tensor
    top_logprobs: torch.Tensor
    ranks: torch.Tensor
    argmax: torch.Tensor


Summary = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]


def read(
    model: PreTrainedModel,
    unembed: Unembed,
    tokens: torch.Tensor,
    prefix: int,
    compiled: Callable[[Summary], Summary] = lambda function: function,
) -> Reading:
    """Read `tokens`, int64 (rows, prefix + suffix), once; `compiled` prepares the functions that reduce logits."""
    hidden = model.base_model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
    return summarize(unembed, hidden, tokens, prefix, _positions(model), compiled)


def summarize(
    unembed: Unembed,
    hidden: torch.Tensor,
    tokens: torch.Tensor,
    prefix: int,
    positions: int,
    compiled: Callable[[Summary], Summary] = lambda function: function,
) -> Reading:
    """The reading from hidden states (rows, prefix + suffix - 1, hidden size), `positions` of them at a time."""
    rows, first = len(tokens), prefix - 1

    def reduced(function: Summary, columns: slice, targets: slice) -> tuple[torch.Tensor, ...]:
        flat, wanted = hidden[:, columns].flatten(0, 1), tokens[:, targets].flatten()
        parts = zip(torch.split(flat, positions), torch.split(wanted, positions), strict=True)
        results = [compiled(function)(unembed(some), true) for some, true in parts]
        return tuple(torch.cat(column).view(rows, -1) for column in zip(*results, strict=True))

    logprobs, top, ranks, argmax = reduced(suffix_summary, slice(first, None), slice(prefix, None))
    if first:
        (before,) = reduced(prefix_summary, slice(0, first), slice(1, prefix))
        logprobs = torch.cat([before, logprobs], dim=1)
    return Reading(logprobs, top, ranks, argmax)


def prefix_summary(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Log-probability of each target, from (positions, vocabulary) logits; NaN where one of these is."""
    exact = logits.float()
    return (exact.gather(-1, targets[:, None])[:, 0] - exact.logsumexp(dim=-1),)


def suffix_summary(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(log-probability, log-probability among the TOP likeliest, rank, argmax) of each target."""
    exact = logits.float()
    true = exact.gather(-1, targets[:, None])
    argmax = logits.argmax(dim=-1)
    # Half precision has ties: of equally likely tokens one is generated, and only that one has rank 0.
    ranks = (exact > true).sum(dim=-1, dtype=torch.int32).maximum((argmax != targets).to(torch.int32))
    top = (true[:, 0] - largest(logits).float().logsumexp(dim=-1)).clamp(max=0)
    return (
        true[:, 0] - exact.logsumexp(dim=-1),
        top.masked_fill(ranks >= TOP, float("-inf")),
        ranks,
        argmax,
    )


def largest(logits: torch.Tensor) -> torch.Tensor:
    """The TOP largest of each row of (positions, vocabulary), in any order.

    The vocabulary is cut into groups; the TOP largest stand in the TOP groups with the largest maxima. Only these are
    sorted: a sort of all logits would take longer than the multiplication that made them.
    """
    vocabulary = logits.shape[-1]
    groups = vocabulary // _GROUP
    if groups <= TOP:
        return logits.topk(min(TOP, vocabulary), dim=-1, sorted=False).values
    grouped = logits[:, : groups * _GROUP].view(-1, groups, _GROUP)
    chosen = grouped.amax(dim=-1).topk(TOP, dim=-1, sorted=False).indices
    candidates = grouped.gather(1, chosen[..., None].expand(-1, -1, _GROUP)).flatten(1)
    # What is left of the vocabulary after whole groups stands for itself.
    candidates = torch.cat([candidates, logits[:, groups * _GROUP :]], dim=-1)
    return candidates.topk(TOP, dim=-1, sorted=False).values


def unembedding(model: PreTrainedModel) -> Unembed:
    """What makes logits of the model's last hidden states; MemindexError for a model that has none."""
    head = model.get_output_embeddings()
    if head is None:
        raise MemindexError(f"{type(model).__name__} has no output embedding: it is no causal language model")
    unembed: Unembed = head
    return unembed


def refuse_nan(found: torch.Tensor) -> None:
    """MemindexError where the flag is set."""
    if bool(found):
        raise MemindexError("the model gives NaN logits; load it with --dtype float32, or check its weights")


def _positions(model: PreTrainedModel) -> int:
    """Positions whose logits exist at a time."""
    return max(1, logits_at_a_time(model.device) // int(model.config.get_text_config().vocab_size))


def logits_at_a_time(device: torch.device) -> int:
    """Logits that may exist at a time: with what is computed from them, a twelfth of a GPU's memory at most."""
    if device.type != "cuda":
        return CPU_CHUNK
    return int(min(CHUNK, torch.cuda.get_device_properties(device).total_memory // (12 * BYTES_PER_LOGIT)))
