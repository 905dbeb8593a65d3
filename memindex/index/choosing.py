"""Which documents of an index are meant: by their numbers, by their files, or by a condition on their rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from memindex.errors import MemindexError
from memindex.index.manifest import DOCUMENTS_FILE
from memindex.index.names import index_directory

#: Documents of each shard: their numbers in it, ascending; int64.
Chosen = dict[int, npt.NDArray[np.int64]]


def choose_documents(
    index: str | Path,
    *,
    documents: Sequence[tuple[int, int]] = (),
    paths: str | Sequence[str] = (),
    where: str | None = None,
) -> Chosen:
    """The documents of an index that any of these names.

    Args:
        index: Directory of the index.
        documents: (shard, number in the shard) of each, as `Index.documents` tells them.
        paths: One or more of: `path` in documents.parquet, or a folder above it.
        where: An SQL condition on the columns of documents.parquet.

    Raises:
        MemindexError: One of them names no document, or the condition can't be evaluated.
    """
    file = index_directory(index) / DOCUMENTS_FILE
    if not file.is_file():
        raise MemindexError(f"{index} has no {DOCUMENTS_FILE}: only an index that memindex built can be changed")
    rows: list[npt.NDArray[np.int64]] = []
    with duckdb.connect() as connection:
        table = connection.from_parquet(str(file))
        for shard, number in documents:
            rows.append(
                _matching(table, f"shard = {int(shard)} AND document = {int(number)}", f"document {shard}:{number}")
            )
        for path in [paths] if isinstance(paths, str) else paths:
            quoted = "'" + path.replace("'", "''") + "'"
            below = "'" + path.rstrip("/").replace("'", "''") + "/'"
            rows.append(_matching(table, f"path = {quoted} OR starts_with(path, {below})", f"path {path}"))
        if where is not None:
            rows.append(_matching(table, where, f"--where {where}"))
    if not rows:
        raise MemindexError("say which documents: by --document, --path or --where")
    every = np.unique(np.concatenate(rows), axis=0)
    return {int(shard): every[every[:, 0] == shard, 1] for shard in np.unique(every[:, 0])}


def _matching(table: duckdb.DuckDBPyRelation, condition: str, named: str) -> npt.NDArray[np.int64]:
    try:
        found = table.filter(condition).project("shard, document").fetchnumpy()
    except duckdb.Error as error:
        raise MemindexError(f"{named}: {str(error).splitlines()[0]}") from None
    if not len(found["shard"]):
        raise MemindexError(f"{named}: no document of the index; nothing was removed")
    return np.stack([found["shard"].astype(np.int64), found["document"].astype(np.int64)], axis=1)
