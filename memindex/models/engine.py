"""The two ways to score: on key-value slots, and by the model's own forward pass alone.

The first is for architectures whose attention goes through transformers' attention functions, which all families here
do; it is tried on a few tokens before it is used, against the model's own logits. The second needs nothing but a causal
model.
"""

from __future__ import annotations

from typing import Protocol

import memindex.models.torch_setup  # noqa: F401

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from memindex.models.attention import AttentionModules, Slots, attending_to_slots
from memindex.models.decoding import Lengths, repeat
from memindex.models.loading import LoadedModel
from memindex.models.reading import BYTES_PER_LOGIT, refuse_nan, summarize, unembedding
from memindex.models.sampling import Decoding
from memindex.models.scores import Part
from memindex.models.slot_engine import CPU_ROWS, SlotEngine, on_device

#: FLOPs from which torch.compile, which takes some tens of seconds, pays.
COMPILE_FROM = 2e16

#: Bytes of logits at a time where nothing reduces them on the way.
_LOGITS = {"cpu": 1 << 30, "cuda": 1 << 33}

#: How far logits of the two ways may be apart, as a share of the largest: rounding, not another model.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}

#: What the head's output is multiplied with in the trial; a power of two, so that nothing is rounded.
_LARGE = 64


class Engine(Protocol):
    """A way to score rows of one shape."""

    batch_size: int
    compiled: bool

    def run(self, tokens: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], part: Part) -> None:
        """Score the rows of `tokens`, int64 (rows, prefix + suffix), into `part`."""

    def close(self) -> None:
        """Give back what the model was given."""


def compiling_pays(loaded: LoadedModel, lengths: Lengths, rows: int) -> bool:
    """Whether torch.compile saves more time than it takes, with so many rows to score."""
    tokens = rows * (lengths.prefix + 2 * lengths.suffix)
    return bool(2 * loaded.model.num_parameters() * tokens > COMPILE_FROM)


def choose_engine(
    loaded: LoadedModel,
    lengths: Lengths,
    decoding: Decoding,
    rows: int,
    batch_size: int | None,
    compiled: bool | None,
) -> Engine:
    """The fast way where the architecture allows it, else the slow one."""
    modules = layers_with_slots(loaded, lengths) if loaded.attention == "sdpa" else None
    if modules is None:
        return RepeatEngine(loaded, lengths, decoding, batch_size)
    if compiled is None:
        compiled = compiling_pays(loaded, lengths, rows)
    on_gpu = loaded.model.device.type == "cuda"
    return SlotEngine(loaded, lengths, decoding, modules, rows, batch_size, compiled and on_gpu)


@torch.inference_mode()
def layers_with_slots(loaded: LoadedModel, lengths: Lengths) -> AttentionModules | None:
    """The attention modules, if reading and decoding on slots gives the model's own logits; else None."""
    model, tokens = loaded.model, lengths.prefix + lengths.suffix
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(0, loaded.facts["vocabulary"], (2, tokens), generator=random).to(model.device)
    expected = _logits_of_head(model, ids[:, :-1])
    if expected is None:
        return None
    found: AttentionModules = []
    try:
        with attending_to_slots(model):
            model.base_model(input_ids=ids[:, :-1], use_cache=False, record=found)
            if len(found) != loaded.facts["layers"]:
                return None
            got = _decoded_logits(loaded, ids, Slots(found, 2, lengths.slots, next(model.parameters())))
    except torch.OutOfMemoryError:
        raise
    # An architecture may fail in any way on what it does not know; then the slow way is right.
    except Exception:
        return None
    far = (got - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    # NaN logits of the model itself are no matter of the way: they are told when the rows are read.
    return found if far <= _TOLERANCE.get(model.dtype, 1e-3) or expected.isnan().any() else None


def _logits_of_head(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor | None:
    """Logits after `ids`; None where the head's own output is not yet the logits.

    Some architectures scale or cap what the head gives. A cap shows only in large logits, so these are made large.
    """
    seen: list[torch.Tensor] = []

    def enlarge(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        seen.append(output * _LARGE)
        return seen[-1]

    head = model.get_output_embeddings()
    if head is None:
        return None
    hook = head.register_forward_hook(enlarge)
    try:
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[:, -1]
    finally:
        hook.remove()
    same = len(seen) == 1 and torch.allclose(logits.float(), seen[0][:, -1].float(), rtol=1e-6, equal_nan=True)
    return logits / _LARGE if same else None


def _decoded_logits(loaded: LoadedModel, ids: torch.Tensor, slots: Slots) -> torch.Tensor:
    """Logits after all but the last of `ids`, the last one read as decoding does, over a wrong token's slot."""
    base = loaded.model.base_model
    try:
        slots.bind(0, len(ids))
        wrong = ids[:, :-1].clone()
        wrong[:, -1] = 0
        base(input_ids=wrong, use_cache=False)
        place = torch.full((len(ids),), ids.shape[1] - 2, device=ids.device)
        options = {"position_ids": place[:, None], "use_cache": False, "slots": place}
        hidden = base(input_ids=ids[:, -2:-1], **options).last_hidden_state
        logits: torch.Tensor = unembedding(loaded.model)(hidden)[:, -1]
        return logits
    finally:
        slots.release()


class RepeatEngine:
    """Reads and decodes with nothing but the model's own forward pass."""

    compiled = False

    def __init__(self, loaded: LoadedModel, lengths: Lengths, decoding: Decoding, batch_size: int | None) -> None:
        self._model, self._lengths, self._decoding = loaded.model, lengths, decoding
        logits = BYTES_PER_LOGIT * loaded.facts["vocabulary"] * (lengths.prefix + lengths.suffix)
        most = _LOGITS.get(loaded.model.device.type, 1 << 30) // logits
        self.batch_size = batch_size or max(1, min(CPU_ROWS, most))

    @torch.inference_mode()
    def run(self, tokens: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], part: Part) -> None:
        """Score rows; see Engine."""
        device, prefix = self._model.device, self._lengths.prefix
        for begin in range(0, len(tokens), self.batch_size):
            rows = np.arange(begin, min(begin + self.batch_size, len(tokens)))
            given = on_device(device, tokens[rows])
            logits = self._model(input_ids=given[:, :-1], use_cache=False).logits
            # The logits are there already: they stand in for hidden states.
            reading = summarize(nn.Identity(), logits, given, prefix, logits[..., 0].numel())
            refuse_nan(reading.logprobs.isnan().any())
            part.read(rows, reading)
            answer = repeat(self._model, given, prefix, reading.argmax, self._decoding, on_device(device, ids[rows]))
            part.finish(rows, answer)

    def close(self) -> None:
        """Nothing was given."""
