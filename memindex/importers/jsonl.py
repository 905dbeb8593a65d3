"""Continuations as JSON lines, from any runner: one object per sequence.

`continuation` is what the model generated. The sequence is named by `sequence_id` (one of the study's, as `memindex
export` writes them), or given by `prefix` and `suffix`. Each of the three is a list of ids, or text. Further fields
carry the names and meanings of columns of the tables; others are ignored. Output files of vLLM and of OpenAI's API are
lines too: `memindex.importers.runner_output` says what they mean.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from memindex.corpus.tokenizer import Tokenizer
from memindex.errors import MemindexError
from memindex.importers.chunks import UNIT, Chunk, is_unicode
from memindex.importers.jsonl_columns import (
    FACTS,
    RESULTS,
    Line,
    add_logprobs,
    are_ids,
    column_of,
    numbers_of,
    shown,
)
from memindex.importers.prompts import PromptNaming
from memindex.importers.retokenizing import continuation_ids, encoded
from memindex.importers.runner_output import Answer, FailedRequestError, lacking, line_of
from memindex.ragged import Ragged, from_lists

#: Fields that are read, and those of an export that say nothing new.
FIELDS = {"sequence_id", "id", "prefix", "suffix", "continuation", "model", "logprobs", *RESULTS, *FACTS}
EXPORTED = {"prefix_text", "suffix_text", "suffix_length"}

#: Lines held as Python objects at a time.
_LINES = 4096


@dataclass(frozen=True)
class Known:
    """Sequences of the study: their tokens, in the order in which they were asked for."""

    prefix: Ragged
    suffix: Ragged


class UnknownSequenceError(MemindexError):
    """A sequence_id that the study does not have, or not with tokens."""

    def __init__(self, sequence: int, message: str) -> None:
        super().__init__(message)
        self.sequence = sequence


@dataclass(frozen=True)
class JsonlSource:
    """A run as JSON lines.

    Attributes:
        files: The files, one after the other.
        tokenizer: Gives the tokenizer for texts; called when the first text is met.
        tokenizer_name: What names the tokenizer; None: that of the study's index.
        look_up: Gives the study's sequences of these ids; raises UnknownSequenceError where there is no such sequence.
        naming: Gives answers of inference programs the sequence_id that their prompt has.
        skip_failed: Whether requests that failed are passed over.
        ignored: Filled with the fields that were met and not read.
        met: Filled with how many requests failed and how many had several outputs.
    """

    files: tuple[Path, ...]
    tokenizer: Callable[[], Tokenizer]
    look_up: Callable[[list[int]], Known]
    naming: PromptNaming
    tokenizer_name: str | None = None
    skip_failed: bool = False
    ignored: set[str] = field(default_factory=set, init=False)
    met: Counter[str] = field(default_factory=Counter, init=False)
    made_by: str = field(default="jsonl", init=False)
    lengths: tuple[None, None] = field(default=(None, None), init=False)

    @property
    def settings(self) -> dict[str, Any]:
        """The tokenizer of texts, and whether failed requests are passed over."""
        settings: dict[str, Any] = {"tokenizer": self.tokenizer_name} if self.tokenizer_name else {}
        return settings | ({"skip_failed": True} if self.skip_failed else {})

    @cached_property
    def of_study(self) -> bool:
        """Whether the first line names a sequence of the study; all must then."""
        for _, line in self._lines():
            return "sequence_id" in line
        if self.met["failed"]:
            raise MemindexError(f"{self.files[0]}: every request failed")
        raise MemindexError(f"{self.files[0]}: holds no line")

    def named_models(self) -> set[str]:
        """The models that lines name in their field model."""
        return {str(line["model"]) for _, line in self._lines() if "model" in line}

    def chunks(self) -> Iterator[Chunk]:
        """The lines in order."""
        of_study, start = self.of_study, 0
        self.met.clear()
        self.naming.start()
        lines = self._lines()
        while True:
            parts = []
            for _ in range(UNIT // _LINES):
                if part := list(itertools.islice(lines, _LINES)):
                    parts.append(self._parsed(part, start, of_study))
                    start += len(part)
            if not parts:
                self.naming.finish()
                return
            yield _joined(parts)

    def _lines(self) -> Iterator[Line]:
        for file in self.files:
            with file.open(encoding="utf-8-sig") as stream:
                numbered = enumerate(stream, 1)
                try:
                    for number, text in numbered:
                        if text.strip() and (line := self._line(text, where := f"{file}, line {number}")) is not None:
                            yield where, line
                except UnicodeDecodeError as error:
                    raise MemindexError(f"{file}: not UTF-8: {error.reason} at byte {error.start}") from None

    def _line(self, text: str, where: str) -> dict[str, Any] | None:
        """A line; None of a request that failed, where those are passed over."""
        try:
            line = line_of(_parsed_object(text, where), where)
        except FailedRequestError:
            self.met["failed"] += 1
            if not self.skip_failed:
                raise
            return None
        if isinstance(line, Answer) and line.several:
            self.met["several"] += 1
        return line

    def _rows(self, lines: list[Line], start: int, of_study: bool) -> list[int]:
        """The number of each line's sequence."""
        for where, line in lines:
            self.ignored.update(line.keys() - FIELDS - EXPORTED)
            if ("sequence_id" in line) != of_study:
                raise MemindexError(f"{where}: some lines name a sequence_id and others don't: import them apart")
            if "continuation" not in line or not (of_study or line.keys() >= {"prefix", "suffix"}):
                raise lacking(where, "continuation, and sequence_id or prefix and suffix", line)
        self.naming(lines)
        return numbers_of(lines, "sequence_id" if of_study else "id", start)

    def lines_of(self, row: int) -> list[str]:
        """Where the lines of a sequence are, by its number."""
        self.naming.start()
        lines, start, found = self._lines(), 0, []
        while part := list(itertools.islice(lines, _LINES)):
            rows = self._rows(part, start, self.of_study)
            found += [where for (where, _), number in zip(part, rows, strict=True) if number == row]
            start += len(part)
        return found

    def _parsed(self, lines: list[Line], start: int, of_study: bool) -> Chunk:
        rows = self._rows(lines, start, of_study)
        known = self._known(lines, rows) if of_study else self._own(lines)
        continuation = self._tokens(lines, "continuation", known)
        results = {name: column_of(lines, name) for name in RESULTS}
        add_logprobs(lines, results, known.suffix, continuation)
        facts = {} if of_study else {name: column_of(lines, name) for name in FACTS}
        return Chunk(np.array(rows, dtype=np.int64), known.prefix, known.suffix, continuation, None, results, facts)

    def _known(self, lines: list[Line], rows: list[int]) -> Known:
        try:
            known = self.look_up(rows)
        except UnknownSequenceError as error:
            raise MemindexError(f"{lines[rows.index(error.sequence)][0]}: {error}") from None
        for name, ragged in (("prefix", known.prefix), ("suffix", known.suffix)):
            for number, (where, line) in enumerate(lines):
                if isinstance(line.get(name), list) and line[name] != ragged.row(number).tolist():
                    raise MemindexError(f"{where}: its {name} is not that of sequence {rows[number]} of the study")
        return known

    def _own(self, lines: list[Line]) -> Known:
        known = Known(self._tokens(lines, "prefix", None), self._tokens(lines, "suffix", None))
        for name, ragged in (("prefix", known.prefix), ("suffix", known.suffix)):
            empty = np.flatnonzero(ragged.lengths() == 0)
            if len(empty):
                raise MemindexError(f"{lines[empty[0]][0]}: its {name} is empty")
        return known

    def _tokens(self, lines: list[Line], name: str, known: Known | None) -> Ragged:
        """The ids of a field; those of texts by the tokenizer."""
        values: list[Any] = [line.get(name) for _, line in lines]
        for (where, _), value in zip(lines, values, strict=True):
            if not isinstance(value, str) and not are_ids(value):
                raise MemindexError(f"{where}: {name} must be a list of token ids, or text; it is {shown(value)}")
            if isinstance(value, str) and not is_unicode(value):
                raise MemindexError(f"{where}: {name} holds half of a surrogate pair, which is no text")
        texts = [number for number, value in enumerate(values) if isinstance(value, str)]
        if texts:
            tokenizer = self.tokenizer()
            chosen = [values[number] for number in texts]
            if known is None:
                ids = encoded(tokenizer, chosen)
            else:
                pairs = [(known.prefix.row(n).tolist(), known.suffix.row(n).tolist()) for n in texts]
                ids = continuation_ids(tokenizer, chosen, pairs)
            for number, row in zip(texts, ids, strict=True):
                values[number] = row
        return from_lists(values)


def _parsed_object(text: str, where: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        cut = "" if text.endswith("\n") else "; the file ends here: was it cut off?"
        raise MemindexError(f"{where}: not JSON: {error}{cut}") from None
    if not isinstance(line, dict):
        array = ", but an array: write one object per line" if isinstance(line, list) else ""
        raise MemindexError(f"{where}: not a JSON object{array}")
    return line


def _joined(parts: list[Chunk]) -> Chunk:
    """One chunk of many."""
    ragged = [[getattr(part, name) for part in parts] for name in ("prefix", "suffix", "continuation")]
    prefix, suffix, continuation = (_stacked(rows) for rows in ragged)
    results = {name: pa.concat_arrays([part.results[name] for part in parts]) for name in parts[0].results}
    facts = {name: pa.concat_arrays([part.facts[name] for part in parts]) for name in parts[0].facts}
    rows = np.concatenate([part.rows for part in parts])
    return Chunk(rows, prefix, suffix, continuation, None, results, facts)


def _stacked(parts: list[Ragged]) -> Ragged:
    lengths = np.concatenate([part.lengths() for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Ragged(np.concatenate([part.values for part in parts]), offsets)
