"""The index: files on disk that answer how often any n-gram stands in a corpus, and in which domains."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memindex.index.adopting import adopt_index
    from memindex.index.builder import build_index
    from memindex.index.index import Index
    from memindex.index.manifest import Manifest

__all__ = ["Index", "Manifest", "adopt_index", "build_index"]

_HOME = {"Index": "index", "Manifest": "manifest", "adopt_index": "adopting", "build_index": "builder"}


def __getattr__(name: str) -> Any:
    # A lookup must not pay for what a build imports.
    if name not in _HOME:
        raise AttributeError(f"module 'memindex.index' has no attribute {name!r}")
    return getattr(importlib.import_module(f"memindex.index.{_HOME[name]}"), name)
