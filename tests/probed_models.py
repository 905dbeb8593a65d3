"""Small models of every architecture with random weights, and grouped or shared keys where it has them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from memindex.models.loading import LoadedModel

VOCABULARY, CONTEXT = 97, 40

#: What makes each architecture's attention special.
SPECIAL: dict[str, dict[str, Any]] = {
    "gpt_neox": {"intermediate_size": 64},
    "gpt_bigcode": {"n_inner": 64, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "llama": {"intermediate_size": 64, "num_key_value_heads": 2},
    "olmo": {"intermediate_size": 64, "num_key_value_heads": 4},
    "olmo2": {"intermediate_size": 64, "num_key_value_heads": 2},
    "olmo3": {"intermediate_size": 64, "num_key_value_heads": 2, "sliding_window": 6},
    "starcoder2": {"intermediate_size": 64, "num_key_value_heads": 2, "sliding_window": None},
}


def random_model(architecture: str, attention: str = "sdpa", layers: int = 3) -> LoadedModel:
    """A model of four heads with random weights, large enough that layers, heads and norms matter."""
    config = AutoConfig.for_model(
        architecture,
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        tie_word_embeddings=False,
        initializer_range=0.4,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        **SPECIAL[architecture],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                # Norms and biases begin as ones and zeros, which would hide one left out.
                if weight.ndim == 1:
                    weight.add_(0.3 * torch.randn_like(weight))
                assert weight.isfinite().all(), name
    facts = {"vocabulary": VOCABULARY, "context": CONTEXT, "layers": layers, "hidden_size": 32}
    return LoadedModel(model, architecture, "cpu", "float32", attention, facts)
