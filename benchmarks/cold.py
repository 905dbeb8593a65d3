"""Page reads per count when the files are on disk and not in memory, beside the peers on the same files.

    python benchmarks/cold.py INDEX [--queries N…] [--batch N] [--length N]

Each engine counts the same n-grams, half of them absent, one call each, in a process of its own, after the index's
files were taken out of the page cache; memindex's key table is read back once before. The table tells per count:

    read      4 kB pages that the process made the disk read (/proc/self/io)
    table     pages of table.0 that came into memory (mincore), and text: those of tokenized.0
    faults    major page faults: reads that stopped a thread
    ms        wall time

Upper steps of a binary search share pages between queries; the fewer queries, the more of them a count pays itself.
Linux only. Files that other processes have mapped stay in memory: the script says so and ends with 1.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peers
import samples

from memindex import Index
from memindex.ragged import from_matrix

OURS, OURS_BATCH = "memindex, one call each", "memindex, one batch"

ENGINES = (OURS, OURS_BATCH, peers.DEFAULTS, peers.BEST, peers.FAST)

#: What one look at table.0 or tokenized.0 brings into memory at least.
PAGE = mmap.PAGESIZE

TEXT, TABLE, KEYS = "tokenized.0", "table.0", "keys.0"


def evict(directory: Path) -> None:
    """Take the files of an index out of the page cache."""
    for file in directory.iterdir():
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def resident(file: Path) -> int:
    """Pages of a file that are in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = file.stat().st_size
    with file.open("rb") as opened:
        # Copy on write, because ctypes wants a buffer that it could write to; no page of it is touched.
        mapped = mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_COPY)
    pages = -(-size // PAGE)
    states = (ctypes.c_ubyte * pages)()
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    if libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), states):
        raise OSError(ctypes.get_errno(), "mincore")
    return int((np.frombuffer(states, dtype=np.uint8) & 1).sum())


def pages_read() -> int:
    """Pages that this process made the disk read so far."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"]) // PAGE


def counter(engine: str, index: Index, queries: samples.Ids) -> Callable[[], list[int]]:
    """What an engine does to count all queries; it is open when this returns."""
    if engine == OURS_BATCH:
        batch = from_matrix(queries)
        return lambda: index.count(batch).tolist()
    if engine == OURS:
        count = index.count_one
    else:
        opened = {peers.DEFAULTS: {}, peers.BEST: peers.NO_PREFETCH}
        one = peers.fast_gram([index]) if engine == peers.FAST else peers.infini_gram([index], **opened[engine])
        count = peers.counters({engine: one})[engine]
    lists = queries.tolist()
    return lambda: [count(query) for query in lists]


def measure(engine: str, directory: Path, file: Path) -> dict[str, float]:
    """Count the n-grams of a file with cold caches; figures in all."""
    queries = np.load(file)
    index = Index.open(directory)
    count = counter(engine, index, queries)
    if engine in (OURS, OURS_BATCH):
        (directory / KEYS).read_bytes()
    before = np.array([pages_read(), resident(directory / TABLE), resident(directory / TEXT)])
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    start = time.perf_counter()
    counts = count()
    seconds = time.perf_counter() - start
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt - faults
    after = np.array([pages_read(), resident(directory / TABLE), resident(directory / TEXT)])
    read, table, text = (after - before).tolist()
    return {
        "read": read,
        "table": table,
        "text": text,
        "faults": faults,
        "ms": 1e3 * seconds,
        "sum": sum(counts),
        "in memory before": int(before[1] + before[2]),
    }


def one_engine(engine: str, index: Path, file: Path) -> dict[str, float]:
    """The figures of an engine, measured in a process of its own."""
    evict(index)
    command = [sys.executable, __file__, str(index), "--measure", engine, "--file", str(file)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def half_absent(directory: Path, length: int, number: int) -> samples.Ids:
    """n-grams in random order, half of them absent."""
    index = Index.open(directory)
    halves = samples.present(index, length, number - number // 2, 0), samples.absent(index, length, number // 2, 0)
    return np.random.default_rng(0).permutation(np.concatenate(halves))


def compare(arguments: argparse.Namespace) -> None:
    """All engines, all numbers of queries."""
    directory = Path(arguments.index).resolve()
    runs = [(number, [e for e in ENGINES if e != OURS_BATCH]) for number in arguments.queries]
    pages = sum(-(-(directory / name).stat().st_size // PAGE) for name in (TEXT, TABLE))
    print(f"{directory.name}: {pages:,} pages of text and table; {arguments.length}-grams")
    print("\n| queries | engine | read | table | text | faults | ms |\n| ---: | --- |" + " ---: |" * 5)
    for number, names in [*runs, (arguments.batch, [OURS_BATCH])]:
        file = Path(arguments.scratch) / f"queries-{os.getpid()}.npy"
        # No map of the index outlives this call: what a process has mapped can't be evicted.
        np.save(file, half_absent(directory, arguments.length, number))
        sums = set()
        try:
            for engine in names:
                found = one_engine(engine, directory, file)
                if found["in memory before"] > pages / 100:
                    sys.exit(f"{found['in memory before']:,} pages stay in memory: does another process use the index?")
                cells = [f"{found[name] / number:.3g}" for name in ("read", "table", "text", "faults", "ms")]
                print(f"| {number:,} | {engine} | " + " | ".join(cells) + " |", flush=True)
                sums.add(found["sum"])
        finally:
            file.unlink()
        assert len(sums) == 1, "engines count differently"


def main() -> None:
    """Compare the engines; `--measure`: be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("--queries", type=int, nargs="+", default=[200, 2_000], help="for calls one by one")
    parser.add_argument("--batch", type=int, default=10_000, help="queries of the batch")
    parser.add_argument("--length", type=int, default=5, help="n")
    parser.add_argument("--scratch", default="/tmp", help="folder for the file of queries")
    parser.add_argument("--measure", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, Path(arguments.index), Path(arguments.file))))
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
