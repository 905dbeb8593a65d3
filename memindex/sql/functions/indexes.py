"""The indexes that SQL may ask: by their names in the study, or by path; opened at first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.errors import QueryError, shortened
from memindex.index.names import identity_of, index_directory
from memindex.near_names import did_you_mean
from memindex.ragged import Ragged

if TYPE_CHECKING:
    from memindex.corpus.tokenizer import Tokenizer
    from memindex.index.answers import LongestMatches


class Lookups(Protocol):
    """What the functions need of an index; `memindex.index.Index` has it, and says there what each gives."""

    @property
    def name(self) -> str:
        """What errors call the index."""

    @property
    def domains(self) -> list[str]:
        """Names of the domains; empty where the index has no domain column."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the index; QueryError where it has none."""

    def tokenize(self, texts: list[str], /) -> Ragged:
        """The ids of each text, without special tokens."""

    def count(self, queries: Ragged, /) -> npt.NDArray[np.uint64]:
        """Occurrences of each query, uint64 of shape (rows,)."""

    def count_by_domain(self, queries: Ragged, /) -> npt.NDArray[np.uint64]:
        """Occurrences of each query in each domain, uint64 of shape (rows, domains)."""

    def longest_match(self, queries: Ragged, /) -> LongestMatches:
        """The longest match that starts at each token, and its count."""

    def documents(self, queries: Ragged, limit: int, *, max_tokens: int) -> pa.Table:
        """The documents around occurrences, in the order of the queries."""


def open_index(path: Path) -> Lookups:
    """Open the index at `path`; imported here so that a study without lookups never loads the core."""
    from memindex.index import Index

    opened: Lookups = Index.open(path)
    return opened


class Indexes:
    """The indexes a connection may ask, opened at first use and kept open.

    An index is called by its name in the study, by the path of its directory, or by the name it was built under. The
    study's are those that stood there when the connection was made; a path is asked as it is now.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        opener: Callable[[Path], Lookups] | None = None,
        *,
        only_named: bool = False,
    ) -> None:
        """Indexes by name.

        Args:
            paths: Name of an index -> its directory.
            opener: Opens one; default `memindex.index.Index.open`.
            only_named: Whether paths are refused.
        """
        self._paths = dict(paths)
        #: Name of an index that must not be asked by it -> why.
        self.refused: Mapping[str, str] = {}
        #: Name of an index whose documents can't be read -> why.
        self.undocumented: Mapping[str, str] = {}
        self._opener = opener or open_index
        self._only_named = only_named
        self._identities = {name: identity_of(path) for name, path in paths.items()}
        self._open: dict[tuple[Path, tuple[int, ...] | None], Lookups] = {}
        self._lock = threading.Lock()
        self._forgotten = False

    def __getitem__(self, name: str) -> Lookups:
        """The open index; an unknown name raises QueryError."""
        if self._forgotten:
            raise QueryError("the connection of this cursor is gone: keep what memindex.connect gave")
        path = self._path(name)
        key = path, identity_of(path)
        with self._lock:  # DuckDB calls from several threads; one opens, the others wait
            if key not in self._open:
                self._open[key] = self._opener(path)
        self.check_same(name)
        return self._open[key]

    def check_same(self, name: str) -> None:
        """Raise QueryError when another version took the place of one of the study's indexes since it was connected.

        Its documents, which a view reads, and its counts would be of two versions.
        """
        if name in self._paths and identity_of(self._paths[name]) != self._identities[name]:
            raise QueryError(
                f"{self._paths[name]}: another version of the index took its place after this connection was made: "
                "connect again"
            )

    def check_documents(self, name: str) -> None:
        """Raise QueryError when the documents of one of the study's indexes can't be read, or as `check_same`."""
        if name in self.undocumented:
            raise QueryError(self.undocumented[name])
        self.check_same(name)

    def forget(self) -> None:
        """Let go of all indexes, and answer no more."""
        self._forgotten = True
        self._open.clear()

    def _path(self, name: str) -> Path:
        if name in self.refused:
            there = self._paths[name].is_dir() and not self._only_named
            now = f"; to ask it as it is now, give {self._paths[name]} instead of its name" if there else ""
            raise QueryError(self.refused[name] + now)
        if name in self._paths:
            return self._paths[name]
        near = did_you_mean(name, self._paths) or f"the study's indexes: {', '.join(self._paths) or 'none'}"
        known = f"there is no index {shortened(name, 80)!r}; {near}"
        if self._only_named:
            raise QueryError(known)
        path = index_directory(name)
        if name and "\0" not in name and path.is_dir():
            return path.resolve()
        raise QueryError(f"{known}; or give an index's directory")
