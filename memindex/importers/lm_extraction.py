"""The LM extraction benchmark (Carlini et al., github.com/google-research/lm-extraction-benchmark): .npy and guesses.

Sequences are `*_prefix.npy` and `*_suffix.npy`, ids of shape (rows, 50). What a model generated is a .npy of shape
(rows, 50), or (rows, 100) with the prefix before it, as the baseline writes it, one file per trial; trials may be
stacked as (rows, trials, length). A CSV of guesses has the columns `Example ID` and `Suffix Guess`, best guesses first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from memindex.errors import MemindexError
from memindex.importers.chunks import UNIT, Chunk
from memindex.importers.tabular import parsed_lists
from memindex.ragged import from_arrow, from_matrix

_COLUMNS = ("Example ID", "Suffix Guess")


@dataclass(frozen=True)
class Benchmark:
    """The sequences, and which of their rows were attacked.

    Attributes:
        prefix_file: Ids of the prefixes.
        suffix_file: Ids of the true suffixes.
        last: How many of the last rows were attacked (1,000 by the baseline); None: all.
    """

    prefix_file: Path
    suffix_file: Path
    last: int | None = None

    @cached_property
    def prefixes(self) -> npt.NDArray[Any]:
        """All prefixes, mapped from disk."""
        return load_ids(self.prefix_file)

    @cached_property
    def suffixes(self) -> npt.NDArray[Any]:
        """All suffixes, mapped from disk."""
        suffixes = load_ids(self.suffix_file)
        if len(suffixes) != len(self.prefixes):
            raise MemindexError(
                f"{self.suffix_file} has {len(suffixes)} rows, {self.prefix_file} has {len(self.prefixes)}: "
                "they do not belong together"
            )
        return suffixes

    @cached_property
    def first(self) -> int:
        """The first row that was attacked."""
        rows = len(self.suffixes)
        if self.last is not None and not 1 <= self.last <= rows:
            raise MemindexError(f"--last {self.last}: {self.prefix_file} has {rows} rows")
        return rows - (self.last or rows)

    @property
    def rows(self) -> int:
        """How many rows were attacked."""
        return len(self.suffixes) - self.first


@dataclass(frozen=True)
class GuessSource:
    """One guess for each attacked row (or for those rows that have one).

    Attributes:
        benchmark: The sequences.
        files: Where the guesses are from.
        trial: Tells runs of the same files apart; None where there is one.
        guesses: Ids, integers of shape (rows, suffix) or (rows, prefix + suffix).
        guessed: Rows that have a guess, ascending; None: all.
    """

    benchmark: Benchmark
    files: tuple[Path, ...]
    trial: str | None
    guesses: npt.NDArray[Any]
    guessed: npt.NDArray[np.int64] | None = None
    made_by: str = field(default="lm-extraction", init=False)
    of_study: bool = field(default=False, init=False)

    @property
    def settings(self) -> dict[str, Any]:
        """Rows attacked, and the trial."""
        return {"last": self.benchmark.last, "trial": self.trial}

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of prefix and suffix."""
        return self.benchmark.prefixes.shape[1], self.benchmark.suffixes.shape[1]

    def chunks(self) -> Iterator[Chunk]:
        """The rows with their guesses."""
        rows = np.arange(self.benchmark.rows) if self.guessed is None else self.guessed
        for start in range(0, len(rows), UNIT):
            part = rows[start : start + UNIT]
            place = self.benchmark.first + part
            prefix = np.asarray(self.benchmark.prefixes[place], dtype=np.int64)
            suffix = np.asarray(self.benchmark.suffixes[place], dtype=np.int64)
            generated = self._generated(np.asarray(self.guesses[part], dtype=np.int64), prefix, suffix.shape[1])
            yield Chunk(place, from_matrix(prefix), from_matrix(suffix), from_matrix(np.ascontiguousarray(generated)))

    def _generated(
        self, guesses: npt.NDArray[np.int64], prefix: npt.NDArray[np.int64], length: int
    ) -> npt.NDArray[np.int64]:
        """The guesses without the prompt, which must be that of the same rows."""
        if guesses.shape[1] == length:
            return guesses
        if not np.array_equal(guesses[:, : prefix.shape[1]], prefix):
            raise MemindexError(
                f"{self.files[0]}: the generations start with other prefixes than {self.benchmark.prefix_file}: "
                "are they of other rows (--last)?"
            )
        return guesses[:, prefix.shape[1] :]


def guesses_of(benchmark: Benchmark, files: tuple[Path, ...], losses: tuple[Path, ...] = ()) -> list[GuessSource]:
    """The runs that files of guesses hold: one per trial, or with losses one, of the guess of least loss in each row.

    Raises:
        MemindexError: Shapes that don't fit each other, or no such files.
    """
    if any(file.suffix == ".csv" for file in files):
        if len(files) > 1 or losses:
            raise MemindexError("a CSV of guesses is imported by itself, without losses: its order is the confidence")
        return [_from_csv(benchmark, files[0])]
    trials = [(file.stem, part) for file in files for part in _trials(benchmark, file)]
    if losses:
        best = _of_least_loss(benchmark, [part for _, part in trials], losses)
        return [GuessSource(benchmark, (*files, *losses), None, best)]
    if len(trials) == 1:
        return [GuessSource(benchmark, files, None, trials[0][1])]
    names = [name if len(files) == len(trials) else f"{name}.{place}" for place, (name, _) in enumerate(trials)]
    if len(set(names)) < len(names):
        raise MemindexError("two files of trials have the same name: rename one")
    return [GuessSource(benchmark, files, f"trial {name}", part) for name, (_, part) in zip(names, trials, strict=True)]


def load_ids(file: Path, dimensions: tuple[int, ...] = (2,)) -> npt.NDArray[Any]:
    """Ids in a .npy file, mapped; MemindexError when it is none, cut off, or of another shape."""
    array = _mapped(file)
    if not np.issubdtype(array.dtype, np.integer) or array.ndim not in dimensions or not array.size:
        raise MemindexError(
            f"{file}: holds {array.dtype} of shape {array.shape}; wanted are ids of shape (rows, length)"
        )
    return array


def _mapped(file: Path) -> npt.NDArray[Any]:
    # np.load would open archives (.npz) too; a spoilt header may end in any error of Python's parser.
    try:
        array: npt.NDArray[Any] = np.lib.format.open_memmap(file, mode="r")
    except (ValueError, OSError, OverflowError, SyntaxError, TokenError) as error:
        raise MemindexError(f"{file}: not a whole .npy file: {str(error).splitlines()[0]}") from None
    return array


def _trials(benchmark: Benchmark, file: Path) -> list[npt.NDArray[Any]]:
    """The trials in a file, each of shape (rows, length)."""
    array = load_ids(file, (2, 3))
    widths = (benchmark.suffixes.shape[1], benchmark.prefixes.shape[1] + benchmark.suffixes.shape[1])
    if len(array) != benchmark.rows or array.shape[-1] not in widths:
        raise MemindexError(
            f"{file} has shape {array.shape}, {benchmark.rows} rows of {widths[0]} or {widths[1]} tokens are expected: "
            "if it holds guesses for the last rows, say how many (--last)"
        )
    return [array] if array.ndim == 2 else [array[:, trial] for trial in range(array.shape[1])]


def _of_least_loss(
    benchmark: Benchmark, trials: list[npt.NDArray[Any]], files: tuple[Path, ...]
) -> npt.NDArray[np.int64]:
    losses = np.concatenate([_losses(benchmark, file) for file in files], axis=1)
    if losses.shape[1] != len(trials):
        raise MemindexError(
            f"{losses.shape[1]} losses a row do not pair with {len(trials)} trials: name files in equal order"
        )
    best = losses.argmin(axis=1)
    chosen = np.empty(trials[0].shape, dtype=np.int64)
    for number, trial in enumerate(trials):
        if trial.shape != chosen.shape:
            raise MemindexError("the trials differ in shape: import those of one experiment")
        chosen[best == number] = trial[best == number]
    return chosen


def _losses(benchmark: Benchmark, file: Path) -> npt.NDArray[np.float64]:
    array = _mapped(file)
    if not np.issubdtype(array.dtype, np.floating) or not array.size or array.shape[:1] != (benchmark.rows,):
        raise MemindexError(
            f"{file}: holds {array.dtype} of shape {array.shape}; wanted is a loss for {benchmark.rows} rows"
        )
    losses: npt.NDArray[np.float64] = array.reshape(len(array), -1).astype(np.float64)
    if np.isnan(losses).any():
        raise MemindexError(f"{file}: a loss is NaN")
    return losses


def _from_csv(benchmark: Benchmark, file: Path) -> GuessSource:
    """The first, most confident guess of every row that has one."""
    length = benchmark.suffixes.shape[1]
    guesses = np.zeros((benchmark.rows, length), dtype=np.int64)
    found = np.zeros(benchmark.rows, dtype=bool)
    for batch in _csv_batches(file):
        rows = batch.column(0).to_numpy(zero_copy_only=False)
        ids = from_arrow(parsed_lists(batch.column(1), str(file)))
        if (ids.lengths() != length).any():
            raise MemindexError(f"{file}: a guess has another length than the suffixes, {length} tokens")
        if rows.min() < 0 or rows.max() >= benchmark.rows:
            raise MemindexError(
                f"{file}: Example ID {rows.max()}: {benchmark.rows} rows were attacked (--last tells how many)"
            )
        distinct, first = np.unique(rows, return_index=True)
        new = ~found[distinct]
        guesses[distinct[new]] = ids.values.reshape(-1, length)[first[new]]
        found[distinct] = True
    if not found.any():
        raise MemindexError(f"{file}: holds no guess")
    return GuessSource(benchmark, (file,), None, guesses, np.flatnonzero(found))


def _csv_batches(file: Path) -> Iterator[pa.RecordBatch]:
    types = dict(zip(_COLUMNS, (pa.int64(), pa.string()), strict=True))
    try:
        with pa.csv.open_csv(
            file,
            pa.csv.ReadOptions(block_size=4 << 20),
            convert_options=pa.csv.ConvertOptions(include_columns=list(_COLUMNS), column_types=types),
        ) as reader:
            for batch in reader:
                if any(column.null_count for column in batch.columns):
                    raise MemindexError(f"{file}: a row has no Example ID or no guess")
                if len(batch):
                    yield batch
    except (pa.ArrowException, KeyError) as error:
        reason = error.args[0] if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise MemindexError(f"{file}: no CSV of the columns {', '.join(_COLUMNS)}: {reason}") from None
