"""Small models of a given architecture and size, with random weights, for controlled experiments (`shapes`)."""

from __future__ import annotations

import memindex.models.torch_setup  # noqa: F401

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from memindex.errors import MemindexError
from memindex.models.shapes import ARCHITECTURES, Shape, parse_size, shape_for
from memindex.near_names import hint

__all__ = ["ARCHITECTURES", "TIED_BELOW", "Shape", "build_model", "count_parameters", "parse_size", "shape_for"]

#: Below this many non-embedding parameters, input and output embeddings are tied unless asked otherwise.
TIED_BELOW = 50_000_000


def build_model(
    architecture: str,
    size: int | str,
    vocabulary: int,
    context: int,
    seed: int,
    *,
    eos_token_id: int | None = None,
    tie_embeddings: bool | None = None,
) -> PreTrainedModel:
    """A float32 model with random weights on the CPU; equal arguments give equal weights.

    Args:
        architecture: A key of ARCHITECTURES (a transformers model type).
        size: Non-embedding parameters, as a number or as `parse_size` reads it; the nearest shape is taken.
        vocabulary: Rows of the embeddings; every id must be below it.
        context: Longest input in tokens.
        seed: Seed of the initial weights.
        eos_token_id: Id that stands between documents, written to the model's configuration.
        tie_embeddings: One matrix for input and output embeddings; None ties below TIED_BELOW parameters.

    Raises:
        MemindexError: Unknown architecture, or a size, vocabulary or context that makes no model.
    """
    if architecture not in ARCHITECTURES:
        raise MemindexError(f"unknown architecture {architecture!r}; {hint(architecture, ARCHITECTURES)}")
    target = parse_size(str(size))
    if vocabulary < 2 or context < 2:
        raise MemindexError(f"vocabulary ({vocabulary}) and context ({context}) must be 2 or more")
    if eos_token_id is not None and not 0 <= eos_token_id < vocabulary:
        raise MemindexError(f"eos_token_id {eos_token_id} is outside the vocabulary of {vocabulary}")
    shape = shape_for(target)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=vocabulary,
        max_position_embeddings=context,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        tie_word_embeddings=target < TIED_BELOW if tie_embeddings is None else tie_embeddings,
        bos_token_id=eos_token_id,
        eos_token_id=eos_token_id,
        # The families' 0.02 is meant for wide models; narrow ones stay with unigram statistics for long with it.
        # 0.24M parameters after 250k tokens: 4.7 instead of 5.0 nats (gpt_neox), 5.3 instead of 5.7 (llama).
        initializer_range=max(0.02, 0.5 / shape.hidden**0.5),
        # The families' default pad id would freeze one row of our embedding at zero.
        pad_token_id=None,
        **ARCHITECTURES[architecture](shape),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model


def count_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """(all, non-embedding) parameters; tied ones count once, position embeddings are embeddings."""
    embeddings = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    output = model.get_output_embeddings()
    if output is not None:
        embeddings.append(output)
    # Tied matrices are one object, so a dictionary by identity counts them once.
    outside = {id(p): p.numel() for module in embeddings for p in module.parameters()}
    total = sum(p.numel() for p in model.parameters())
    return total, total - sum(outside.values())
