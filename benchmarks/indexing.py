"""From a JSON Lines file to an index: `memindex index build` beside `python -m infini_gram.indexing`, as processes.

    python benchmarks/indexing.py CORPUS.jsonl --tokenizer olmo-1/tokenizer.json [--rounds N] [--cpus N] [--mem GIB]

infini-gram knows three tokenizers, by their names on a model hub; its process here takes the file given as the one
that it calls `olmo` (a fast tokenizer of `transformers`). It writes tokens, offsets, metadata and table, without
domains, keys or checksums. Prints seconds of both, taking turns, and their ratio; stops if tokens or tables differ.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The package asks a model hub for its tokenizer: this one line answers from the file.
PEER = """
import sys, transformers, infini_gram.indexing
file = sys.argv.pop(1)
transformers.AutoTokenizer.from_pretrained = lambda *_, **__: transformers.PreTrainedTokenizerFast(tokenizer_file=file)
infini_gram.indexing.main()
"""


def seconds(command: list[object]) -> float:
    """Seconds of one process from its start to its end."""
    start = time.perf_counter()
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    return time.perf_counter() - start


def one_round(arguments: argparse.Namespace, scratch: Path) -> tuple[float, float]:
    """Seconds of memindex and of infini-gram, whose files are compared."""
    ours, theirs = scratch / "ours", scratch / "theirs"
    build = [sys.executable, "-m", "memindex.cli", "index", "build", arguments.corpus, "--out", ours]
    mine = seconds([*build, "--tokenizer", arguments.tokenizer, "--shards", 1])
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    data = scratch / "data"
    data.mkdir()
    (data / "corpus.jsonl").symlink_to(arguments.corpus)
    peer = [sys.executable, "-c", PEER, arguments.tokenizer, "--data_dir", data, "--save_dir", theirs]
    options = ["--tokenizer", "olmo", "--add_metadata", "--cpus", arguments.cpus, "--mem", arguments.mem]
    other = seconds([*peer, *options, "--ulimit", files])
    for name in ("tokenized.0", "table.0"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), f"{name} differs"
    return mine, other


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2, help="processes of infini-gram")
    parser.add_argument("--mem", type=int, default=8, help="GiB that infini-gram may use")
    arguments = parser.parse_args()
    arguments.corpus, arguments.tokenizer = arguments.corpus.resolve(), arguments.tokenizer.resolve()
    rounds = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as scratch:
            rounds.append(one_round(arguments, Path(scratch)))
    mine, other = zip(*rounds, strict=True)
    print(f"| {arguments.rounds} rounds | minimum | median |\n| --- | ---: | ---: |")
    for name, values in (("memindex, s", mine), ("infini-gram, s", other)):
        print(f"| {name} | {min(values):.3g} | {statistics.median(values):.3g} |")
    ratios = [b / a for a, b in rounds]
    print(f"| infini-gram / memindex | {min(ratios):.3g} | {statistics.median(ratios):.3g} |")


if __name__ == "__main__":
    main()
