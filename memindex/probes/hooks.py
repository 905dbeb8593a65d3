"""Hooks: looking at a model's inner states while it reads, and changing them, for all families alike.

A place is a part of a layer; `memindex.models.modules` knows where a family keeps it. Hooks see what the model computes
anyway, whichever attention implementation it uses, and are gone when their context ends, however it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from memindex.errors import MemindexError
from memindex.models.loading import LoadedModel
from memindex.models.modules import Modules, modules_of

#: The residual stream before a layer, and after it: (rows, tokens, hidden size). After the last layer it is not yet
#: normed.
INTO, OUT_OF = "into", "out of"
#: What a layer's attention heads say, before the output projection: (rows, tokens, heads, head size).
HEADS = "heads"

#: How far logits of the final norm and the unembedding may be from the model's own, as a share of the largest.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class Place(NamedTuple):
    """A part (INTO, OUT_OF, HEADS) of a layer, counted from 0."""

    part: str
    layer: int


#: Gets what stands at a place; what it returns takes its place, None leaves it as it is.
Hook = Callable[[torch.Tensor], torch.Tensor | None]


@contextmanager
def hooked(model: PreTrainedModel, hooks: Mapping[Place, Hook]) -> Iterator[None]:
    """Within it, each hook is called at its place whenever the model reads.

    Raises:
        MemindexError: The model's parts, or the place, can't be found.
    """
    modules = modules_of(model)
    for place in hooks:
        if not 0 <= place.layer < len(modules.layers):
            raise MemindexError(f"there is no layer {place.layer}: the model has {len(modules.layers)}, from 0 on")
    with ExitStack() as stack:
        for place, hook in hooks.items():
            handle = _REGISTER[place.part](model, modules, place.layer, hook)
            stack.callback(handle.remove)
        yield


@contextmanager
def recorded(
    model: PreTrainedModel, places: Sequence[Place], columns: slice = slice(None)
) -> Iterator[dict[Place, torch.Tensor]]:
    """Within it, the dictionary it gives holds what stood at each place when the model last read.

    Args:
        model: The model.
        places: What to keep.
        columns: Which tokens of each row.
    """
    kept: dict[Place, torch.Tensor] = {}

    def keeper(place: Place) -> Hook:
        def keep(found: torch.Tensor) -> None:
            kept[place] = found[:, columns].clone()

        return keep

    with hooked(model, {place: keeper(place) for place in places}):
        yield kept


def residual_stream(model: PreTrainedModel) -> list[Place]:
    """The stream before the first layer, and after each one."""
    layers = len(modules_of(model).layers)
    return [Place(INTO, 0), *(Place(OUT_OF, layer) for layer in range(layers))]


@torch.inference_mode()
def unembedder(loaded: LoadedModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """Final norm and unembedding: residual stream (…, hidden size) to logits (…, vocabulary).

    Raises:
        MemindexError: After the last layer they don't give the model's own logits, so that they would mean nothing on
            the layers before.
    """
    model, modules = loaded.model, modules_of(loaded.model)

    def unembed(stream: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = modules.unembedding(modules.final_norm(stream))
        return logits

    last = Place(OUT_OF, len(modules.layers) - 1)
    ids = torch.arange(min(8, loaded.facts["vocabulary"]), device=model.device)[None]
    with recorded(model, [last]) as kept:
        expected = model(input_ids=ids, use_cache=False).logits.float()
    far = (unembed(kept[last]).float() - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    # NaN logits of the model itself are told when the rows are read.
    if far > _TOLERANCE.get(model.dtype, 1e-4):
        raise MemindexError(
            f"{loaded.model_id} changes its logits after the unembedding ({model.config.model_type}), which the probe "
            "does not know how to do on other layers"
        )
    return unembed


def _into(_model: PreTrainedModel, modules: Modules, layer: int, hook: Hook) -> Any:
    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Some architectures name what they pass.
        found = hook(args[0] if args else kwargs["hidden_states"])
        if found is None:
            return None
        return ((found, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": found})

    return modules.layers[layer].register_forward_pre_hook(before, with_kwargs=True)


def _out_of(_model: PreTrainedModel, modules: Modules, layer: int, hook: Hook) -> Any:
    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        # Some architectures return more beside it.
        several = isinstance(output, tuple)
        found = hook(output[0] if several else output)
        return found if found is None or not several else (found, *output[1:])

    return modules.layers[layer].register_forward_hook(after)


def _heads(model: PreTrainedModel, modules: Modules, layer: int, hook: Hook) -> Any:
    heads = int(model.config.get_text_config().num_attention_heads)

    def before(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> Any:
        together = args[0]
        if together.shape[-1] % heads:
            raise MemindexError(
                f"the {heads} heads of a {model.config.model_type} layer can't be told apart in "
                f"{together.shape[-1]} numbers"
            )
        # Queries have heads of their own also where keys and values are shared, so every head has its part here.
        found = hook(together.view(*together.shape[:-1], heads, -1))
        return None if found is None else (found.flatten(-2), *args[1:])

    return modules.attention_output[layer].register_forward_pre_hook(before)


_REGISTER = {INTO: _into, OUT_OF: _out_of, HEADS: _heads}
