"""The engines that benchmarks compare: memindex and its peers, opened on the same files.

A peer that is not installed is left out (pip install infini-gram fast-gram tokengrams). Peers take token ids as lists,
one query a call; their engines are kept as they are, and each benchmark says which of their calls it makes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from memindex import Index

#: Occurrences of an n-gram from one query: ids in, count out.
CountOne = Callable[[list[int]], int]

DEFAULTS, BEST, FAST, TOKENGRAMS = "infini-gram, defaults", "infini-gram, no prefetch", "fast-gram", "tokengrams"

#: infini-gram's fastest settings for files in memory: no threads that read ahead.
NO_PREFETCH = {"ds_prefetch_depth": 0, "sa_prefetch_depth": 0, "od_prefetch_depth": 0}


def facts(indexes: Sequence[Index]) -> dict[str, Any]:
    """What both infini-gram and fast-gram are opened with."""
    width = indexes[0].manifest.token_width
    vocabulary = 2 ** min(8 * width, 16) - 1
    directories = [str(index.path) for index in indexes]
    return {"index_dir": directories, "eos_token_id": 0, "vocab_size": vocabulary, "token_dtype": f"u{8 * width}"}


def infini_gram(indexes: Sequence[Index], **settings: int) -> Any:
    """An infini-gram engine over several indexes, or None."""
    try:
        from infini_gram.engine import InfiniGramEngine
    except ImportError:
        return None
    return InfiniGramEngine(**facts(indexes), **settings)


def fast_gram(indexes: Sequence[Index]) -> Any:
    """A fast-gram engine over several indexes, or None."""
    try:
        from fastgram import GramEngine
    except ImportError:
        return None
    return GramEngine(**facts(indexes))


def tokengrams(index: Index, scratch: Path) -> Any:
    """A tokengrams index of the same tokens (u16, one shard), built in `scratch`, or None."""
    try:
        from tokengrams import MemmapIndex
    except ImportError:
        return None
    if (index.manifest.token_width, index.manifest.shards) != (2, 1):
        return None
    shutil.copyfile(index.path / "tokenized.0", scratch / "tokens.bin")
    return MemmapIndex.build(str(scratch / "tokens.bin"), str(scratch / "tokens.idx"), vocab=2**16)


def engines(*indexes: Index) -> dict[str, Any]:
    """The engines that read infini-gram's files, by name: infini-gram with both settings, and fast-gram."""
    opened = {
        DEFAULTS: infini_gram(indexes),
        BEST: infini_gram(indexes, **NO_PREFETCH),
        FAST: fast_gram(indexes),
    }
    return {name: engine for name, engine in opened.items() if engine is not None}


def counters(engines: dict[str, Any]) -> dict[str, CountOne]:
    """The call of each engine that counts one n-gram."""
    return {name: lambda ids, count=engine.count: count(ids)["count"] for name, engine in engines.items()}
