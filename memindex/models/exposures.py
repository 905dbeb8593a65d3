"""When in training places of the stream were read: in which windows, and whether as wholes.

The windows of a training follow from its seed (`stream.passes`). In one pass they stand side by side, so the one that
holds a place is arithmetic; nothing is read again, and nothing needs the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from memindex.models.stream import passes

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


class Training(NamedTuple):
    """What decides which windows a model read.

    Attributes:
        seed: Seed of the windows.
        context: Tokens that the model reads of a window; it holds one more, the last target.
        batch_size: Windows of a step.
        windows: Windows that the model read.
        planned: Windows of the whole training; more than those at a checkpoint. They decide how large the last step is.
    """

    seed: int
    context: int
    batch_size: int
    windows: int
    planned: int

    def tokens_after(self, windows: Integers) -> Integers:
        """Tokens that were targets when the step of each of these windows had ended, int64 of their shape."""
        return np.minimum((windows // self.batch_size + 1) * self.batch_size, self.planned) * self.context


class Reads(NamedTuple):
    """How one pass read some places of the stream; all of shape (places,).

    Attributes:
        whole: Number in training of the window that holds all of the place, int64; -1 where none that was read does.
        first: Number of the window that holds its first token, int64; -1 where that was not read. The last id of a
            window is the first of the next, which counts where it was read.
        offset: Position of the first token in that window, int64.
        cut: Whether part of the place was read, and no window of the pass holds all of it; bool.
    """

    whole: Integers
    first: Integers
    offset: Integers
    cut: Booleans


class Exposures(NamedTuple):
    """How often places that belong together were read; all int64 of shape (rows,).

    Attributes:
        exposures: Pairs of a place and a window that was read and holds all of it.
        cut: Places that were cut by the edge of a window in some pass.
        first: Number in training of the first such window; -1 where there is none.
        last: Number of the last one; -1 likewise.
    """

    exposures: Integers
    cut: Integers
    first: Integers
    last: Integers


def training_of(record: dict[str, Any] | None) -> Training | None:
    """What a training record (training.json) says of the windows; None where it does not say it."""
    try:
        config = (record or {})["config"]
        seed, context, batch_size, tokens = (int(config[n]) for n in ("seed", "context", "batch_size", "tokens"))
        trained = int((record or {})["trained_tokens"])
    except (KeyError, TypeError, ValueError):
        return None
    if min(context, batch_size, trained) < 1 or seed < 0:
        return None
    return Training(seed, context, batch_size, trained // context, max(1, tokens // context))


def reads(training: Training, tokens: int, position: Integers, length: int) -> Iterator[Reads]:
    """How each pass of a training read places of the stream, pass after pass.

    Args:
        training: The training.
        tokens: Ids of the stream, separators included.
        position: First token of each place; int64 of shape (places,).
        length: Tokens of every place, at least 2.
    """
    before = 0
    for starts in passes(tokens, training.context + 1, training.seed):
        if before >= training.windows:
            return
        yield _reads(training, before, starts, position, length)
        before += len(starts)


def _reads(training: Training, before: int, starts: Integers, position: Integers, length: int) -> Reads:
    context, windows, offset = training.context, len(starts), int(starts.min())
    # Number in training of each window of the pass, by its place in the stream, and -1 behind the last one.
    number = np.full(windows + 1, -1, dtype=np.int64)
    number[(starts - offset) // context] = before + np.arange(windows)
    number[number >= training.windows] = -1
    place, within = np.divmod(position - offset, context)
    inside = (place >= 0) & (place < windows)
    fits = inside & (within + length <= context + 1)
    here = np.where(inside, number[np.clip(place, 0, windows)], -1)
    previous = np.where((within == 0) & (place > 0) & (here < 0), number[np.clip(place - 1, 0, windows)], -1)
    read = np.append(0, np.cumsum(number[:-1] >= 0))
    lowest = np.clip(-((offset + context - position) // context), 0, windows)
    highest = np.clip((position + length - 1 - offset) // context, -1, windows - 1)
    some = read[np.maximum(highest + 1, lowest)] > read[lowest]
    return Reads(
        whole=np.where(fits, here, -1),
        first=np.maximum(here, previous),
        offset=np.where(previous >= 0, context, within),
        cut=some & ~fits,
    )


def exposures(all_reads: Iterator[Reads], row: Integers, rows: int) -> Exposures:
    """What the passes read of each row's places.

    Args:
        all_reads: How each pass read the places.
        row: The row of each place, int64 of shape (places,).
        rows: Rows in all.
    """
    number, cut = np.zeros(rows, dtype=np.int64), np.zeros(len(row), dtype=bool)
    never = np.iinfo(np.int64).max
    first, last = np.full(rows, never), np.full(rows, -1)
    for read in all_reads:
        seen = np.flatnonzero(read.whole >= 0)
        number += np.bincount(row[seen], minlength=rows)
        np.minimum.at(first, row[seen], read.whole[seen])
        np.maximum.at(last, row[seen], read.whole[seen])
        cut |= read.cut
    first[first == never] = -1
    return Exposures(number, np.bincount(row[cut], minlength=rows), first, last)
