"""The columns of JSON lines: each field of many lines as one array, checked, with the line in every complaint."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from memindex.errors import MemindexError
from memindex.importers.chunks import MOST_ROWS
from memindex.ragged import Ragged
from memindex.tables.schema import CONTINUATIONS, SEQUENCES

#: Columns of continuations and of sequences that a line may carry.
RESULTS = ("suffix_logprob", "suffix_logprob_top40", "prefix_logprob", "token_logprobs", "token_ranks")
FACTS = ("domain", "document")

#: How far above 0 rounding may bring a log-probability.
ROUNDING = 1e-3

_TYPES = {column.name: column.type for column in (*CONTINUATIONS.columns, *SEQUENCES.columns)}

#: Where a line stands, and what it holds.
Line = tuple[str, dict[str, Any]]


def are_ids(value: Any) -> bool:
    """Whether it is a list of token ids."""
    # bool is a kind of int, and true is no id.
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 31 for item in value)


def shown(value: Any) -> str:
    """A value as a message quotes it."""
    try:
        text = "missing" if value is None else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply"
    return text if len(text) <= 60 else text[:60] + "…"


def numbers_of(lines: list[Line], name: str, start: int) -> list[int]:
    """The number of each line's sequence: its field, or the line's place."""
    numbers = []
    for place, (where, line) in enumerate(lines, start):
        number = line.get(name, place)
        if type(number) is not int or number < 0 or (name == "id" and number >= MOST_ROWS) or number >= 1 << 63:
            raise MemindexError(f"{where}: {name} must be a whole number from 0, it is {shown(number)}")
        numbers.append(number)
    return numbers


def column_of(lines: list[Line], name: str) -> pa.Array:
    """A further column; NULL where a line lacks it."""
    values = [line.get(name) for _, line in lines]
    try:
        column = pa.array(values, type=_TYPES[name])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise MemindexError(f"{lines[0][0]} and after: {name} must be {_TYPES[name]}: {error}") from None
    inner = column.flatten() if pa.types.is_list(column.type) else column
    if inner.null_count and pa.types.is_list(column.type):
        raise MemindexError(f"{lines[0][0]} and after: {name} has a null inside")
    numbers = inner.drop_null().to_numpy(zero_copy_only=False)
    if name == "token_ranks" and (numbers < 0).any():
        raise MemindexError(f"{lines[0][0]} and after: {name} is negative")
    if pa.types.is_floating(inner.type) and not (numbers <= ROUNDING).all():
        raise MemindexError(f"{lines[0][0]} and after: {name} is NaN or above 0")
    return column


def add_logprobs(lines: list[Line], results: dict[str, pa.Array], suffix: Ragged, continuation: Ragged) -> None:
    """Complete the log-probabilities: those of generated tokens are the suffix's where these are the suffix."""
    generated = [line.get("logprobs") for _, line in lines]
    tokens, ranks = results["token_logprobs"].to_pylist(), results["token_ranks"].to_pylist()
    sums = results["suffix_logprob"].to_pylist()
    for number, (where, _) in enumerate(lines):
        right = suffix.row(number)
        length = len(right)
        made, given = continuation.row(number)[:length], generated[number]
        if tokens[number] is None and given is not None and np.array_equal(made, right):
            tokens[number] = _floats(given, where)[:length]
        for name, values in (("token_logprobs", tokens[number]), ("token_ranks", ranks[number])):
            if values is not None and len(values) != length:
                raise MemindexError(f"{where}: {name} has {len(values)} entries for {length} tokens of the suffix")
        if sums[number] is None and tokens[number] is not None:
            sums[number] = float(np.sum(np.array(tokens[number], dtype=np.float32), dtype=np.float64))
    results["token_logprobs"] = pa.array(tokens, type=_TYPES["token_logprobs"])
    results["suffix_logprob"] = pa.array(sums, type=pa.float32())


def _floats(values: Any, where: str) -> list[float]:
    if not isinstance(values, list) or not all(isinstance(v, int | float) and v <= ROUNDING for v in values):
        raise MemindexError(f"{where}: logprobs must be a list of numbers up to 0, it is {shown(values)}")
    return [float(value) for value in values]
