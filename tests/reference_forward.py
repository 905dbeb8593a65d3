"""Forward passes of all architectures by hand, in NumPy and float64, from weights alone: what probes are compared with.

Written from the papers' formulas, not from transformers' modules, whose weights are read by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Gets (layer, heads' outputs of shape (tokens, heads, head size)) and gives others.
Heads = Callable[[int, np.ndarray], np.ndarray]


@dataclass
class Pass:
    """What a forward pass over one row of ids went through.

    `stream`: the residual stream before the first layer and after each one, (tokens, hidden) each; `heads`: what the
    heads of each layer said, (tokens, heads, head size); `logits`: (tokens, vocabulary).
    """

    stream: list[np.ndarray] = field(default_factory=list)
    heads: list[np.ndarray] = field(default_factory=list)
    logits: np.ndarray = field(default_factory=lambda: np.empty(0))


class Reference:
    """A model by hand.

    Args:
        model: A transformers model, of which the weights and the configuration are read.
    """

    def __init__(self, model: Any) -> None:
        self.weights = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
        self.config, self.kind = model.config, model.config.model_type
        self.layers, self.heads = self.config.num_hidden_layers, self.config.num_attention_heads
        self.size = getattr(self.config, "head_dim", None) or self.config.hidden_size // self.heads
        names = {"gpt_neox": "gpt_neox.layers", "gpt_bigcode": "transformer.h"}
        self.layer = names.get(self.kind, "model.layers")

    def read(self, ids: np.ndarray, noise: np.ndarray | float = 0.0, change: Heads = lambda _, out: out) -> Pass:
        """Read one row of ids; `noise` is added to the stream before the first layer."""
        done = Pass()
        stream = self.embed(ids) + noise
        done.stream.append(stream)
        for layer in range(self.layers):
            stream = self.block(layer, stream, done, change)
            done.stream.append(stream)
        done.logits = self.unembed(stream)
        return done

    def embed(self, ids: np.ndarray) -> np.ndarray:
        """Token embeddings, with those of positions where there are any."""
        if self.kind == "gpt_bigcode":
            return self.weights["transformer.wte.weight"][ids] + self.weights["transformer.wpe.weight"][: len(ids)]
        name = "gpt_neox.embed_in.weight" if self.kind == "gpt_neox" else "model.embed_tokens.weight"
        return self.weights[name][ids]

    def unembed(self, stream: np.ndarray) -> np.ndarray:
        """Logits of a stream that is not yet normed."""
        names = {"gpt_neox": "gpt_neox.final_layer_norm", "gpt_bigcode": "transformer.ln_f"}
        normed = self.norm(names.get(self.kind, "model.norm"), stream)
        return normed @ self.weights["lm_head.weight"].T

    def block(self, layer: int, x: np.ndarray, done: Pass, change: Heads) -> np.ndarray:
        at = f"{self.layer}.{layer}"
        if self.kind in ("olmo2", "olmo3"):
            x = x + self.norm(f"{at}.post_attention_layernorm", self.attend(layer, x, done, change))
            return x + self.norm(f"{at}.post_feedforward_layernorm", self.mlp(at, x))
        first, second = (
            ("ln_1", "ln_2") if self.kind == "gpt_bigcode" else ("input_layernorm", "post_attention_layernorm")
        )
        said = self.attend(layer, self.norm(f"{at}.{first}", x), done, change)
        if self.kind == "gpt_neox":
            return x + said + self.mlp(at, self.norm(f"{at}.{second}", x))
        x = x + said
        return x + self.mlp(at, self.norm(f"{at}.{second}", x))

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        if self.kind in ("llama", "olmo2", "olmo3"):
            root = np.sqrt((x**2).mean(axis=-1, keepdims=True) + self.config.rms_norm_eps)
            return x / root * self.weights[f"{name}.weight"]
        epsilons = {"gpt_neox": "layer_norm_eps", "gpt_bigcode": "layer_norm_epsilon", "starcoder2": "norm_epsilon"}
        epsilon = getattr(self.config, epsilons[self.kind]) if self.kind in epsilons else 1e-5
        centred = x - x.mean(axis=-1, keepdims=True)
        normed = centred / np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
        return normed if self.kind == "olmo" else normed * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0.0)

    def attend(self, layer: int, x: np.ndarray, done: Pass, change: Heads) -> np.ndarray:
        at, tokens = f"{self.layer}.{layer}", len(x)
        query, key, value = self.queries(at, x)
        if self.kind != "gpt_bigcode":
            query, key = self.rotate(layer, query), self.rotate(layer, key)
        shared = self.heads // key.shape[1]
        key, value = np.repeat(key, shared, axis=1), np.repeat(value, shared, axis=1)
        scores = np.einsum("qhd,khd->hqk", query, key) / math.sqrt(self.size)
        back = np.arange(tokens)[:, None] - np.arange(tokens)
        window = self.window(layer) or tokens
        scores = np.where((back >= 0) & (back < window), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        said = change(layer, np.einsum("hqk,khd->qhd", weights, value))
        done.heads.append(said)
        names = {"gpt_neox": "attention.dense", "gpt_bigcode": "attn.c_proj"}
        return self.linear(f"{at}.{names.get(self.kind, 'self_attn.o_proj')}", said.reshape(tokens, -1))

    def window(self, layer: int) -> int | None:
        if self.kind == "olmo3" and self.config.layer_types[layer] == "sliding_attention":
            return self.config.sliding_window
        return self.config.sliding_window if self.kind == "starcoder2" else None

    def queries(self, at: str, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Queries, keys and values, (tokens, heads, head size) each."""
        tokens = len(x)
        if self.kind == "gpt_neox":
            together = self.linear(f"{at}.attention.query_key_value", x).reshape(tokens, self.heads, 3, self.size)
            return together[:, :, 0], together[:, :, 1], together[:, :, 2]
        if self.kind == "gpt_bigcode":
            together = self.linear(f"{at}.attn.c_attn", x)
            parts = np.split(together, [self.heads * self.size, (self.heads + 1) * self.size], axis=1)
            return tuple(part.reshape(tokens, -1, self.size) for part in parts)
        parts = [self.linear(f"{at}.self_attn.{name}_proj", x) for name in "qkv"]
        if self.kind in ("olmo2", "olmo3"):
            parts[:2] = [self.norm(f"{at}.self_attn.{n}_norm", part) for n, part in zip("qk", parts, strict=False)]
        return tuple(part.reshape(tokens, -1, self.size) for part in parts)

    def rotate(self, layer: int, x: np.ndarray) -> np.ndarray:
        """Rotary positions (Su et al. 2021), halves paired as in GPT-NeoX."""
        settings = self.config.rope_parameters
        if self.kind == "olmo3":
            settings = settings[self.config.layer_types[layer]]
        turned = int(self.size * settings.get("partial_rotary_factor", 1.0))
        speed = settings["rope_theta"] ** (-np.arange(0, turned, 2) / turned)
        angle = np.arange(len(x))[:, None] * np.concatenate([speed, speed])
        one, two = x[..., : turned // 2], x[..., turned // 2 : turned]
        across = np.concatenate([-two, one], axis=-1)
        rotated = x[..., :turned] * np.cos(angle)[:, None] + across * np.sin(angle)[:, None]
        return np.concatenate([rotated, x[..., turned:]], axis=-1)

    def mlp(self, at: str, x: np.ndarray) -> np.ndarray:
        if self.kind == "gpt_neox":
            inner = self.linear(f"{at}.mlp.dense_h_to_4h", x)
            return self.linear(f"{at}.mlp.dense_4h_to_h", inner * (1 + _erf(inner / math.sqrt(2))) / 2)
        if self.kind in ("gpt_bigcode", "starcoder2"):
            inner = self.linear(f"{at}.mlp.c_fc", x)
            curve = np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3))
            return self.linear(f"{at}.mlp.c_proj", inner * (1 + curve) / 2)
        gate = self.linear(f"{at}.mlp.gate_proj", x)
        return self.linear(f"{at}.mlp.down_proj", gate / (1 + np.exp(-gate)) * self.linear(f"{at}.mlp.up_proj", x))


_erf = np.vectorize(math.erf)
