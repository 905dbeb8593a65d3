"""What a build is to do, and within which limits: checked when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from memindex.corpus.sources import ReadOptions
from memindex.corpus.tokenizer import Tokenizer
from memindex.errors import MemindexError
from memindex.index.dealing import lengths_of
from memindex.index.sharding import (
    PROCESS_BYTES,
    choose_shards,
    default_budget,
    most_tokens,
    shown,
    sorting_memory,
    tokens_of_shards,
)
from memindex.index.units import UNIT_BYTES

#: Suffixes per key of the key table, and at most.
KEY_STRIDE = 8
MOST_KEY_STRIDE = 1 << 16

#: Who does the units.
EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class Plan:
    """What is to be done, and within which limits.

    Attributes:
        shards: How many; None takes as few as fit into the memory.
        memory: Bytes that all processes together may take.
        memory_asked: Whether the user said how much that is: then it is a limit even for the shards asked for.
        workers: Processes at the same time; None takes one per processor.
        unit_bytes: Bytes of files in a unit.
    """

    tokenizer: Tokenizer
    options: ReadOptions
    token_width: int
    shards: int | None
    memory: int
    memory_asked: bool = False
    key_stride: int = 8
    skip_bad: bool = False
    workers: int | None = None
    unit_bytes: int = UNIT_BYTES
    engine: EngineName = "local"


def make_plan(
    tokenizer: Tokenizer,
    options: ReadOptions,
    *,
    token_width: int | None = None,
    shards: int | None = None,
    memory: int | None = None,
    key_stride: int = KEY_STRIDE,
    skip_bad: bool = False,
    workers: int | None = None,
    unit_bytes: int = UNIT_BYTES,
    engine: EngineName = "local",
) -> Plan:
    """Check what was asked for, and fill in the rest; raises MemindexError."""
    if shards is not None and shards < 1:
        raise MemindexError(f"an index needs at least 1 shard, not {shards}")
    if workers is not None and workers < 1:
        raise MemindexError(f"a build needs at least 1 worker, not {workers}")
    if not 1 <= key_stride <= MOST_KEY_STRIDE:
        raise MemindexError(f"--key-stride {key_stride}: one key stands for 1 to {MOST_KEY_STRIDE} suffixes")
    if engine not in ("local", "ray"):
        raise MemindexError(f"no engine {engine!r}: it is local or ray")
    width = _token_width(tokenizer, token_width)
    if memory is not None:
        most_tokens(memory, width)
    return Plan(
        tokenizer,
        options,
        width,
        shards,
        default_budget() if memory is None else memory,
        memory is not None,
        key_stride,
        skip_bad,
        workers,
        unit_bytes,
        engine,
    )


def _token_width(tokenizer: Tokenizer, asked: int | None) -> int:
    needed = tokenizer.token_width()
    if asked is None:
        return needed
    if asked not in (1, 2, 4):
        raise MemindexError(f"--token-width {asked}: a token is 1, 2 or 4 bytes wide")
    if asked < needed:
        raise MemindexError(
            f"--token-width {asked} can't hold the ids of {tokenizer.name} "
            f"(0 to {tokenizer.vocabulary - 1}): use {needed}"
        )
    return asked


def shards_for(plan: Plan, folders: Sequence[Path], documents: int) -> int:
    """How many shards the tokens in the folders of finished units make.

    Raises:
        MemindexError: One of the shards that were asked for does not fit into the memory.
    """

    def lengths() -> Iterator:  # type: ignore[type-arg]
        return (lengths_of(folder, plan.token_width) for folder in folders)

    if not plan.shards:
        return choose_shards(lengths, plan.token_width, plan.memory)
    largest = int(tokens_of_shards(lengths, plan.shards).max())
    need = PROCESS_BYTES + sorting_memory(largest, -(-documents // plan.shards), plan.token_width)
    if plan.memory_asked and need > plan.memory:
        raise MemindexError(
            f"a shard of {largest:,} tokens needs {shown(need)}, more than --memory {shown(plan.memory)}: "
            f"use {choose_shards(lengths, plan.token_width, plan.memory)} --shards, or more --memory"
        )
    return plan.shards
