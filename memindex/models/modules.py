"""The modules of a causal language model that probes hook, by the table of families or by looking for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import memindex.models.torch_setup  # noqa: F401

from torch import nn
from transformers import PreTrainedModel

from memindex.errors import MemindexError
from memindex.models.families import PATHS

#: What architectures call the matrix that writes attention's output to the residual stream, and the module after it.
_OUTPUTS = ("o_proj", "out_proj", "c_proj", "dense", "wo", "proj")
_ATTENTIONS = ("self_attn", "attention", "attn", "self_attention", "self_attention_layer")
_MLPS = ("mlp", "feed_forward", "ffn", "block_sparse_moe")


@dataclass(frozen=True)
class Modules:
    """A model's parts, in the order a token passes them.

    Attributes:
        embedding: Ids of shape (rows, length) to vectors (rows, length, hidden).
        layers: The blocks, first to last.
        attention_output: For each layer, the matrix from all heads' outputs to the residual stream.
        mlp: For each layer, its feed-forward part.
        final_norm: The norm after the last layer.
        unembedding: Normed vectors (rows, length, hidden) to logits (rows, length, vocabulary).
    """

    embedding: nn.Module
    layers: tuple[nn.Module, ...]
    attention_output: tuple[nn.Module, ...]
    mlp: tuple[nn.Module, ...]
    final_norm: nn.Module
    unembedding: nn.Module


def modules_of(model: PreTrainedModel) -> Modules:
    """The modules of a model, also of an architecture that memindex has no row for, as far as they can be told.

    Raises:
        MemindexError: Naming the parts that were not found.
    """
    known = PATHS.get(model.config.model_type)
    layers = _submodule(model, known.layers) if known else _find_layers(model)
    blocks = tuple(layers) if isinstance(layers, nn.ModuleList) else ()
    parts: dict[str, Any] = {
        "layers": blocks,
        "embedding": model.get_input_embeddings(),
        "unembedding": model.get_output_embeddings(),
        "final norm": _submodule(model, known.final_norm) if known else _find_norm(model, layers),
        "attention output": _each(blocks, (known.attention_output,) if known else _attention_names()),
        "mlp": _each(blocks, (known.mlp,) if known else _MLPS),
    }
    missing = [name for name, part in parts.items() if part is None or part == ()]
    if missing:
        raise MemindexError(
            f"probes don't know where a {model.config.model_type} model keeps its {', '.join(missing)}: "
            "add a row for it to PATHS in memindex/models/families.py"
        )
    return Modules(
        embedding=parts["embedding"],
        layers=blocks,
        attention_output=parts["attention output"],
        mlp=parts["mlp"],
        final_norm=parts["final norm"],
        unembedding=parts["unembedding"],
    )


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _each(blocks: tuple[nn.Module, ...], paths: tuple[str, ...]) -> tuple[nn.Module, ...]:
    """The first of `paths` that every block has; nothing when there is none."""
    for path in paths:
        found = [_submodule(block, path) for block in blocks]
        if all(module is not None for module in found):
            return tuple(module for module in found if module is not None)
    return ()


def _attention_names() -> tuple[str, ...]:
    return tuple(f"{attention}.{output}" for attention in _ATTENTIONS for output in _OUTPUTS)


def _find_layers(model: PreTrainedModel) -> nn.ModuleList | None:
    """The one list of modules that is as long as the model is deep."""
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = list(lists_of_modules(model, depth))
    return lists[0] if len(lists) == 1 else None


def lists_of_modules(model: nn.Module, length: int | None) -> Iterator[nn.ModuleList]:
    """The lists of so many modules in a model; its layers stand in one."""
    return (m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == length)


def _find_norm(model: PreTrainedModel, layers: nn.Module | None) -> nn.Module | None:
    """The one norm that stands beside the list of layers: what lies inside them does not count."""
    for parent in model.modules():
        children = list(parent.children())
        if any(child is layers for child in children):
            norms = [child for child in children if "norm" in type(child).__name__.lower()]
            return norms[0] if len(norms) == 1 else None
    return None
