"""Decoding what teacher forcing leaves open: each row goes on from its own place, all of them step together.

Rows are sorted by the tokens they lack, so those still running are always the first ones. On a GPU a step of a given
number of rows is captured once as a CUDA graph and replayed: a few sizes are captured, and a step takes the smallest
that holds the running rows. Nothing on the way waits for the GPU.

Models whose attention can't be given slots are decoded by repeated teacher forcing, which needs nothing but a causal
model: each pass makes at least one more token final, often several.
"""

from __future__ import annotations

from dataclasses import dataclass

import memindex.models.torch_setup  # noqa: F401

import torch
from transformers import PreTrainedModel

from memindex.models.attention import Slots
from memindex.models.reading import Unembed, refuse_nan
from memindex.models.sampling import GREEDY, Decoding, choose

#: Rows that a CUDA graph is captured for, as shares of the most.
_SHARES = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0625)


@dataclass(frozen=True)
class Lengths:
    """Tokens of the prefix and of the suffix."""

    prefix: int
    suffix: int

    @property
    def slots(self) -> int:
        """Positions that slots are kept for; the last token is never read, and kernels like multiples of 8."""
        return -(-(self.prefix + self.suffix - 1) // 8) * 8


@dataclass(frozen=True)
class Open:
    """Rows whose continuation is not known to the end.

    Attributes:
        token: int64 (rows,), the last token that is known.
        column: int64 (rows,), its place in the continuation; -1 for the prefix's last token.
        ids: int64 (rows,), the sequences' ids; sampling is seeded with them.
    """

    token: torch.Tensor
    column: torch.Tensor
    ids: torch.Tensor


class Decoder:
    """Decodes rows of key-value slots.

    Args:
        model: The model, attending to slots.
        unembed: Its unembedding.
        slots: Where the rows' keys and values lie.
        rows: Rows that are decoded at a time, at most.
        lengths: Tokens of the prefix and of the continuation.
        decoding: How tokens are chosen.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        unembed: Unembed,
        slots: Slots,
        rows: int,
        lengths: Lengths,
        decoding: Decoding = GREEDY,
    ) -> None:
        self._model, self._unembed, self._slots = model, unembed, slots
        self._prefix, self._length, self._decoding = lengths.prefix, lengths.suffix, decoding
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._sizes = sorted({max(1, round(rows * share)) for share in _SHARES})
        whole = {"dtype": torch.int64, "device": model.device}
        self._token, self._column, self._ids = (torch.zeros(rows, **whole) for _ in range(3))
        # The last column takes what rows that are done go on producing.
        self._answer = torch.zeros((rows, self._length + 1), **whole)
        self._nan = torch.zeros((), dtype=torch.bool, device=model.device)

    def decode(self, rows: Open, lacking: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode the rows that lie first in the slots.

        Args:
            rows: The rows, those that lack most tokens first.
            lacking: How many tokens each row lacks; descending.

        Returns:
            int64 (rows, length): the continuations, right of each row's own column; and whether a logit was NaN.
        """
        count = len(lacking)
        for kept, given in ((self._token, rows.token), (self._column, rows.column), (self._ids, rows.ids)):
            kept[:count] = given
        self._nan.zero_()
        running = count
        for step in range(lacking[0]):
            while lacking[running - 1] <= step:
                running -= 1
            self._advance(running)
        return self._answer[:count, : self._length], self._nan

    def _advance(self, running: int) -> None:
        if self._model.device.type != "cuda":
            self._step(running)
            return
        size = next(size for size in self._sizes if size >= running)
        if size not in self._graphs:
            self._graphs[size] = self._capture(size)
        self._graphs[size].replay()

    def _capture(self, size: int) -> torch.cuda.CUDAGraph:
        """Record a step of `size` rows; what it does to the rows while it is warmed up is undone."""
        kept = [buffer.clone() for buffer in (self._token, self._column, self._answer, self._nan)]
        stream = torch.cuda.Stream(self._model.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._model.device))
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._step(size)
        torch.cuda.current_stream(self._model.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(self._graphs.values())).pool() if self._graphs else None
        with torch.cuda.graph(graph, pool=pool):
            self._step(size)
        for buffer, before in zip((self._token, self._column, self._answer, self._nan), kept, strict=True):
            buffer.copy_(before)
        return graph

    def _step(self, count: int) -> None:
        """One token more for the first `count` rows."""
        self._slots.bind(0, count)
        token, column = self._token[:count], self._column[:count]
        # Rows that are done stay at the last position, whose slot no other row sees.
        place = (column + self._prefix).clamp(max=self._prefix + self._length - 2)
        hidden = self._model.base_model(
            input_ids=token[:, None], position_ids=place[:, None], use_cache=False, slots=place
        ).last_hidden_state[:, 0]
        logits = self._unembed(hidden)
        chosen, best = choose(logits, self._decoding, self._ids[:count], column + 1)
        self._nan |= best.isnan().any()
        column += 1
        self._answer[:count].scatter_(1, column.clamp(max=self._length)[:, None], chosen[:, None])
        token.copy_(chosen)


def repeat(
    model: PreTrainedModel,
    tokens: torch.Tensor,
    prefix: int,
    first: torch.Tensor,
    decoding: Decoding = GREEDY,
    ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Continuations by teacher-forcing on the model's own last answer until it repeats: then it is the one.

    Args:
        model: Any causal model.
        tokens: int64 (rows, tokens), of which only the prefix is read.
        prefix: Tokens of the prefix.
        first: int64 (rows, length), a first answer.
        decoding: How tokens are chosen.
        ids: int64 (rows,), the sequences' ids; None numbers them.
    """
    answer, (rows, length) = first, first.shape
    numbers = torch.arange(rows, device=first.device) if ids is None else ids
    columns = torch.arange(length, device=first.device).repeat(rows)
    # Every pass makes one more token final at least, so `length` + 1 passes always do.
    for _ in range(length + 1):
        given = torch.cat([tokens[:, :prefix], answer], dim=1)
        logits = model(input_ids=given[:, :-1], use_cache=False).logits[:, prefix - 1 :]
        following, best = choose(logits.flatten(0, 1), decoding, numbers.repeat_interleave(length), columns)
        refuse_nan(best.isnan().any())
        following = following.view(rows, length)
        if torch.equal(following, answer):
            break
        answer = following
    return answer
