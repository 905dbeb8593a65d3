"""The loss of next-token prediction, without the logits of a whole batch.

On a GPU logits exist for some thousand positions at a time. Their gradient is known as soon as they are, so it goes
into those of hidden states and unembedding at once, and nothing of the size of the vocabulary is kept for the way back
(as in Liger Kernel, Hsu et al. 2024, arXiv 2410.10989).
"""

from __future__ import annotations

from typing import Any

import memindex.models.torch_setup  # noqa: F401

import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedModel

try:
    from memindex.models.cross_entropy_kernel import losses_in_place as _kernel
except ImportError:  # Triton comes with torch where torch knows GPUs.
    _kernel = None  # type: ignore[assignment]

#: Bytes of logits at a time.
_LOGITS = 1 << 30

#: Vocabularies are filled up to a multiple of this: products of odd sizes take kernels of half the speed.
_MULTIPLE = 64


def next_token_loss(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each token after the first, in nats; `tokens` int64 (rows, length)."""
    head = model.get_output_embeddings()
    simple = isinstance(head, nn.Linear) and getattr(head, "bias", None) is None
    if _kernel is None or not simple or tokens.device.type != "cuda":
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        return cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    hidden = model.base_model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
    return linear_cross_entropy(hidden.flatten(0, 1), head.weight, tokens[:, 1:].flatten())


def linear_cross_entropy(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of `hidden @ weight.T`, in nats.

    Args:
        hidden: (positions, hidden size); under autocast the product is made in autocast's type.
        weight: (vocabulary, hidden size).
        targets: int64 (positions,).
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    loss: torch.Tensor = _LinearCrossEntropy.apply(hidden.to(dtype), weight, targets)
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    """Both gradients are made on the way forward."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        assert _kernel is not None
        vocabulary = len(weight)
        # The logits of what is filled up are 0, and stay so when the others become gradients.
        narrow = pad(weight.to(hidden.dtype), (0, 0, 0, -vocabulary % _MULTIPLE))
        of_hidden = torch.empty_like(hidden)
        of_weight = torch.zeros(narrow.shape, dtype=torch.float32, device=weight.device)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        positions = max(1, _LOGITS // (len(narrow) * hidden.element_size()))
        for start in range(0, len(hidden), positions):
            some = slice(start, start + positions)
            logits = hidden[some] @ narrow.T
            total += _kernel(logits, targets[some].contiguous(), 1 / len(hidden), vocabulary).sum()
            torch.mm(logits, narrow, out=of_hidden[some])
            of_weight += logits.T @ hidden[some]
        ctx.save_for_backward(of_hidden, of_weight[:vocabulary].to(weight.dtype))
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden * gradient, of_weight * gradient, None
