"""How long work reports its progress, and what each stage counts."""

from __future__ import annotations

import sys
from collections.abc import Callable

#: Called with (stage, done, total).
Progress = Callable[[str, int, int], None]

#: The stage that waits for torch to be imported.
LOAD_TORCH = "load torch"

_UNITS = {
    "tokenize": "bytes",
    "sort": "tokens",
    "download (MB)": "MB",
    "documents": "documents",
    "sidecars": "shards",
    "checksums": "files",
    "run queries": "queries",
    "draw figures": "sections",
    "count n-grams": "tables",
    "look up continuations": "steps",
    "find windows": "models",
    "repeated text": "passes",
}

_UNITS_OF_FIRST_WORD = {"import": "rows"}


def unit_of(stage: str) -> str:
    """What a stage counts; "" for one that only waits."""
    # A study names the index that a stage belongs to first.
    stage = stage.rpartition(": ")[2]
    if stage in _UNITS:
        return _UNITS[stage]
    first = stage.partition(" ")[0]
    if first == "train" and stage != "train tokenizer":
        return "tokens"
    return _UNITS_OF_FIRST_WORD.get(first, "")


def report_loading(progress: Progress) -> None:
    """Report that torch is about to be imported, unless it is there."""
    if "torch" not in sys.modules:
        progress(LOAD_TORCH, 0, 1)
