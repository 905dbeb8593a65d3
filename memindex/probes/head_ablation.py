"""Head ablation: what a model loses when one attention head says something else.

One head's output, before the output projection, is replaced at every token: by the mean of the other heads of its layer
(Chen, Han and Miyao, arXiv 2603.21658), by nothing (zero), or by its own mean over other text (mean). The model then
reads prefix and continuation once: what it would still generate is known up to the first token that it would not.

Layers below the head's are not read again: a clean pass leaves what goes into every layer, and reading starts there,
with several heads of a layer side by side as rows of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from memindex.errors import MemindexError
from memindex.models.loading import LoadedModel
from memindex.models.modules import Modules, modules_of
from memindex.probes.batches import Progress, in_batches, rows_that_fit
from memindex.probes.hooks import HEADS, Place, hooked, unembedder
from memindex.probes.suffixes import Unembed, checked, choose, kept

OTHERS, ZERO, MEAN, IDENTITY = "others", "zero", "mean", "identity"
#: What a head can be replaced by; identity is for checking that nothing else changes.
REPLACEMENTS = (OTHERS, ZERO, MEAN, IDENTITY)

#: Architectures with a norm after the output projection: it rescales what the other heads said.
NORM_AFTER = frozenset({"olmo2", "olmo3"})


@dataclass(frozen=True)
class Ablated:
    """What each head is needed for; all (rows, layers, heads).

    Attributes:
        right: int32, tokens of the continuation that are still the likeliest, teacher-forced.
        kept: int32, those before the first that is not.
        rescaled: float32, factor that the norm after the output projection puts on the other heads, mean over tokens; 1
            for architectures without such a norm.
        batch_size: Rows per forward pass, heads counted (the smallest used, when memory forced it down).
    """

    right: npt.NDArray[np.int32]
    kept: npt.NDArray[np.int32]
    rescaled: npt.NDArray[np.float32]
    batch_size: int


def ablate_heads(
    loaded: LoadedModel,
    prefixes: npt.NDArray[Any],
    continuations: npt.NDArray[Any],
    replacement: str = OTHERS,
    means: torch.Tensor | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Ablated:
    """Replace every head of every layer in turn.

    Args:
        loaded: The model.
        prefixes: Ids given to the model, integers of shape (rows, prefix).
        continuations: Ids that it emits after them, integers of shape (rows, tokens).
        replacement: others, zero, mean or identity.
        means: What heads say in the mean, as `head_means` gives it; for replacement mean.
        batch_size: Rows per forward pass, where a sequence with one head replaced is a row; None chooses by the free
            memory. On a GPU it is halved when memory runs out.
        progress: Called after every batch with (sequences done, sequences in all).

    Raises:
        MemindexError: An unknown replacement, a single head with no others, shapes that don't fit each other, ids
            outside the vocabulary, more tokens than the model reads, a model whose layers or heads can't be found, NaN
            logits, or a GPU too small for one sequence.
    """
    heads = heads_of(loaded)
    if replacement not in REPLACEMENTS:
        raise MemindexError(f"unknown replacement {replacement!r}; known: {', '.join(REPLACEMENTS)}")
    if replacement == OTHERS and heads == 1:
        raise MemindexError(
            f"{loaded.model_id} has one head per layer, and no others to replace it by: use zero or mean"
        )
    if (means is None) == (replacement == MEAN):
        raise MemindexError("the replacement mean, and no other one, needs means: give what head_means gives")
    tokens = checked(loaded, prefixes, continuations)
    shape = (len(tokens), len(modules_of(loaded.model).layers), heads)
    found = Ablated(np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.ones(shape, np.float32), 0)
    size = batch_size or rows_that_fit(loaded, tokens.shape[1])
    replaced = _Replaced(replacement, means)
    step = partial(_ablate, loaded, unembedder(loaded), tokens, continuations.shape[1], (replaced, size), found)
    rows = in_batches(len(tokens), max(1, size // heads), step, progress)
    return Ablated(found.right, found.kept, found.rescaled, min(size, rows * heads))


def heads_of(loaded: LoadedModel) -> int:
    """Attention heads per layer."""
    return int(loaded.model.config.get_text_config().num_attention_heads)


@torch.inference_mode()
def head_means(loaded: LoadedModel, tokens: npt.NDArray[Any], batch_size: int = 32) -> torch.Tensor:
    """What every head says in the mean over all tokens of some text.

    Args:
        loaded: The model.
        tokens: Ids, integers of shape (rows, tokens).
        batch_size: Rows per forward pass.

    Returns:
        float32 (layers, heads, head size).
    """
    layers = len(modules_of(loaded.model).layers)
    sums: dict[int, torch.Tensor] = {}

    def adder(layer: int) -> Callable[[torch.Tensor], None]:
        def add(said: torch.Tensor) -> None:
            sums[layer] = sums.get(layer, torch.zeros((), device=said.device)) + said.double().sum(dim=(0, 1))

        return add

    with hooked(loaded.model, {Place(HEADS, layer): adder(layer) for layer in range(layers)}):
        for start in range(0, len(tokens), batch_size):
            ids = torch.from_numpy(np.array(tokens[start : start + batch_size], dtype=np.int64))
            loaded.model.base_model(input_ids=ids.to(loaded.model.device), use_cache=False)
    return torch.stack([sums[layer] / tokens.size for layer in range(layers)]).float()


@dataclass(frozen=True)
class _Replaced:
    """How heads are replaced."""

    by: str
    means: torch.Tensor | None

    def __call__(self, layer: int, heads: range, said: torch.Tensor) -> torch.Tensor:
        """`said` (heads · rows, tokens, all heads, size), whose n-th part of the rows loses the n-th of `heads`."""
        parts = said.view(len(heads), -1, *said.shape[1:]).clone()
        for part, head in zip(parts, heads, strict=True):
            part[:, :, head] = self._other(layer, head, part)
        return parts.view(said.shape)

    def _other(self, layer: int, head: int, said: torch.Tensor) -> torch.Tensor:
        own = said[:, :, head]
        if self.by == OTHERS:
            rest = said.float().sum(dim=2) - own.float()
            return (rest / (said.shape[2] - 1)).to(said.dtype)
        if self.means is not None:
            return self.means[layer, head].to(said).expand_as(own)
        return torch.zeros_like(own) if self.by == ZERO else own.clone()


@torch.inference_mode()
def _ablate(
    loaded: LoadedModel,
    unembed: Unembed,
    tokens: torch.Tensor,
    following: int,
    how: tuple[_Replaced, int],
    found: Ablated,
    rows: slice,
) -> None:
    replaced, size = how
    model, modules = loaded.model, modules_of(loaded.model)
    given, heads = tokens[rows].to(model.device), found.kept.shape[2]
    with _calls(modules) as calls:
        model.base_model(input_ids=given[:, :-1], use_cache=False)
    at_once = max(1, min(heads, size // len(given)))
    target = given[:, -following:]
    for layer in range(len(modules.layers)):
        for first in range(0, heads, at_once):
            some = range(first, min(first + at_once, heads))
            with (
                _norms(modules.attention_output[layer], model.config.model_type in NORM_AFTER) as norms,
                hooked(model, {Place(HEADS, layer): partial(replaced, layer, some)}),
            ):
                stream = _from_layer(modules, calls, layer, len(some), len(given))
            chosen = choose(loaded, unembed, stream[:, -following:], target.repeat(len(some), 1))
            where = (rows, layer, slice(some.start, some.stop))
            found.right[where] = _by_row(chosen.sum(dim=1), len(some))
            found.kept[where] = _by_row(kept(chosen), len(some))
            if norms:
                clean = calls[layer].norm.repeat(len(some), 1)
                found.rescaled[where] = _by_row((clean / norms[0]).mean(dim=1), len(some))


def _by_row(values: torch.Tensor, heads: int) -> npt.NDArray[Any]:
    """Values of (heads · rows,) as (rows, heads)."""
    by_row: npt.NDArray[Any] = values.view(heads, -1).T.cpu().numpy()
    return by_row


@dataclass
class _Call:
    """How a layer was called, and the size of what its attention wrote, (rows, tokens)."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    norm: torch.Tensor


@contextmanager
def _calls(modules: Modules) -> Iterator[list[_Call]]:
    """Within it, what every layer is called with is kept."""
    calls: list[_Call] = []

    def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(_Call(args, kwargs, torch.empty(0)))

    def measure(_module: nn.Module, _args: Any, output: torch.Tensor) -> None:
        calls[-1].norm = _size(output)

    handles = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in modules.layers]
    handles += [output.register_forward_hook(measure) for output in modules.attention_output]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _norms(output: nn.Module, wanted: bool) -> Iterator[list[torch.Tensor]]:
    """Within it, the size of what the output projection writes is kept, if it is wanted."""
    norms: list[torch.Tensor] = []
    handle = output.register_forward_hook(lambda _module, _args, found: norms.append(_size(found)) if wanted else None)
    try:
        yield norms
    finally:
        handle.remove()


def _size(written: torch.Tensor) -> torch.Tensor:
    return written.float().square().mean(dim=-1).sqrt()


def _from_layer(modules: Modules, calls: list[_Call], layer: int, times: int, rows: int) -> torch.Tensor:
    """The residual stream after the last layer, read from a layer on, every row so many times."""
    stream: torch.Tensor | None = None
    for module, call in zip(modules.layers[layer:], calls[layer:], strict=True):
        args = [_repeated(value, times, rows) for value in call.args]
        kwargs = {name: _repeated(value, times, rows) for name, value in call.kwargs.items()}
        if stream is not None:
            # Some architectures name what they pass.
            if args:
                args[0] = stream
            else:
                kwargs["hidden_states"] = stream
        output = module(*args, **kwargs)
        stream = output[0] if isinstance(output, tuple) else output
    assert stream is not None
    return stream


def _repeated(value: Any, times: int, rows: int) -> Any:
    """What has a row per row (hidden states, masks, positions), so many times; what is shared stays one."""
    if isinstance(value, tuple):
        return tuple(_repeated(part, times, rows) for part in value)
    if isinstance(value, torch.Tensor) and value.ndim > 1 and value.shape[0] == rows and rows > 1:
        return value.repeat(times, *(1 for _ in value.shape[1:]))
    # The hidden states of a single row need it too; what broadcasts, such as its mask, may be repeated as well.
    if isinstance(value, torch.Tensor) and value.ndim > 1 and rows == 1 and value.shape[0] == 1:
        return value.expand(times, *value.shape[1:])
    return value
