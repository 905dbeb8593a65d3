"""Scores over training sequences: EleutherAI's evaluations of Pythia, `memorization_evals_*.csv` of arXiv 2405.11577.

Both number the sequences by their place in the training order, generate greedily after the first tokens of each, and
keep the share of right tokens (or, as lists, the tokens of those that are wholly right).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.errors import MemindexError
from memindex.importers.chunks import MOST_ROWS, Chunk, of_unit_length, split
from memindex.importers.results import check_score
from memindex.importers.tabular import layout_of, tables_of
from memindex.ragged import from_arrow

#: Tokens of a training sequence of Pythia; one more than the context, because targets are shifted by one.
TRAINING_TOKENS = 2049

#: model, prefix, prefix + suffix, training step; and the process, where the results were not merged.
MYNLP_NAME = re.compile(
    r"memorization_evals_(?P<model>[^_]+)_(?P<prefix>\d+)_(?P<total>\d+)_(?P<step>\d+)(_\d+)?\.csv(\.gz)?"
)


@dataclass(frozen=True)
class ScoredSource:
    """A run that is known by its scores.

    Attributes:
        made_by: pythia or mynlp.
        files: CSV, Parquet or Arrow files; several are one run.
        prefix: Tokens given to the model.
        suffix: Tokens compared.
        column: Column of the score, where a file has several.
        training_data: Pythia's merged training data (document.bin: uint16, 2,049 to a sequence), to take tokens from
            that the files lack.
    """

    made_by: str
    files: tuple[Path, ...]
    prefix: int = 32
    suffix: int = 32
    column: str | None = None
    training_data: Path | None = None
    of_study: bool = field(default=False, init=False)

    @property
    def settings(self) -> dict[str, Any]:
        """Lengths, column, and whether tokens come from the training data."""
        return {"lengths": self.lengths, "column": self.column, "training_data": self.training_data is not None}

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of prefix and suffix."""
        return self.prefix, self.suffix

    @cached_property
    def lists_memorized(self) -> bool:
        """Whether the files list memorized sequences only; MemindexError when some do."""
        kinds = {layout_of(file, self.column).score is None for file in self.files}
        if len(kinds) > 1:
            raise MemindexError("some files hold scores and others lists of memorized sequences: import them apart")
        return kinds.pop()

    def chunks(self) -> Iterator[Chunk]:
        """The rows of all files, one after the other."""
        training = _training_sequences(self.training_data) if self.training_data else None
        lists = self.lists_memorized
        for table in of_unit_length(t for file in self.files for t in tables_of(file, layout_of(file, self.column))):
            yield self._chunk(table, lists, training)

    def _chunk(self, table: pa.Table, lists: bool, training: npt.NDArray[np.uint16] | None) -> Chunk:
        where = ", ".join(map(str, self.files))
        rows = table.column("index").to_numpy()
        if rows.min() < 0 or rows.max() >= MOST_ROWS:
            wrong = rows.min() if rows.min() < 0 else rows.max()
            raise MemindexError(f"{where}: index {wrong} is no number of a sequence (0 to {MOST_ROWS - 1})")
        score = np.ones(len(rows)) if lists else table.column("score").to_numpy()
        check_score(score, self.suffix, where)
        ids: npt.NDArray[Any]
        if "tokens" in table.column_names:
            ids = self._matrix(table.column("tokens"), where)
        elif training is not None:
            ids = self._from_training(training, rows)
        else:
            return Chunk(rows, score=score)
        prefix, suffix = split(ids, self.prefix)
        return Chunk(rows, prefix, suffix, score=score)

    def _matrix(self, tokens: pa.ChunkedArray, where: str) -> npt.NDArray[np.int64]:
        ragged, length = from_arrow(tokens), self.prefix + self.suffix
        wrong = ragged.lengths() != length
        if wrong.any():
            raise MemindexError(
                f"{where}: a sequence has {ragged.lengths()[np.flatnonzero(wrong)[0]]} tokens, prefix + suffix are "
                f"{self.prefix} + {self.suffix}: is the file cut off, or are the lengths others (--prefix, --suffix)?"
            )
        ids: npt.NDArray[np.int64] = ragged.values.reshape(-1, length)
        return ids

    def _from_training(self, training: npt.NDArray[np.uint16], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        if rows.max() >= len(training):
            raise MemindexError(f"{self.training_data} has {len(training)} sequences, the files speak of {rows.max()}")
        ids: npt.NDArray[np.uint16] = training[rows, : self.prefix + self.suffix]
        return ids


def _training_sequences(file: Path) -> npt.NDArray[np.uint16]:
    size, row = file.stat().st_size, 2 * TRAINING_TOKENS
    if not size or size % row:
        raise MemindexError(
            f"{file}: {size} bytes are no whole number of sequences of {TRAINING_TOKENS} tokens of 2 bytes: "
            "give Pythia's merged training data (document.bin)"
        )
    return np.memmap(file, dtype="<u2", mode="r", shape=(size // row, TRAINING_TOKENS))


@dataclass(frozen=True)
class MynlpName:
    """What the name of a `memorization_evals_*.csv` says."""

    model: str
    prefix: int
    suffix: int
    revision: str


def mynlp_name(files: tuple[Path, ...]) -> MynlpName | None:
    """What the files' names say; None when one is called otherwise.

    Raises:
        MemindexError: They speak of different models or lengths.
    """
    found = [MYNLP_NAME.fullmatch(file.name) for file in files]
    names = {
        MynlpName(m["model"], int(m["prefix"]), int(m["total"]) - int(m["prefix"]), f"step{m['step']}")
        for m in found
        if m
    }
    if len(names) > 1:
        raise MemindexError("the files are of different models, lengths or checkpoints: import each by itself")
    if not all(found) or not names:
        return None
    name = names.pop()
    if name.prefix < 1 or name.suffix < 1:
        raise MemindexError(f"{files[0].name}: the second length is prefix + suffix, it must be the larger one")
    return name
