"""Counting n-grams, beside the peers on the same files in the same run.

    python benchmarks/lookups.py INDEX [--queries N] [--rounds N]

INDEX is a u16 index of one shard. Queries are n-grams at random places of the corpus, a fifth of them with one id
changed. Every engine gets the same ones, through its fastest call from Python; a peer that is not installed is left
out (pip install fast-gram tokengrams). Counts of all engines are compared.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from memindex import Index
from memindex.ragged import from_matrix

Counter = Callable[[np.ndarray], np.ndarray]


def one_by_one(count: Callable[[list[int]], int]) -> Counter:
    """A batch for an engine that has none."""
    return lambda queries: np.array([count(query) for query in queries.tolist()])


def engines(index: Index, scratch: Path) -> dict[str, tuple[Counter, int]]:
    """By name: the call, and how many queries it gets (peers that are slow get fewer)."""
    found: dict[str, tuple[Counter, int]] = {
        "memindex, one batch": (lambda queries: index.count(from_matrix(queries)), 1_000_000),
        "memindex, by domain, one batch": (
            lambda queries: index.count_by_domain(from_matrix(queries)).sum(axis=1),
            1_000_000,
        ),
        "memindex, one call each": (one_by_one(index.count_one), 20_000),
    }
    arguments = {"index_dir": str(index.path), "eos_token_id": 0, "token_dtype": "u16"}
    try:
        from infini_gram.engine import InfiniGramEngine
    except ImportError:
        pass
    else:
        default = InfiniGramEngine(**arguments)
        plain = InfiniGramEngine(**arguments, ds_prefetch_depth=0, sa_prefetch_depth=0, od_prefetch_depth=0)
        found["infini-gram, defaults"] = (one_by_one(lambda q: default.count(q)["count"]), 2_000)
        found["infini-gram, no prefetch"] = (one_by_one(lambda q: plain.count(q)["count"]), 2_000)
    try:
        from fastgram import GramEngine
    except ImportError:
        pass
    else:
        engine = GramEngine(**arguments)
        found["fast-gram"] = (one_by_one(lambda q: engine.count(q)["count"]), 20_000)
    try:
        from tokengrams import MemmapIndex
    except ImportError:
        pass
    else:
        tokens = scratch / "tokens.bin"
        tokens.write_bytes((index.path / "tokenized.0").read_bytes())
        built = MemmapIndex.build(str(tokens), str(scratch / "tokens.idx"), vocab=2**16)
        found["tokengrams"] = (one_by_one(built.count), 20_000)
    return found


def sample(tokens: np.ndarray, length: int, number: int, seed: int) -> np.ndarray:
    """n-grams without separators, int64 of shape (about number, length)."""
    random = np.random.default_rng(seed)
    starts = random.integers(0, len(tokens) - length, number)
    queries = tokens[starts[:, None] + np.arange(length)].astype(np.int64)
    changed = np.flatnonzero(random.random(number) < 0.2)
    queries[changed, random.integers(0, length, len(changed))] = random.integers(0, 50_000, len(changed))
    return queries[(queries != 65_535).all(axis=1)]


def main() -> None:
    """Run all engines on all lengths and print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 3, 5, 8, 16, 64])
    arguments = parser.parse_args()
    index = Index.open(arguments.index)
    tokens = index.tokens_of_shard(0)
    print(f"{index.manifest.tokens:,} tokens; counts per second, median (minimum) of {arguments.rounds} rounds\n")
    with tempfile.TemporaryDirectory() as scratch:
        running = engines(index, Path(scratch))
        print("| n | " + " | ".join(running) + " |\n| --- |" + " ---: |" * len(running))
        for length in arguments.lengths:
            rates: dict[str, list[float]] = {name: [] for name in running}
            for turn in range(arguments.rounds):
                queries = sample(tokens, length, 1_000_000, turn)
                expected = index.count(from_matrix(queries[:2_000]))
                for name, (count, number) in running.items():
                    part = queries[:number]
                    start = time.perf_counter()
                    counts = count(part)
                    rates[name].append(len(part) / (time.perf_counter() - start))
                    assert (counts[:2_000] == expected).all(), f"{name} counts differently"
            cells = [f"{statistics.median(r):,.0f} ({min(r):,.0f})" for r in rates.values()]
            print(f"| {length} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
