"""Which indexes a study's tables were made from, and whether those of today are still the same.

The table `indexes` has a row for each, written before anything that depends on it. SQL over finished tables needs no
index and stays possible whatever happens to it; what would mix two states of an index is refused with one line.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memindex.errors import MemindexError
from memindex.index.manifest import index_checksum
from memindex.tables.store import TableStore

if TYPE_CHECKING:
    from memindex.index.index import Index
    from memindex.study.config import StudyConfig


def open_index(config: StudyConfig, path: Path) -> Index:
    """Open an index of a study.

    Raises:
        MemindexError: It is not where study.toml says (the message says how to mend that), or it can't be opened.
    """
    from memindex.index.index import Index

    if not path.is_dir():
        raise MemindexError(_moved(config, path))
    return Index.open(path)


def remember_indexes(store: TableStore, indexes: Iterable[Index]) -> None:
    """Write down what the indexes are that tables will be made from.

    Raises:
        MemindexError: The tables were made from another state of an index.
    """
    for index in indexes:
        row = _row(index)
        there = store.read("indexes", units=[index.name]).column("checksum").to_pylist()
        if there and there != row["checksum"]:
            raise MemindexError(_changed(index.path, store.directory))
        if not there:
            store.write("indexes", index.name, row)


def unusable_indexes(config: StudyConfig) -> dict[str, str]:
    """The study's indexes that the tables' rows can't be asked in, by name, each with one line that says why.

    They are not where study.toml says, or are not what they were when the tables were made.
    """
    rows = TableStore(config.tables).read("indexes")
    known = dict(zip(rows["index"].to_pylist(), rows["checksum"].to_pylist(), strict=True))
    found = {}
    for name, path in config.indexes().items():
        if not path.is_dir():
            found[name] = _moved(config, path)
        elif name in known and (why := _difference(config, path, known[name])):
            found[name] = why
    return found


def check_indexes(config: StudyConfig) -> None:
    """Refuse a study whose indexes are not where it says, or not what they were when its tables were made.

    Raises:
        MemindexError: The first such index, and what to do.
    """
    for line in unusable_indexes(config).values():
        raise MemindexError(line)


def warn_of_changes(config: StudyConfig, unusable: Mapping[str, str]) -> None:
    """Warn of indexes that are there and not what they were; those that are not there are missed by whoever asks."""
    for name, path in config.indexes().items():
        if name in unusable and path.is_dir():
            warnings.warn(unusable[name], stacklevel=3)


def _difference(config: StudyConfig, path: Path, checksum: str) -> str:
    """Why the index is not the one with this checksum; empty when it is."""
    from memindex.index.index import Index

    try:
        changed = index_checksum(Index.open(path).manifest) != checksum
    except MemindexError as error:
        return str(error)
    return _changed(path, config.tables) if changed else ""


def _row(index: Index) -> dict[str, list[Any]]:
    manifest = index.manifest
    return {
        "index": [index.name],
        "checksum": [index_checksum(manifest)],
        "tokenizer": [manifest.tokenizer or None],
        "documents": [manifest.documents],
        "tokens": [manifest.tokens],
        "domains": [len(manifest.domains)],
        "shards": [manifest.shards],
    }


def _moved(config: StudyConfig, path: Path) -> str:
    key = "index" if path == config.index else "heldout"
    return (
        f"the index {path.name} is not at {path}: write where it is now as {key} into "
        f"{config.directory / 'study.toml'}, its directory still called {path.name}"
    )


def _changed(path: Path, tables: Path) -> str:
    return (
        f"the index {path.name} changed since the study's tables were made from it: put the old one back at {path}, or "
        f"move {tables} away and fill the tables anew"
    )
