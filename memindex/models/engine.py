"""The two ways to score: on key-value slots, and by the model's own forward pass alone.

The first is for architectures whose attention goes through transformers' attention functions, which all families here
do; it is tried on a few tokens before it is used, against the model's own logits. The second needs nothing but a causal
model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from memindex.errors import MemindexError
from memindex.models.attention import Slots, attending_to_slots, bytes_per_row
from memindex.models.decoding import Decoder, Open, repeat
from memindex.models.loading import LoadedModel
from memindex.models.reading import CHUNK, Summary, Unembed, read, refuse_nan, summarize
from memindex.models.sampling import Decoding
from memindex.models.scores import Part

#: Most rows per forward pass, and most rows decoded at a time, on a GPU.
READ_ROWS, DECODE_ROWS = 1024, 4096

#: Rows per forward pass on the CPU.
CPU_ROWS = 256

#: FLOPs from which torch.compile, which takes some tens of seconds, pays.
COMPILE_FROM = 2e16

#: How far logits of the two ways may be apart, as a share of the largest: rounding, not another model.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class Engine(Protocol):
    """A way to score rows of one shape."""

    batch_size: int
    compiled: bool

    def run(self, tokens: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], part: Part) -> None:
        """Score the rows of `tokens`, int64 (rows, prefix + suffix), into `part`."""

    def close(self) -> None:
        """Give back what the model was given."""


@dataclass(frozen=True)
class Shape:
    """Lengths in tokens, and how continuations are chosen."""

    prefix: int
    suffix: int
    decoding: Decoding

    @property
    def slots(self) -> int:
        """Positions that slots are kept for; the last token is never read, and kernels like multiples of 8."""
        return -(-(self.prefix + self.suffix - 1) // 8) * 8


def choose_engine(
    loaded: LoadedModel,
    prefix: int,
    suffix: int,
    decoding: Decoding,
    rows: int,
    batch_size: int | None,
    compiled: bool | None,
) -> Engine:
    """The fast way where the architecture allows it, else the slow one."""
    shape = Shape(prefix, suffix, decoding)
    modules = _layers_with_slots(loaded, shape) if loaded.attention == "sdpa" else None
    if modules is None:
        return RepeatEngine(loaded, shape, batch_size)
    if compiled is None:
        tokens = rows * (prefix + 2 * suffix)
        compiled = 2 * loaded.model.num_parameters() * tokens > COMPILE_FROM
    return SlotEngine(loaded, shape, modules, rows, batch_size, compiled and loaded.model.device.type == "cuda")


Modules = list[tuple[nn.Module, int, int, int]]


@torch.inference_mode()
def _layers_with_slots(loaded: LoadedModel, shape: Shape) -> Modules | None:
    """The attention modules, if reading and decoding on slots gives the model's own logits; else None."""
    model, tokens = loaded.model, shape.prefix + shape.suffix
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(0, loaded.facts["vocabulary"], (2, tokens), generator=random).to(model.device)
    expected = model(input_ids=ids[:, :-1], use_cache=False).logits[:, -1]
    found: Modules = []
    try:
        with attending_to_slots(model):
            model.base_model(input_ids=ids[:, :-1], use_cache=False, record=found)
            if len(found) != loaded.facts["layers"]:
                return None
            got = _one_step(model, ids, Slots(found, 2, shape.slots, next(model.parameters())))
    # An architecture may fail in any way on what it does not know; then the slow way is right.
    except Exception:
        return None
    far = (got - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    # NaN logits are no matter of the way: they are told when the rows are read.
    return None if far > _TOLERANCE.get(model.dtype, 1e-3) else found


def _one_step(model: PreTrainedModel, ids: torch.Tensor, slots: Slots) -> torch.Tensor:
    """Logits after all but the last of `ids`, the last one read as decoding does, over a wrong token's slot."""
    try:
        slots.bind(0, len(ids))
        place = torch.full((len(ids),), ids.shape[1] - 2, device=ids.device)
        changed = ids[:, :-1].clone()
        changed[:, -1] = 0
        model.base_model(input_ids=changed, use_cache=False)
        hidden = model.base_model(
            input_ids=ids[:, -2:-1], position_ids=place[:, None], use_cache=False, slots=place
        ).last_hidden_state
        logits: torch.Tensor = _unembed(model)(hidden)[:, -1]
        return logits
    finally:
        slots.release()


def _unembed(model: PreTrainedModel) -> Unembed:
    head = model.get_output_embeddings()
    if head is None:
        raise MemindexError(f"{type(model).__name__} has no output embedding: it is no causal language model")
    unembed: Unembed = head
    return unembed


class SlotEngine:
    """Reads batches, keeps the keys and values of rows with an open end, and decodes many of these at a time."""

    def __init__(
        self,
        loaded: LoadedModel,
        shape: Shape,
        modules: Modules,
        rows: int,
        batch_size: int | None,
        compiled: bool,
    ) -> None:
        self.compiled = compiled
        self._model, self._shape = loaded.model, shape
        self.batch_size, self._rows = _sizes(loaded, shape, modules, rows, batch_size)
        self._slots = Slots(modules, self._rows, shape.slots, next(loaded.model.parameters()))
        self._unembed = _unembed(loaded.model)
        self._layers = _layers(loaded.model, len(modules)) if compiled else None
        for layer in self._layers or ():
            layer.compile()
        self._decoder = Decoder(
            loaded.model, self._unembed, self._slots, self._rows, shape.prefix, shape.suffix, shape.decoding
        )
        self._functions: dict[Summary, Summary] = {}
        self._waiting: list[_Waiting] = []

    @torch.inference_mode()
    def run(self, tokens: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], part: Part) -> None:
        """Score rows; see Engine."""
        self._waiting.clear()
        with attending_to_slots(self._model):
            for begin in range(0, len(tokens), self.batch_size):
                where = slice(begin, min(begin + self.batch_size, len(tokens)))
                if self._kept() + self.batch_size > self._rows:
                    self._decode(part)
                self._read(tokens[where], ids[where], where, part)
            self._decode(part)

    def _compile(self, function: Summary) -> Summary:
        if not self.compiled:
            return function
        if function not in self._functions:
            self._functions[function] = torch.compile(function)
        return self._functions[function]

    def close(self) -> None:
        """Take the slots and the compiled layers from the model."""
        self._slots.release()
        for layer in self._layers or ():
            layer._compiled_call_impl = None

    def _kept(self) -> int:
        return sum(len(waiting.rows) for waiting in self._waiting)

    def _read(self, tokens: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], where: slice, part: Part) -> None:
        count = len(tokens)
        if self.compiled and count < self.batch_size:
            # A compiled model wants the one shape it was compiled for.
            tokens = np.concatenate([tokens, np.repeat(tokens[:1], self.batch_size - count, axis=0)])
        given = _to(self._model.device, tokens)
        begin = self._kept()
        self._slots.bind(begin, len(tokens))
        reading = read(self._model, self._unembed, given, self._shape.prefix, self._compile)
        refuse_nan(reading.logprobs[:count].isnan().any())
        part.read(where, reading)
        waiting, done = _divide(reading.argmax[:count], given[:count], ids, where.start, self._shape)
        if len(done):
            part.finish(where.start + done.cpu().numpy(), reading.argmax[done])
        if len(waiting.rows):
            if len(done):
                self._slots.arrange(begin, waiting.kept)
            self._waiting.append(waiting)

    def _decode(self, part: Part) -> None:
        if not self._waiting:
            return
        all_rows = _Waiting(*(torch.cat(column) for column in zip(*(w.columns() for w in self._waiting), strict=True)))
        self._waiting.clear()
        column = all_rows.column
        order = column.argsort(stable=True)
        if not bool((order[1:] > order[:-1]).all()):
            self._slots.arrange(0, order)
        ordered = Open(all_rows.token[order], column[order], all_rows.ids[order])
        lacking = (self._shape.suffix - 1 - ordered.column).tolist()
        answer, nan = self._decoder.decode(ordered, lacking)
        refuse_nan(nan)
        places = torch.arange(self._shape.suffix, device=column.device)
        known = all_rows.known[order]
        part.finish(all_rows.rows[order].cpu().numpy(), torch.where(places <= ordered.column[:, None], known, answer))


@dataclass(frozen=True)
class _Waiting:
    """Rows of a batch that were read and have an open end; all tensors int64.

    Attributes:
        rows: (rows,), their numbers.
        kept: (rows,), their places in the batch.
        token: (rows,), the last token that is known.
        column: (rows,), its place in the continuation; -1 for the prefix's last token.
        ids: (rows,), ids of the sequences.
        known: (rows, suffix), the continuation, right up to `column`.
    """

    rows: torch.Tensor
    kept: torch.Tensor
    token: torch.Tensor
    column: torch.Tensor
    ids: torch.Tensor
    known: torch.Tensor

    def columns(self) -> tuple[torch.Tensor, ...]:
        """All of them, in order."""
        return self.rows, self.kept, self.token, self.column, self.ids, self.known


def _divide(
    argmax: torch.Tensor, tokens: torch.Tensor, ids: npt.NDArray[np.int64], first: int, shape: Shape
) -> tuple[_Waiting, torch.Tensor]:
    """The rows with an open end, and the places of the others, whose continuation is the argmax."""
    known, suffix = argmax, tokens[:, shape.prefix :]
    if shape.decoding.seed is None:
        column = (known == suffix).long().cumprod(dim=1).sum(dim=1)
        token = known.gather(1, column.clamp(max=shape.suffix - 1)[:, None])[:, 0]
    else:
        # Nothing is known before it is drawn.
        column, token = torch.full_like(known[:, 0], -1), tokens[:, shape.prefix - 1]
    # Rows that leave at the last position are known already, as the argmax there is.
    is_open = column < shape.suffix - 1
    kept = is_open.nonzero()[:, 0]
    of = _to(argmax.device, ids)
    return _Waiting(kept + first, kept, token[kept], column[kept], of[kept], known[kept]), (~is_open).nonzero()[:, 0]


def _sizes(loaded: LoadedModel, shape: Shape, modules: Modules, rows: int, batch_size: int | None) -> tuple[int, int]:
    """(rows per forward pass, rows of slots): no more than there is to do, nor than the free memory holds."""
    model = loaded.model
    if model.device.type != "cuda":
        size = min(batch_size or CPU_ROWS, rows)
        return size, size
    width = model.dtype.itemsize
    kept = bytes_per_row(modules, shape.slots, width)
    # The widest activations of a layer: a gated MLP's three, attention's four, and the residual stream.
    used = shape.slots * loaded.facts["hidden_size"] * width * 24
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(model.device)
    # Beside the rows there are the logits of a chunk, in both precisions.
    free = max(0, free * 4 // 5 - CHUNK * 12)
    size = batch_size or int(max(1, min(READ_ROWS, free // (kept + used))))
    size = min(size, rows)
    most = int(max(size, min(DECODE_ROWS, (free - size * used) // kept)))
    return size, min(most, -(-rows // size) * size)


def _layers(model: PreTrainedModel, count: int) -> list[nn.Module]:
    """The model's layers; none where they don't stand in one list."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    return list(lists[0]) if lists else []


def _to(device: torch.device, ids: npt.NDArray[np.int64]) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(ids))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


class RepeatEngine:
    """Reads and decodes with nothing but the model's own forward pass."""

    compiled = False

    def __init__(self, loaded: LoadedModel, shape: Shape, batch_size: int | None) -> None:
        self._model, self._shape = loaded.model, shape
        logits = 12 * loaded.facts["vocabulary"] * (shape.prefix + shape.suffix)
        most = 1 << 32 if loaded.model.device.type == "cuda" else 1 << 30
        self.batch_size = batch_size or max(1, min(CPU_ROWS, most // logits))

    @torch.inference_mode()
    def run(self, tokens: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], part: Part) -> None:
        """Score rows; see Engine."""
        for begin in range(0, len(tokens), self.batch_size):
            where = slice(begin, min(begin + self.batch_size, len(tokens)))
            given = _to(self._model.device, tokens[where])
            logits = self._model(input_ids=given[:, :-1], use_cache=False).logits
            # The logits are there already: they stand in for hidden states.
            reading = summarize(nn.Identity(), logits, given, self._shape.prefix, logits[..., 0].numel())
            refuse_nan(reading.logprobs.isnan().any())
            part.read(where, reading)
            of = _to(self._model.device, ids[where])
            answer = repeat(self._model, given, self._shape.prefix, reading.argmax, self._shape.decoding, of)
            part.finish(np.arange(where.start, where.stop), answer)

    def close(self) -> None:
        """Nothing was given."""
