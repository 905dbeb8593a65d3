"""CNF queries and infinite-gram probabilities, beside the infini-gram package on the same files in the same run.

    python benchmarks/cooccurrence.py INDEX [--rounds N]

INDEX is an index of one shard. CNF queries are pairs of 2-grams at random places of the corpus, and pairs of single
ids of given frequencies; prompts are 32 tokens at random places, half of them with one id changed. The package is
called with a limit above every clause, and for the number of its wrong answers also with its defaults.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from infini_gram.engine import InfiniGramEngine

from memindex import Index
from memindex.index.answers import Probabilities

#: Frequencies of two ids, in occurrences per million tokens.
FREQUENCIES = [(20, 20), (20, 1_000), (20, 25_000), (1_000, 1_000), (1_000, 25_000), (25_000, 26_000)]


def windows(index: Index, length: int, number: int, seed: int) -> np.ndarray:
    """n-grams of the corpus without separators, int64 of shape (about number, length)."""
    tokens = index.tokens_of_shard(0)
    starts = np.random.default_rng(seed).integers(0, len(tokens) - length, number)
    found = tokens[starts[:, None] + np.arange(length)].astype(np.int64)
    return found[(found < np.iinfo(tokens.dtype).max).all(axis=1)]


def seconds(call: Callable[[Any], Any], questions: list[Any]) -> tuple[float, list[Any]]:
    """How long a call for each question takes, and the answers."""
    start = time.perf_counter()
    answers = [call(question) for question in questions]
    return time.perf_counter() - start, answers


def ids_of_frequency(index: Index) -> list[tuple[int, int]]:
    """For every pair of frequencies, two ids that come nearest."""
    counts = index.count(np.arange(index.manifest.vocabulary).reshape(-1, 1)).astype(float)
    rates = counts / index.manifest.tokens * 1e6
    pairs = []
    for wanted in FREQUENCIES:
        first, second = (np.argsort(abs(rates - rate)) for rate in wanted)
        pairs.append((int(first[0]), int(second[second != first[0]][0])))
    return pairs


def compare_cnf(index: Index, package: InfiniGramEngine, rounds: int) -> None:
    """Print seconds of both for each set of queries, and how many the package answers wrong."""
    singles = {
        f"{a:,} and {b:,} per million": [[[[x]], [[y]]]]
        for (a, b), (x, y) in zip(FREQUENCIES, ids_of_frequency(index), strict=True)
    }
    left, right = (windows(index, 2, 200, seed).tolist() for seed in (0, 1))
    pairs = [[[a], [b]] for a, b in zip(left, right, strict=False)]
    print("| queries | memindex | infini-gram | its wrong answers | with its default limit | says approx |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, queries in {**singles, f"{len(pairs)} pairs of 2-grams": pairs}.items():
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            took, ours = seconds(index.count_cnf, queries)
            times[0].append(took)
            took, theirs = seconds(lambda query: package.count_cnf(query, max_clause_freq=10**12), queries)
            times[1].append(took)
        defaults = [package.count_cnf(query) for query in queries]
        assert all(answer.exact for answer in ours)
        wrong, cut = (sum(a.low != b["count"] for a, b in zip(ours, them, strict=True)) for them in (theirs, defaults))
        cells = [f"{statistics.median(t) * 1e3:,.1f} ms ({min(t) * 1e3:,.1f})" for t in times]
        print(f"| {name} | {cells[0]} | {cells[1]} | {wrong} | {cut} | {sum(b['approx'] for b in defaults)} |")


def compare_probabilities(index: Index, package: InfiniGramEngine, rounds: int) -> None:
    """Print prompts per second of infinite-gram probabilities."""
    rows = windows(index, 33, 20_000, 2)
    random = np.random.default_rng(3)
    changed = np.flatnonzero(random.random(len(rows)) < 0.5)
    rows[changed, random.integers(0, 32, len(changed))] = random.integers(0, index.manifest.vocabulary, len(changed))
    prompts, tokens = rows[:, :32], rows[:, 32]
    few = 500

    def ours(pair: tuple[np.ndarray, np.ndarray]) -> Probabilities:
        return index.infinigram_prob(*pair)

    rates: dict[str, list[float]] = {"memindex, one batch": [], "memindex, one call each": [], "infini-gram": []}
    for _ in range(rounds):
        took, (batch,) = seconds(ours, [(prompts, tokens)])
        rates["memindex, one batch"].append(len(prompts) / took)
        took, _ = seconds(ours, list(zip(prompts[:few], tokens[:few], strict=True)))
        rates["memindex, one call each"].append(few / took)
        pairs = list(zip(prompts[:few].tolist(), tokens[:few].tolist(), strict=True))
        took, theirs = seconds(lambda pair: package.infgram_prob(*pair), pairs)
        rates["infini-gram"].append(few / took)
        assert [a["cont_cnt"] for a in theirs] == batch.token_counts[:few].tolist(), "infini-gram counts differently"
    print("\n| infinite-gram probabilities | prompts per second, median (minimum) |\n| --- | ---: |")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):,.0f} ({min(found):,.0f}) |")


def main() -> None:
    """Run both on the same queries and print times, rates and wrong answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    index = Index.open(arguments.index)
    width = index.manifest.token_width
    package = InfiniGramEngine(str(index.path), 0, vocab_size=2 ** (8 * width) - 1, token_dtype=f"u{8 * width}")
    print(f"{index.manifest.tokens:,} tokens; times are medians (minima) of {arguments.rounds} rounds\n")
    compare_cnf(index, package, arguments.rounds)
    compare_probabilities(index, package, arguments.rounds)


if __name__ == "__main__":
    main()
