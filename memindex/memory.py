"""Failures that mean that memory ran out, in whichever library: Python, NumPy, Arrow, DuckDB, torch, the loader, Rust.

Standard library only; nothing here allocates much.
"""

from __future__ import annotations

import errno
import os
import re
import sys

from memindex.errors import MemindexError

#: Address space that a library takes with its threads' stacks and allocators, and what each processor adds to that.
_ROOM = {"numpy": 160 << 20, "pyarrow": 608 << 20, "duckdb": 608 << 20, "torch": 1536 << 20}
_ROOM_PER_PROCESSOR = 16 << 20

#: What libraries write when an allocation failed, and nothing else.
_ALLOCATION = (
    r"MemoryError|bad_alloc|bad allocation|memory allocation of \d+ bytes failed|capacity overflow|"
    r"[Cc]annot allocate memory|can't allocate memory|not enough memory|[Oo]ut of [Mm]emory|OutOfMemory|"
    r"failed to (map segment|allocate)|could not allocate|malloc of size \d+ failed|realloc of size \d+ failed|"
    r"Unable to allocate \d|cannot allocate memory in static TLS block"
)

#: What they write when a thread can't be started: for its stack, or because there are too many.
_THREAD = r"can't start new thread|ThreadPoolBuildError|failed to spawn thread|pthread_create failed"


def memory_problem(error: BaseException) -> str | None:
    """Why an error means that memory ran out, in a few words; None where it does not."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return _shortened(f"out of memory ({error})" if str(error) else "out of memory")
    return memory_problem_of(f"{type(error).__name__}: {error}")


def memory_problem_of(text: str) -> str | None:
    """The same of what a process wrote before it ended."""
    for line in reversed(text.splitlines()):
        if re.search(_ALLOCATION, line):
            return _shortened(f"out of memory ({line.strip()})")
        if re.search(_THREAD, line):
            return "out of memory for another thread, or at the limit of threads (see ulimit -v and ulimit -u)"
    return None


def address_space_limit() -> int | None:
    """Bytes of address space that this process may have (ulimit -v); None without a limit."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def refuse_imports_without_room() -> None:
    """Where the address space is limited, make importing a large library raise MemindexError when it has no room.

    Arrow, DuckDB and OpenBLAS end the process, by a segmentation fault or by exit, where they have too little.
    """
    if address_space_limit() is not None:
        sys.meta_path.insert(0, _RoomCheck())


class _RoomCheck:
    """A finder that finds nothing: it only looks whether there is room."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise MemindexError where the module needs more address space than is left."""
        if name not in _ROOM:
            return
        import mmap

        needed = _ROOM[name] + (os.cpu_count() or 1) * _ROOM_PER_PROCESSOR
        try:
            mmap.mmap(-1, needed).close()
        except OSError:
            limit = (address_space_limit() or 0) >> 20
            raise MemindexError(
                f"too little memory: {name} needs about {needed >> 20:,} MB of address space, and the limit of this "
                f"process is {limit:,} MB; raise it (ulimit -v)"
            ) from None


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…)"
