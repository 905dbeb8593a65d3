"""How a corpus is dealt into shards, and what memory that takes.

Suffix sorting holds a shard: per token, the text (the width of a token, or two bytes where that is enough) and the
suffix array (four), then in place of the text the domain of every position (two) or the mapped tokens.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from memindex.corpus.windows import ORDINARY, WindowError
from memindex.errors import MemindexError
from memindex.index.sorting import SortJob

#: Peak bytes per token while a shard is sorted and written, by token width (measured: docs/benchmarks.md).
SORTING_BYTES = {1: 6.7, 2: 6.7, 4: 8.7}

#: The same per document: its label, and where it starts.
DOCUMENT_BYTES = 24

#: What a sorting process takes for itself.
SORTER_BYTES = 48 << 20

#: What the process of a build takes, and each further one that tokenizes: two tokenizers, Arrow, some batches.
PROCESS_BYTES = 512 << 20

#: Tokens in a shard at most: the sorter has 32-bit positions.
MOST_TOKENS = (1 << 31) - 1

#: The part of the machine's memory that a build takes when nothing is said.
SHARE = 0.8

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
UNITS["ti"] = 1 << 40


def parse_size(text: str) -> int:
    """Bytes in a size as `8GB`, `512MiB` or `1e9`; raises MemindexError when it is none."""
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    try:
        if found:
            return int(float(found[1]) * UNITS[found[2]])
    except (ValueError, KeyError, OverflowError):
        pass
    raise MemindexError(f"{text!r} is no size: write it as 8GB or 512MiB")


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_memory() -> int:
    """Bytes of memory of the machine, or of the control group (container, batch job) that this process is in."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(file).read_text()))
        except (OSError, ValueError):
            continue
    return min(limits)


def default_budget() -> int:
    """The memory a build takes when nothing is said."""
    return int(machine_memory() * SHARE)


def sorting_memory(tokens: int, documents: int, width: int) -> int:
    """Peak memory in bytes of the process that sorts a shard; tokens with separators."""
    return int(SORTER_BYTES + SORTING_BYTES[width] * tokens + DOCUMENT_BYTES * documents)


def most_tokens(budget: int, width: int) -> int:
    """Tokens, with separators, of the largest shard that can be sorted within a budget, short of its documents."""
    room = budget - PROCESS_BYTES - SORTER_BYTES
    if room < 1 << 20:
        raise MemindexError(
            f"--memory {shown(budget)} is too little for a build: give at least "
            f"{shown(PROCESS_BYTES + SORTER_BYTES + (64 << 20))}"
        )
    return min(MOST_TOKENS, int(room / SORTING_BYTES[width]))


def concurrent_sorters(jobs: Sequence[SortJob], budget: int, workers: int) -> int:
    """How many shards are sorted at the same time: the largest as often as fits into the budget."""
    largest = max(job.memory for job in jobs)
    return max(1, min(workers, len(jobs), (budget - PROCESS_BYTES) // max(largest, 1)))


def concurrent_tokenizers(budget: int, workers: int, window: int = 0) -> int:
    """How many processes tokenize at the same time, each of which may unpack files with a window of that many bytes."""
    return max(1, min(workers, (budget - PROCESS_BYTES) // (PROCESS_BYTES + window)))


def window_memory(budget: int, tokenizers: int) -> int:
    """Bytes that each tokenizing process may take for the window of a packed file, beyond what it takes anyway.

    One works in the process of the build, several work beside it.
    """
    spare = (
        budget - PROCESS_BYTES
        if tokenizers <= 1
        else budget // tokenizers - PROCESS_BYTES - PROCESS_BYTES // tokenizers
    )
    return max(ORDINARY, spare)


def beyond_memory(error: WindowError, budget: int) -> MemindexError:
    """What is said of a file that can't be unpacked within the budget."""
    return MemindexError(
        f"{error} does not fit into --memory {shown(budget)}: give --memory {shown_above(PROCESS_BYTES + error.need)}, "
        "or pack the file again with a smaller window (zstd -dc --long=31 FILE | zstd > NEW)"
    )


#: Gives the tokens of all documents in their order, some at a time; each time it is called.
Lengths = Callable[[], Iterator[npt.NDArray[np.int64]]]


def tokens_of_shards(lengths: Lengths, shards: int) -> npt.NDArray[np.int64]:
    """Tokens and separators of each shard when document i goes to shard i modulo `shards`; int64."""
    sums, dealt = np.zeros(shards, dtype=np.int64), 0
    for part in lengths():
        places = (dealt + np.arange(len(part))) % shards
        # A float holds these sums exactly: a unit is far below 2^53 tokens.
        sums += np.bincount(places, weights=part + 1, minlength=shards).astype(np.int64)
        dealt += len(part)
    return sums


def choose_shards(lengths: Lengths, width: int, budget: int) -> int:
    """The least number of shards each of which can be sorted within the budget.

    Args:
        lengths: Gives the tokens of all documents.
        width: Bytes per token.
        budget: Memory of the whole build, in bytes.

    Raises:
        MemindexError: The budget is too small for anything, or a single document is too long for it.
    """
    most = most_tokens(budget, width)
    documents = tokens = longest = 0
    for part in lengths():
        documents, tokens = documents + len(part), tokens + int(part.sum()) + len(part)
        longest = max(longest, int(part.max(initial=0)))
    if longest + 1 > most:
        raise MemindexError(
            f"a document of {longest:,} tokens is too long: a shard holds {most:,} "
            + ("at most" if most == MOST_TOKENS else f"within --memory {shown(budget)}, give more")
        )
    shards = max(1, -(-tokens // most))
    while shards < documents:
        held = int(tokens_of_shards(lengths, shards).max())
        need = PROCESS_BYTES + sorting_memory(held, -(-documents // shards), width)
        if held <= most and need <= budget:
            break
        shards += max(1, shards // 16)
    return min(shards, max(documents, 1))


def shown_above(size: int) -> str:
    """A size, rounded up, that can be given as an option."""
    return f"{-(-size // 10**8) / 10:.1f}GB"


def shown(size: float) -> str:
    """A size as people read it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"
