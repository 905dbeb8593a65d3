"""Rows in batches that fit the memory, smaller ones when they don't."""

from __future__ import annotations

from collections.abc import Callable

import torch

from memindex.errors import MemindexError
from memindex.models.loading import LoadedModel
from memindex.models.reading import BYTES_PER_LOGIT, logits_at_a_time
from memindex.models.slot_engine import CPU_ROWS, READ_ROWS

#: Called with (sequences done, sequences in all).
Progress = Callable[[int, int], None]

#: Numbers per token and unit of width that a forward pass holds at once: a gated MLP's three, attention's four, and the
#: residual stream, each up to four times as wide.
_ACTIVATIONS = 24


def in_batches(rows: int, size: int, step: Callable[[slice], None], progress: Progress | None = None) -> int:
    """Call `step` on slices of at most `size` rows until all are done, and return the smallest size it took.

    Raises:
        MemindexError: A GPU too small for one row.
    """
    done = 0
    while done < rows:
        try:
            step(slice(done, min(done + size, rows)))
        except torch.OutOfMemoryError:
            if size == 1:
                raise MemindexError("the GPU has too little memory for one sequence; use --dtype bfloat16") from None
            size //= 2
            torch.cuda.empty_cache()
            continue
        done = min(done + size, rows)
        if progress is not None:
            progress(done, rows)
    return min(size, rows)


def rows_that_fit(loaded: LoadedModel, tokens: int, kept: int = 0) -> int:
    """Rows of so many tokens for a forward pass.

    Args:
        loaded: The model.
        tokens: Tokens of a row.
        kept: Bytes of a row that stay beside what the pass needs.
    """
    model = loaded.model
    if model.device.type != "cuda":
        return CPU_ROWS
    hidden = int(model.config.get_text_config().hidden_size)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(model.device)
    free = free * 4 // 5 - logits_at_a_time(model.device) * BYTES_PER_LOGIT
    used = tokens * hidden * model.dtype.itemsize * _ACTIVATIONS + kept
    return int(max(1, min(READ_ROWS * min(4, max(1, 2048 // hidden)), free // used)))
