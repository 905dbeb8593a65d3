"""Lookups, tokenizing, builds and reading of two working trees of memindex, in turns.

    python benchmarks/beside_commit.py OLD NEW --corpus SRC --tokenizer TOKENIZER [--domain-field FIELD] [--rounds 15]

OLD and NEW are folders with a built memindex (`git worktree add`, then its compiled core). Two processes, one of each
tree, open an index of the corpus and answer the same batches alternately; commands run one after the other. Prints the
medians and the median of the ratios (new / old): seconds of batches, processor seconds of commands.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

#: What a process of each tree runs: a line names a batch, the answer is its seconds.
WORKER = """
import sys, time
import numpy as np
from memindex.index import Index
from memindex.ragged import from_matrix
index = Index.open(sys.argv[1])
ids, random, queries = index.tokens_of_shard(0), np.random.default_rng(0), {}
largest = int(ids[ids < ids.max()].max())
for n in (1, 2, 5, 16):
    at = random.integers(0, len(ids) - n, 300_000)
    rows = np.minimum(ids[at[:, None] + np.arange(n)].astype(np.int64), largest)
    rows[::2, -1] = random.integers(0, largest, len(rows[::2]))
    queries[n] = from_matrix(rows)
single = [ids[place : place + 5].clip(max=largest).tolist() for place in random.integers(0, len(ids) - 5, 3000)]
texts = index.tokenizer.decode_batch([queries[16].row(row).tolist() for row in range(20_000)])
batches = {f"count {n}": (lambda n=n: index.count(queries[n])) for n in queries}
batches["by domain 5"] = lambda: index.count_by_domain(queries[5].slice(0, 60_000))
batches["count_one 5"] = lambda: [index.count_one(query) for query in single]
batches["positions 2"] = lambda: index.positions(queries[2].slice(0, 20_000), limit=4)
batches["tokenize"] = lambda: index.tokenize(texts)
print(*batches, sep=",", flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    batches[line.strip()]()
    print(time.perf_counter() - began, flush=True)
"""


def main() -> None:
    """Build an index by each tree, then measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--domain-field")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    trees = {"old": arguments.old.resolve(), "new": arguments.new.resolve()}
    build = [
        "index",
        "build",
        str(Path(arguments.corpus).resolve()),
        "--tokenizer",
        arguments.tokenizer,
        "--shards",
        "1",
    ]
    build += ["--domain-field", arguments.domain_field] if arguments.domain_field else []
    with tempfile.TemporaryDirectory() as folder:
        for name, tree in trees.items():
            command(tree, [*build, "--out", f"{folder}/{name}"])
        alternate(trees, folder, arguments.rounds)
        count = {name: ["count", "-i", f"{folder}/{name}", "the"] for name in trees}
        turns("memindex count", lambda name: command(trees[name], count[name]), arguments.rounds)

        def again(name: str) -> float:
            shutil.rmtree(f"{folder}/again", ignore_errors=True)
            return command(trees[name], [*build, "--out", f"{folder}/again"])

        turns("index build", again, max(arguments.rounds // 3, 1))


def alternate(trees: dict[str, Path], folder: str, rounds: int) -> None:
    """Ask a process of each tree for the same batches."""
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-c", WORKER, f"{folder}/{name}"],
            env=os.environ | {"PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, tree in trees.items()
    }
    batches = [worker.stdout.readline().strip().split(",") for worker in workers.values() if worker.stdout]

    def ask(name: str, batch: str) -> float:
        worker = workers[name]
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(f"{batch}\n")
        worker.stdin.flush()
        return float(worker.stdout.readline())

    for batch in batches[0]:
        turns(batch, lambda name, batch=batch: ask(name, batch), rounds)  # type: ignore[misc]
    for worker in workers.values():
        worker.communicate()


def turns(what: str, measure: Callable[[str], float], rounds: int) -> None:
    """Measure both in turns, once to warm up, and print the medians."""
    for name in ("old", "new"):
        measure(name)
    taken: dict[str, list[float]] = {"old": [], "new": []}
    for number in range(rounds):
        for name in ("old", "new") if number % 2 else ("new", "old"):
            taken[name].append(measure(name))
    old, new = (statistics.median(taken[name]) for name in ("old", "new"))
    ratio = statistics.median(b / a for a, b in zip(taken["old"], taken["new"], strict=True))
    print(f"{what:15} old {old:8.4f} s   new {new:8.4f} s   ratio {ratio:.3f}", flush=True)


def command(tree: Path, arguments: list[str]) -> float:
    """Processor seconds of a command of the tree."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "memindex.cli", *arguments],
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
