"""What statistics of an index cost: seconds, and seconds of processor time, of each walk; and peak memory.

    python benchmarks/index_statistics.py INDEX [--rounds N]

The walk alone is n-grams of one token. Windows are those of 32 and of 64 tokens; `walk` and `marks` tell apart what
finding them and what marking every occurrence takes. Prints the least of the rounds, which
other programs disturb least.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np

from memindex import Index, _core
from memindex.index.statistics import index_statistics
from memindex.index.statistics_documents import read_documents


def measured(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The least seconds, and the least seconds of processor time, of some rounds."""
    found = []
    for _ in range(rounds):
        start, processor = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - start, time.process_time() - processor))
    seconds, processor_seconds = np.min(found, axis=0).tolist()
    return seconds, processor_seconds


def main() -> None:
    """Measure one index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    index = Index.open(arguments.index)
    shards, documents = index.shards, read_documents(index)
    domains = len(documents.domains)
    ((bounds, codes),) = documents.parts(1 << 60)
    nothing = [b[:1] for b in bounds], [c[:0] for c in codes]
    stages: dict[str, Callable[[], object]] = {
        "documents: starts, domains": lambda: read_documents(index),
        "documents: bytes": lambda: documents.bytes(index),
        "documents: duplicates": lambda: documents.duplicates(index, 10),
        "walk alone (1-grams)": lambda: _core.frequent_ngrams(shards, 1, 10),
        "n-grams of 1 to 3 tokens": lambda: _core.frequent_ngrams(shards, 3, 10),
        "n-grams of 1 to 5 tokens": lambda: _core.frequent_ngrams(shards, 5, 10),
        "windows: walk": lambda: _core.repeated_windows(shards, *nothing, [32, 64], domains, 0),
        "windows: walk and marks": lambda: _core.repeated_windows(shards, bounds, codes, [32, 64], domains, 0),
        "all of `index stats`": lambda: index_statistics(index),
    }
    tokens = index.manifest.tokens
    print(f"{tokens:,} tokens, {index.manifest.documents:,} documents, {len(shards)} shards, {domains} domains")
    for name, work in stages.items():
        seconds, processor = measured(work, arguments.rounds)
        each = 1e9 * processor / tokens
        print(f"{name:28} {seconds:7.2f} s {processor:7.2f} s of processor time {each:7.1f} ns a token")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main()
