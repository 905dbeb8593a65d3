"""Templates in sequences: does the suffix repeat or increment the prefix? In SQL `template(prefix, suffix)`.

After Prashanth et al. 2024, who call memorized sequences of this kind reconstructed: whoever knows the first lines of a
table of numbers, or a repeated character, can go on without having seen the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.ragged import from_arrow

_INNER = "_template"
_NAMES = np.array(["none", "repeating", "incrementing"])

Tokens = npt.NDArray[np.integer[Any]]


def templates(prefix: Tokens, suffix: Tokens) -> npt.NDArray[np.int8]:
    """What template each suffix follows: 0 none, 1 repeating, 2 incrementing; int8 of shape (rows,).

    Repeating: for one p up to the prefix's length, every token of the suffix equals the one p places before it.
    Incrementing: for one p up to half of that, its id is as far from the one p places before it as that one is from the
    one 2p places before. A number that is several tokens long increments only as far as its tokens' ids do.

    Args:
        prefix: Ids of shape (rows, prefix length).
        suffix: Ids of shape (rows, suffix length).
    """
    tokens = np.concatenate([prefix, suffix], axis=1).astype(np.int64)
    end, start = tokens.shape[1], prefix.shape[1]
    found = np.zeros(len(tokens), dtype=np.int8)
    if end == start:
        return found

    # Few rows agree in the suffix's first token: only those are compared whole.
    first = tokens[:, start]
    for p in range(1, start // 2 + 1):
        rows = np.flatnonzero(first - tokens[:, start - p] == tokens[:, start - p] - tokens[:, start - 2 * p])
        here, before, twice = (tokens[rows, start - back : end - back] for back in (0, p, 2 * p))
        found[rows[(here - before == before - twice).all(axis=1)]] = 2
    for p in range(1, start + 1):
        rows = np.flatnonzero(first == tokens[:, start - p])
        found[rows[(tokens[rows, start:] == tokens[rows, start - p : end - p]).all(axis=1)]] = 1
    return found


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Create the SQL function `template(prefix, suffix)` on `con`."""
    create: Any = con.create_function  # its stubs know neither Arrow functions nor options by name
    kinds = ["INTEGER[]", "INTEGER[]"]
    create(_INNER, _batched(), kinds, "VARCHAR", type="arrow", null_handling="special")
    con.execute(f"CREATE MACRO template(prefix, suffix) AS {_INNER}(prefix::INTEGER[], suffix::INTEGER[])")


def unregister(con: duckdb.DuckDBPyConnection) -> None:
    """Remove it, so that DuckDB holds no Python object any more."""
    con.remove_function(_INNER)


def _batched() -> Callable[..., Any]:
    """The function that DuckDB calls; it counts the parameters, so it needs each one by name."""

    def call(prefix: Any, suffix: Any) -> Any:
        columns = [a.combine_chunks() if isinstance(a, pa.ChunkedArray) else a for a in (prefix, suffix)]
        known = np.logical_and(*(column.is_valid().to_numpy(zero_copy_only=False) for column in columns))
        rows = np.flatnonzero(known)
        kinds = np.full(len(known), -1, dtype=np.int8)
        kinds[rows] = _of_lists(*(column.take(pa.array(rows)) for column in columns))
        return pa.array(_NAMES[kinds], pa.string(), mask=~known)

    return call


def _of_lists(prefix: Any, suffix: Any) -> npt.NDArray[np.int8]:
    """The same of lists of any lengths, those of equal lengths together."""
    parts = [from_arrow(column) for column in (prefix, suffix)]
    lengths = np.stack([part.lengths() for part in parts], axis=1)
    found = np.zeros(len(lengths), dtype=np.int8)
    for both in np.unique(lengths, axis=0):
        rows = np.flatnonzero((lengths == both).all(axis=1))
        matrices = [
            part.values[part.offsets[rows][:, None] + np.arange(length)]
            for part, length in zip(parts, both, strict=True)
        ]
        found[rows] = templates(*matrices)
    return found
