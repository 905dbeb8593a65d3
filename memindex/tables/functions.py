"""SQL functions that ask an index: `ngram_count(index, tokens)` and its like, batch first.

Each is an Arrow function of DuckDB: it gets a chunk of about two thousand rows, groups them by index and asks
each index once. To add one, write how it is answered for one index and add a row to `FUNCTIONS`.

DuckDB picks a Python function by exact argument types, and neither an INTEGER[] becomes a UINTEGER[] nor a
string literal a VARCHAR by itself; hence the function proper hides behind an underscore, and a macro of the
public name casts its arguments. NULL in gives NULL out. The functions hold the indexes and never the
connection: a reference in both directions would keep both alive for ever.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from memindex.errors import MemindexError, QueryError
from memindex.ragged import Ragged, from_arrow, to_arrow


class Lookups(Protocol):
    """What the functions need of an index (`memindex.index.Index` has it)."""

    def count(self, queries: Ragged, /) -> npt.NDArray[np.uint64]:
        """Occurrences of each query, uint64 of shape (rows,)."""

    def tokenize(self, texts: list[str], /) -> Ragged:
        """The ids of each text, without special tokens."""


def open_index(path: Path) -> Lookups:
    """Open the index at `path`; imported here so that a study without lookups never loads the core."""
    from memindex.index import Index

    opened: Lookups = Index.open(path)
    return opened


class Indexes:
    """The indexes a connection may ask, opened at first use and kept open.

    An index is called by its name in the study, or by the path of its directory.
    """

    def __init__(self, paths: Mapping[str, Path], opener: Callable[[Path], Lookups] | None = None) -> None:
        """Indexes by name; `opener` opens one (default: `memindex.index.Index.open`)."""
        self._paths = dict(paths)
        self._opener = opener or open_index
        self._open: dict[Path, Lookups] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Lookups:
        """The open index; an unknown name raises QueryError."""
        path = self._path(name)
        with self._lock:  # DuckDB calls from several threads; one opens, the others wait
            if path not in self._open:
                self._open[path] = self._opener(path)
            return self._open[path]

    def _path(self, name: str) -> Path:
        if name in self._paths:
            return self._paths[name]
        path = Path(name)
        if name and path.is_dir():
            return path.resolve()
        known = ", ".join(self._paths) or "none"
        raise QueryError(f"there is no index {name!r}; the study's indexes: {known}; or give an index's directory")


@dataclass(frozen=True)
class Function:
    """One SQL function of (index, argument): its types in DuckDB's words, and how one index answers a batch.

    `answer` gets an index and an Arrow array without NULL, and returns one value per row.
    """

    name: str
    argument: str
    argument_type: str
    result_type: str
    answer: Callable[[Lookups, pa.Array], pa.Array]


def _count(index: Lookups, tokens: pa.Array) -> pa.Array:
    queries = from_arrow(tokens)
    if not queries.lengths().all():
        raise QueryError("a list of tokens is empty: an n-gram has at least one token")
    if queries.values.size and queries.values.min() < 0:
        raise QueryError(f"token id {queries.values.min()} is negative: ids start at 0")
    return pa.array(index.count(queries).astype(np.int64))


def _text_count(index: Lookups, texts: pa.Array) -> pa.Array:
    return _count(index, to_arrow(index.tokenize(texts.to_pylist())))


def _tokenize(index: Lookups, texts: pa.Array) -> pa.Array:
    return to_arrow(index.tokenize(texts.to_pylist()))


FUNCTIONS = (
    Function("ngram_count", "tokens", "INTEGER[]", "BIGINT", _count),
    Function("text_count", "text", "VARCHAR", "BIGINT", _text_count),
    Function("tokenize", "text", "VARCHAR", "INTEGER[]", _tokenize),
)


def register(con: duckdb.DuckDBPyConnection, indexes: Indexes) -> None:
    """Create every function of `FUNCTIONS` on `con`."""
    create: Any = con.create_function  # its stubs know neither Arrow functions nor options by name
    for function in FUNCTIONS:
        create(
            _inner(function),
            _batched(function, indexes),
            ["VARCHAR", function.argument_type],
            function.result_type,
            type="arrow",
            null_handling="special",
        )
        argument = f'"{function.argument}"'
        con.execute(
            f'CREATE MACRO {function.name}("index", {argument}) AS '
            f'{_inner(function)}("index"::VARCHAR, {argument}::{function.argument_type})'
        )


def unregister(con: duckdb.DuckDBPyConnection) -> None:
    """Remove the Python functions, so that DuckDB holds no Python object any more."""
    for function in FUNCTIONS:
        con.remove_function(_inner(function))


def readable(error: Exception) -> MemindexError:
    """What DuckDB says went wrong, in one line and without its wrapping of Python's exceptions."""
    text = str(error)
    wrapped = re.search(r"executing the UDF: \w+: (.*?)(?:\n\nAt:|\Z)", text, re.DOTALL)
    lines = (wrapped.group(1) if wrapped else text).strip().splitlines()
    return MemindexError(lines[0] if lines else type(error).__name__)


def _inner(function: Function) -> str:
    return f"_{function.name}"


def _batched(function: Function, indexes: Indexes) -> Callable[[pa.ChunkedArray, pa.ChunkedArray], pa.ChunkedArray]:
    def call(names: pa.ChunkedArray, arguments: pa.ChunkedArray) -> pa.ChunkedArray:
        return _by_index(names, arguments, lambda name, rows: function.answer(indexes[name], rows))

    return call


def _by_index(names: Any, arguments: Any, answer: Callable[[str, pa.Array], pa.Array]) -> Any:
    """One call of `answer` per distinct index, its results put back in the order of the rows."""
    complete = pc.and_(pc.is_valid(names), pc.is_valid(arguments))
    groups = pc.unique(pc.filter(names, complete)).to_pylist()
    if len(groups) == 1 and pc.all(complete).as_py():
        return answer(groups[0], _combined(arguments))
    rows, results = [], []
    for name in groups:
        chosen = pc.indices_nonzero(pc.and_(complete, pc.equal(names, name)))
        rows.append(chosen.to_numpy())
        results.append(answer(name, _combined(pc.take(arguments, chosen))))
    return _scattered(len(names), rows, results)


def _scattered(length: int, rows: list[npt.NDArray[Any]], results: list[Any]) -> Any:
    """Row i of the result is the one that `rows` sends there, or NULL."""
    if not results:
        return pa.nulls(length)
    source = np.full(length, -1, dtype=np.int64)
    chosen = np.concatenate(rows)
    source[chosen] = np.arange(len(chosen))
    return pc.take(pa.concat_arrays(results), pa.array(source, mask=source < 0))


def _combined(array: Any) -> Any:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
