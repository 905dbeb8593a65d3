"""Scoring on key-value slots: batches are read, and rows with an open end wait in their slots until many are decoded.

The GPU should never wait for Python. Batches are read one after the other without looking at results; only when the
slots are full does the host learn which rows have an open end. Rows that are done then make room for others, or all
that wait are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import memindex.models.torch_setup  # noqa: F401

import numpy as np
import numpy.typing as npt
import torch

from memindex.models.attention import AttentionModules, Slots, attending_to_slots, bytes_per_row
from memindex.models.decoding import Decoder, Lengths, Open
from memindex.models.loading import LoadedModel
from memindex.models.modules import lists_of_modules
from memindex.models.reading import BYTES_PER_LOGIT, Reading, Summary, logits_at_a_time, read, refuse_nan, unembedding
from memindex.models.sampling import Decoding
from memindex.models.scores import Part
from memindex.models.tensor_rows import TensorRows

#: Rows per forward pass and rows decoded at a time, at most, on a GPU with a model 2,048 wide or wider.
READ_ROWS, DECODE_ROWS = 1024, 4096

#: Rows per forward pass on the CPU.
CPU_ROWS = 256


class SlotEngine:
    """Scores rows of one shape; see `memindex.models.engine.Engine`.

    Args:
        loaded: The model.
        lengths: Tokens of prefix and suffix.
        decoding: How continuations are chosen.
        modules: The attention modules, as `attend` records them.
        rows: Rows that will be scored at a time, at least.
        batch_size: Rows per forward pass; None chooses.
        compiled: Whether torch.compile prepares the layers.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        lengths: Lengths,
        decoding: Decoding,
        modules: AttentionModules,
        rows: int,
        batch_size: int | None,
        compiled: bool,
    ) -> None:
        model = loaded.model
        self.compiled = compiled
        self._model, self._lengths, self._greedy = model, lengths, decoding.seed is None
        self.batch_size, self._most = _sizes(loaded, lengths, modules, rows, batch_size)
        self._slots = Slots(modules, self._most, lengths.slots, next(model.parameters()))
        self._unembed = unembedding(model)
        self._decoder = Decoder(model, self._unembed, self._slots, self._most, lengths, decoding)
        self._functions: dict[Summary, Summary] = {}
        self._layers = list(next(lists_of_modules(model, len(modules)), [])) if compiled else []
        for layer in self._layers:
            layer.compile()
        self._batches: list[_Batch] = []
        self._waiting: list[_Waiting] = []
        self._used = 0

    @torch.inference_mode()
    def run(self, tokens: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], part: Part) -> None:
        """Score rows; see Engine."""
        self._batches.clear()
        self._waiting.clear()
        self._used = 0
        with attending_to_slots(self._model):
            for begin in range(0, len(tokens), self.batch_size):
                rows = np.arange(begin, min(begin + self.batch_size, len(tokens)))
                if self._used + self.batch_size > self._most:
                    self._make_room(part)
                self._read(tokens[rows], ids[rows], rows)
            self._settle(part)
            self._decode(part)

    def close(self) -> None:
        """Take the slots and the compiled layers from the model."""
        self._slots.release()
        for layer in self._layers:
            layer._compiled_call_impl = None

    def _read(self, tokens: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> None:
        count = len(tokens)
        if self.compiled and count < self.batch_size:
            # A compiled model wants the one shape it was compiled for.
            tokens = np.concatenate([tokens, np.repeat(tokens[:1], self.batch_size - count, axis=0)])
        device, first = self._model.device, self._used
        given = on_device(device, tokens)
        self._slots.bind(first, len(tokens))
        reading = read(self._model, self._unembed, given, self._lengths.prefix, self._compile)
        place = torch.arange(first, first + count, device=device)
        self._batches.append(_Batch(reading.taken(slice(count)), given[:count], on_device(device, ids), place, rows))
        self._used += count

    def _make_room(self, part: Part) -> None:
        """Decode what waits, or only move it together where there is little of it."""
        self._settle(part)
        waiting = sum(len(w.rows) for w in self._waiting)
        if 2 * waiting > self._most or waiting + self.batch_size > self._most:
            self._decode(part)
        elif waiting:
            kept = _Waiting.together(self._waiting)
            self._slots.arrange(kept.place)
            self._waiting = [replace(kept, place=torch.arange(waiting, device=kept.place.device))]
        self._used = waiting if self._waiting else 0

    def _settle(self, part: Part) -> None:
        """Hand over what reading told, and the rows that are done with it; keep the others waiting."""
        if not self._batches:
            return
        reading = Reading.together([batch.reading for batch in self._batches])
        given, ids, place = (
            torch.cat([getattr(batch, name) for batch in self._batches]) for name in ("given", "ids", "place")
        )
        rows = np.concatenate([batch.rows for batch in self._batches])
        self._batches.clear()
        refuse_nan(reading.logprobs.isnan().any())
        part.read(rows, reading)
        known, suffix = reading.argmax, given[:, self._lengths.prefix :]
        if self._greedy:
            column = (known == suffix).long().cumprod(dim=1).sum(dim=1)
            token = known.gather(1, column.clamp(max=self._lengths.suffix - 1)[:, None])[:, 0]
        else:
            # Nothing is known before it is drawn.
            column, token = torch.full_like(place, -1), given[:, self._lengths.prefix - 1]
        # Rows that leave at the last position are known already, as the argmax there is.
        is_open = column < self._lengths.suffix - 1
        done, left = (~is_open).nonzero()[:, 0], is_open.nonzero()[:, 0]
        if len(done):
            part.finish(rows[done.cpu().numpy()], known[done])
        if len(left):
            numbers = torch.from_numpy(rows).to(place.device)
            columns = (numbers, place, token, column, ids, known)
            self._waiting.append(_Waiting(*(values[left] for values in columns)))

    def _decode(self, part: Part) -> None:
        if not self._waiting:
            return
        rows = _Waiting.together(self._waiting)
        self._waiting.clear()
        self._used = 0
        # Those that lack most come first.
        rows = rows.taken(rows.column.argsort(stable=True))
        self._slots.arrange(rows.place)
        lacking = (self._lengths.suffix - 1 - rows.column).tolist()
        answer, nan = self._decoder.decode(Open(rows.token, rows.column, rows.ids), lacking)
        columns = torch.arange(self._lengths.suffix, device=answer.device)
        continuation = torch.where(columns <= rows.column[:, None], rows.known, answer)
        refuse_nan(nan)
        part.finish(rows.rows.cpu().numpy(), continuation)

    def _compile(self, function: Summary) -> Summary:
        if not self.compiled:
            return function
        if function not in self._functions:
            self._functions[function] = torch.compile(function)
        return self._functions[function]


@dataclass
class _Batch:
    """Rows that were read: what they say, their tokens, the sequences' ids, their slots, and their numbers."""

    reading: Reading
    given: torch.Tensor
    ids: torch.Tensor
    place: torch.Tensor
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Waiting(TensorRows):
    """Rows that were read and have an open end; all tensors int64.

    Attributes:
        rows: (rows,), their numbers.
        place: (rows,), their slots.
        token: (rows,), the last token that is known.
        column: (rows,), its place in the continuation; -1 for the prefix's last token.
        ids: (rows,), ids of the sequences.
        known: (rows, suffix), the continuation, right up to `column`.
    """

    rows: torch.Tensor
    place: torch.Tensor
    token: torch.Tensor
    column: torch.Tensor
    ids: torch.Tensor
    known: torch.Tensor


def _sizes(
    loaded: LoadedModel, lengths: Lengths, modules: AttentionModules, rows: int, batch_size: int | None
) -> tuple[int, int]:
    """(rows per forward pass, rows of slots): no more than there is to do, nor than the free memory holds."""
    model, hidden = loaded.model, loaded.facts["hidden_size"]
    if model.device.type != "cuda":
        size = min(batch_size or CPU_ROWS, rows)
        return size, size
    width = model.dtype.itemsize
    kept = bytes_per_row(modules, lengths.slots, width)
    # The widest activations of a layer: a gated MLP's three, attention's four, and the residual stream.
    used = lengths.slots * hidden * width * 24
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(model.device)
    free = free * 4 // 5 - logits_at_a_time(model.device) * BYTES_PER_LOGIT
    return fit(free, kept, used, min(4, max(1, 2048 // hidden)), rows, batch_size)


def fit(free: int, kept: int, used: int, share: int, rows: int, batch_size: int | None) -> tuple[int, int]:
    """(rows per forward pass, rows of slots) for so much memory.

    Args:
        free: Bytes to spend.
        kept: Bytes of a row of slots.
        used: Bytes of a row while it is read.
        share: How many times the usual rows it takes to fill a GPU; narrow models need more.
        rows: Rows that there are.
        batch_size: Rows per forward pass if it is given.
    """
    size = min(rows, batch_size or max(1, min(READ_ROWS * share, free // (kept + used))))
    most = max(size, min(DECODE_ROWS * share, (free - size * used) // kept))
    return size, min(most, -(-rows // size) * size)


def on_device(device: torch.device, ids: npt.NDArray[np.int64]) -> torch.Tensor:
    """The ids there, without waiting for the copy."""
    tensor = torch.from_numpy(np.ascontiguousarray(ids))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
