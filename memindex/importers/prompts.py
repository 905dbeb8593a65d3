"""Finds the study's sequences by their prefix: for outputs that carry the prompt instead of a sequence_id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from memindex.errors import MemindexError
from memindex.importers.jsonl_columns import Line
from memindex.importers.runner_output import Answer
from memindex.ragged import from_arrow
from memindex.tables.files import batches
from memindex.tables.store import TableStore

if TYPE_CHECKING:
    from memindex.corpus.tokenizer import Tokenizer

Keys = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

#: Sequences that a message names.
_NAMED = 3


class Prefixes:
    """The study's sequences by the hash of their prefix, as ids or as text; each is read when it is first needed."""

    def __init__(self, store: TableStore, tokenizer: Callable[[], Tokenizer]) -> None:
        self._store, self._tokenizer = store, tokenizer
        self._by_ids: Keys | None = None
        self._by_text: Keys | None = None

    def of_ids(self, ids: list[int]) -> list[int]:
        """The sequences with this prefix."""
        if self._by_ids is None:
            self._by_ids = _sorted(
                (sequences, [hash(row.astype("<i8").tobytes()) for row in rows]) for sequences, rows in self._read()
            )
        return _found(self._by_ids, hash(np.array(ids, dtype="<i8").tobytes()))

    def of_text(self, text: str) -> list[int]:
        """The sequences whose prefix has this text."""
        if self._by_text is None:
            decode = self._tokenizer().decode_batch
            self._by_text = _sorted(
                (sequences, [hash(found) for found in decode([row.tolist() for row in rows])])
                for sequences, rows in self._read()
            )
        return _found(self._by_text, hash(text))

    def _read(self) -> Iterator[tuple[npt.NDArray[np.int64], list[npt.NDArray[Any]]]]:
        for file in self._store.files("sequences"):
            for batch in batches(file, ["sequence_id", "prefix"]):
                kept: pa.RecordBatch = batch.filter(pc.is_valid(batch.column("prefix")))
                ragged = from_arrow(kept.column("prefix"))
                yield kept.column("sequence_id").to_numpy(), [ragged.row(row) for row in range(ragged.rows)]


class PromptNaming:
    """Gives answers of inference programs the sequence_id that their prompt has.

    Answers to equal prefixes can't be told apart, so they are taken for these sequences in order, if there is one for
    each of them.
    """

    def __init__(self, prefixes: Prefixes) -> None:
        self._prefixes = prefixes
        self._answers: dict[tuple[int, ...], int] = {}
        self._first: dict[tuple[int, ...], str] = {}

    def start(self) -> None:
        """Forget the answers that were named; to be called before the first line is named."""
        self._answers.clear()
        self._first.clear()

    def __call__(self, lines: list[Line]) -> None:
        """Set sequence_id of each answer, and choose between its ids and text.

        Raises:
            MemindexError: A prompt is not that of a sequence, or not of the one that the answer names.
        """
        for where, line in lines:
            if isinstance(line, Answer) and "sequence_id" in line:
                line["sequence_id"], by_ids = self._sequence_of(line, where)
                line.take(ids=by_ids)

    def finish(self) -> None:
        """To be called after the last line.

        Raises:
            MemindexError: Some sequences of equal prefixes have an answer, and others do not.
        """
        for found, answers in self._answers.items():
            if answers < len(found):
                named = ", ".join(map(str, found[:_NAMED])) + (", …" if len(found) > _NAMED else "")
                raise MemindexError(
                    f"{self._first[found]}: its prompt is the prefix of {len(found)} sequences ({named}), and not all "
                    "of them have an answer: add a sequence_id"
                )

    def _sequence_of(self, answer: Answer, where: str) -> tuple[int, bool]:
        """The sequence, and whether the answer's ids are of the study's tokenizer, as far as is known."""
        prompt = answer.prompt
        if prompt.number is not None and prompt.ids is None and prompt.text is None:
            return prompt.number, True
        matching, by_ids = _candidates(answer, self._prefixes)
        if prompt.number is not None:
            if matching and prompt.number not in matching:
                raise MemindexError(f"{where}: names sequence {prompt.number}, but its prompt is not that one's prefix")
            # The prompt of a chat holds more than the prefix.
            return prompt.number, by_ids
        if not matching:
            raise MemindexError(f"{where}: its prompt is not the prefix of any sequence of the study")
        if len(matching) == 1:
            return matching[0], by_ids
        found = tuple(matching)
        self._first.setdefault(found, where)
        place = self._answers[found] = self._answers.get(found, 0) + 1
        return found[min(place, len(found)) - 1], by_ids


def _candidates(answer: Answer, prefixes: Prefixes) -> tuple[list[int], bool]:
    ids, text = answer.prompt.ids, answer.prompt.text
    # A first token that begins every text is not part of the prefix.
    for part in (ids, ids[1:]) if ids is not None else ():
        if part and (found := prefixes.of_ids(part)):
            return found, True
    return ([] if text is None else prefixes.of_text(text)), ids is None


def _sorted(parts: Iterable[tuple[npt.NDArray[np.int64], list[int]]]) -> Keys:
    sequences, hashes = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for ids, found in parts:
        sequences.append(ids)
        hashes.append(np.array(found, dtype=np.int64))
    keys, ids = np.concatenate(hashes), np.concatenate(sequences)
    order = np.lexsort((ids, keys))
    return keys[order], ids[order]


def _found(keys: Keys, key: int) -> list[int]:
    start, stop = np.searchsorted(keys[0], key, "left"), np.searchsorted(keys[0], key, "right")
    found: list[int] = keys[1][start:stop].tolist()
    return found
