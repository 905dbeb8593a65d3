"""A chunk of rows as DuckDB hands it over, asked with as few and as large calls as it allows.

Rows are grouped by index (and options), NULL stays NULL, and what stands in a chunk several times is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.ragged import from_arrow

#: Gets an index, an Arrow array without NULL and the options of a group; returns one value per row.
Answer = Callable[..., pa.Array]


def by_key(keys: Sequence[Any], argument: Any, result_type: pa.DataType, answer: Callable[..., pa.Array]) -> pa.Array:
    """One call `answer(key, rows)` per distinct key, its results put back in the order of the rows.

    Args:
        keys: Arrow columns: the index's name, and options; a key is a tuple of their values in a row.
        argument: The Arrow column that is asked.
        result_type: Of the answers; rows with NULL in any column are NULL.
        answer: Gets a key and an Arrow array of its rows, without NULL.
    """
    columns, argument = [_combined(key) for key in keys], _combined(argument)
    coded = [column.dictionary_encode() for column in columns]
    nulls = any(column.null_count for column in (*columns, argument))
    if not nulls and all(len(column.dictionary) == 1 for column in coded):
        return answer(tuple(column.dictionary[0].as_py() for column in coded), argument)
    code = np.zeros(len(argument), dtype=np.int64)
    complete = argument.is_valid().to_numpy(zero_copy_only=False)
    for column in coded:
        code = code * (len(column.dictionary) + 1) + column.indices.fill_null(0).to_numpy(zero_copy_only=False)
        complete &= column.is_valid().to_numpy(zero_copy_only=False)
    rows, results = [], []
    for number in np.unique(code[complete]):
        chosen = np.flatnonzero(complete & (code == number))
        key = tuple(column[int(chosen[0])].as_py() for column in columns)
        rows.append(chosen)
        results.append(answer(key, argument.take(pa.array(chosen))))
    return _scattered(len(argument), rows, results, result_type)


def once(answer: Answer) -> Answer:
    """The answer to each distinct row, asked once; for what the core would answer again."""

    @wraps(answer)
    def asked(index: Any, rows: pa.Array, *options: Any) -> pa.Array:
        coded = _as_bytes(rows).dictionary_encode()
        if len(coded.dictionary) == len(rows):
            return answer(index, rows, *options)
        codes = coded.indices.to_numpy()
        first = np.unique(codes, return_index=True)[1]
        return answer(index, rows.take(pa.array(first)), *options).take(coded.indices)

    return asked


def _as_bytes(rows: pa.Array) -> pa.Array:
    """The rows as an Arrow array that can be hashed: texts as they are, lists of ids as their bytes."""
    if not pa.types.is_list(rows.type):
        return rows
    tokens = from_arrow(rows)
    ends = pa.py_buffer(np.ascontiguousarray(tokens.offsets * tokens.values.itemsize))
    return pa.Array.from_buffers(pa.large_binary(), tokens.rows, [None, ends, pa.py_buffer(tokens.values)])


def _scattered(
    length: int, rows: list[npt.NDArray[np.int64]], results: list[pa.Array], result_type: pa.DataType
) -> pa.Array:
    """Row i of the result is the one that `rows` sends there, or NULL."""
    if not results:
        return pa.nulls(length, result_type)
    source = np.full(length, -1, dtype=np.int64)
    chosen = np.concatenate(rows)
    source[chosen] = np.arange(len(chosen))
    return pa.concat_arrays(results).take(pa.array(source, mask=source < 0))


def _combined(array: Any) -> Any:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
