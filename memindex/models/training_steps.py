"""The steps of a training: where their windows come from, what is done with them, and how a GPU is kept busy.

A small model's step is a few thousand kernels of some microseconds each, which Python can't start as fast as a GPU ends
them. After the first steps one is recorded as a CUDA graph, and the others repeat it. The token stream lies on the GPU.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

import memindex.models.torch_setup  # noqa: F401

import numpy as np
import numpy.typing as npt
import torch
from torch._dynamo.exc import TorchDynamoException
from transformers import PreTrainedModel

from memindex.errors import MemindexError
from memindex.models.attention import attending_to_slots
from memindex.models.cross_entropy import next_token_loss
from memindex.models.modules import lists_of_modules
from memindex.models.stream import TokenStream

#: FLOPs from which torch.compile, which takes 4 to 11 s for a layer and its gradient, pays (docs/benchmarks.md).
COMPILE_FROM = 2e15

#: Steps before one is recorded: they allocate what libraries and the optimizer keep.
_BEFORE = 3

#: Share of a GPU's free memory that the token stream may take.
_SHARE = 0.25


class Windows:
    """The windows of each step, on the model's device.

    Args:
        stream: The tokens.
        starts: int64 (windows,), where each begins, in their order.
        length: Tokens of a window.
        batch_size: Windows of a step.
        vocabulary: Ids that the model knows.
        device: The model's.
    """

    def __init__(
        self,
        stream: TokenStream,
        starts: npt.NDArray[np.int64],
        length: int,
        batch_size: int,
        vocabulary: int,
        device: torch.device,
    ) -> None:
        self._stream, self._starts, self._length = stream, starts, length
        self._size, self._vocabulary, self._device = batch_size, vocabulary, device
        self._there = self._on_gpu() if device.type == "cuda" else None
        self.steps = -(-len(starts) // batch_size)

    def rows(self, step: int) -> range:
        """Numbers of the windows of a step."""
        return range(step * self._size, min((step + 1) * self._size, len(self._starts)))

    def __call__(self, step: int) -> torch.Tensor:
        """Windows of a step, int64 (windows, length); MemindexError for an id outside the vocabulary."""
        rows = self.rows(step)
        if self._there is not None:
            ids, starts, within = self._there
            return ids[starts[rows.start : rows.stop, None] + within].long()
        found = self._stream.windows(self._starts[rows.start : rows.stop], self._length)
        self._check(int(found.max()))
        return torch.from_numpy(found).to(self._device)

    def _on_gpu(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        free, _ = torch.cuda.mem_get_info(self._device)
        if 4 * len(self._stream) > _SHARE * free:
            return None
        ids = torch.empty(len(self._stream), dtype=torch.int32, device=self._device)
        for first, part in self._stream.parts():
            ids[first : first + len(part)] = torch.from_numpy(part).to(self._device)
        self._check(int(ids.max()))
        starts = torch.from_numpy(self._starts).to(self._device)
        return ids, starts, torch.arange(self._length, device=self._device)

    def _check(self, largest: int) -> None:
        if largest >= self._vocabulary:
            raise MemindexError(
                f"the corpus holds token id {largest}, the model's vocabulary ends at {self._vocabulary - 1}; "
                "build the model with the index's vocabulary"
            )


class Stepper:
    """Takes the steps of a model.

    Args:
        model: The model, on its device.
        rate: Peak learning rate.
        weight_decay: AdamW's, on matrices only.
        clip: Largest norm of the gradient.
        compiled: Whether torch.compile prepares the layers.
    """

    def __init__(self, model: PreTrainedModel, rate: float, weight_decay: float, clip: float, compiled: bool) -> None:
        self._model, self._peak, self._clip = model, rate, clip
        self._on_gpu = model.device.type == "cuda"
        # A recorded step reads its learning rate where it stood when it was recorded.
        self._rate: Any = torch.tensor(rate, device=model.device) if self._on_gpu else rate
        parameters = list(model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=self._rate, betas=(0.9, 0.95), fused=True, capturable=self._on_gpu
        )
        depth = model.config.get_text_config().num_hidden_layers
        self._layers = list(next(lists_of_modules(model, depth), [])) if compiled and self._on_gpu else []
        if self._layers:
            # What was compiled for a model of another width would make this one's be compiled for all widths: slower.
            torch.compiler.reset()
        for layer in self._layers:
            layer.compile()
        self._graph: torch.cuda.CUDAGraph | None = None
        # What is recorded must not touch the stream that everything else runs in.
        self._stream = torch.cuda.Stream(model.device) if self._on_gpu else None  # type: ignore[no-untyped-call]
        self._given = self._loss = torch.empty(0)
        self._taken = 0

    @property
    def compiled(self) -> bool:
        """Whether the layers are compiled."""
        return bool(self._layers)

    def __call__(self, tokens: torch.Tensor, share: float) -> torch.Tensor:
        """Learn from windows, int64 (windows, length), at a share of the peak rate; the loss, in nats per token."""
        if self._stream is None:
            for group in self.optimizer.param_groups:
                group["lr"] = self._peak * share
            return self._step(tokens)
        outside = torch.cuda.current_stream(self._model.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            self._rate.fill_(self._peak * share)
            loss = self._recorded_or_not(tokens)
        outside.wait_stream(self._stream)
        tokens.record_stream(self._stream)
        return loss

    def _recorded_or_not(self, tokens: torch.Tensor) -> torch.Tensor:
        self._taken += 1
        if self._graph is None and self._taken == _BEFORE + 1:
            self._record(tokens)
        if self._graph is not None and tokens.shape == self._given.shape:
            self._given.copy_(tokens)
            self._graph.replay()
            return self._loss
        try:
            return self._step(tokens)
        except TorchDynamoException as error:
            # Layers and their gradients are compiled before the optimizer takes the step: it can be begun again.
            if not self._layers:
                raise
            reason = str(error).strip().splitlines() or [type(error).__name__]
            warnings.warn(f"torch.compile failed, so training goes on without it: {reason[0]}", stacklevel=4)
            self._uncompile()
            return self._step(tokens)

    def close(self) -> None:
        """Take the compiled layers and the recorded step from the model."""
        self._graph = None
        self._uncompile()
        self.optimizer.zero_grad(set_to_none=True)

    def _uncompile(self) -> None:
        for layer in self._layers:
            layer._compiled_call_impl = None
        self._layers = []

    def state(self) -> dict[str, Any]:
        """What the optimizer remembers."""
        state: dict[str, Any] = self.optimizer.state_dict()["state"]
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Remember that instead."""
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        for group in self.optimizer.param_groups:
            # Loading has put a copy there, which nothing would change any more.
            group["lr"] = self._rate

    def _step(self, tokens: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        # While a step is recorded, transformers would make masks, which the fast attention kernels don't take.
        plain = attending_to_slots(self._model) if self._on_gpu else nullcontext()
        with plain, torch.autocast(self._model.device.type, dtype=torch.bfloat16, enabled=self._on_gpu):
            loss = next_token_loss(self._model, tokens)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self.optimizer.step()
        return loss.detach()

    def _record(self, tokens: torch.Tensor) -> None:
        """Record a step on tokens of this shape; it is not taken."""
        self._given = tokens.clone()
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize(self._model.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self._loss = self._step(self._given)
        self._graph = graph
