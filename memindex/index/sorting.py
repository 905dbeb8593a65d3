"""The unit of work that sorts one shard, for a process of its own: imports the compiled core and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

from memindex import _core


class SortJob(NamedTuple):
    """One shard to sort; fields as the arguments of `_core.sort_shard`."""

    directory: Path
    shard: int
    token_width: int
    domain_of_document: bytes
    domains: int
    domain_block: int


class Sorted(NamedTuple):
    """Tokens of the shard, seconds of sorting and of writing, peak memory of the process in bytes."""

    tokens: int
    sort_seconds: float
    write_seconds: float
    peak_memory: int


def sort_shard(job: SortJob) -> Sorted:
    """Sort a shard's suffixes and write its table, unigrams and domain column."""
    return Sorted(*_core.sort_shard(*job), peak_memory())


def end_with_parent() -> None:
    """Make this process end when the one that started it does, also when that one is killed.

    Otherwise it would go on sorting, and write its table into the folder of the next build of the same index.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes.

    From /proc where there is one: getrusage would report the parent's peak, which a new process inherits.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
