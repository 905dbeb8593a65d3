"""memindex: what did a language model memorize, how often did that stand in the corpus, in which domains?

Names load when they are used, so that a lookup never pays for torch, DuckDB or Arrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memindex.errors import CorpusError, CorruptIndexError, MemindexError, QueryError
    from memindex.index import Index, build_index
    from memindex.ragged import Ragged
    from memindex.sql.connection import connect

__version__ = "0.1.0"

_HOME = {
    "CorpusError": "memindex.errors",
    "CorruptIndexError": "memindex.errors",
    "Index": "memindex.index",
    "MemindexError": "memindex.errors",
    "QueryError": "memindex.errors",
    "Ragged": "memindex.ragged",
    "build_index": "memindex.index",
    "connect": "memindex.sql.connection",
}

__all__ = [
    "CorpusError",
    "CorruptIndexError",
    "Index",
    "MemindexError",
    "QueryError",
    "Ragged",
    "__version__",
    "build_index",
    "connect",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'memindex' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
