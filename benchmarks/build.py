"""Building and opening an index, beside infini-gram's builder on the same tokens in the same run.

    python benchmarks/build.py CORPUS… --tokenizer TOKENIZER [--text-field F] [--domain-field F] [--rounds N]

Prints, as minimum and median over the rounds: seconds and tokens/s of each stage of a build, bytes of peak memory per
token, the ratio of suffix sorting to infini-gram's builder (2 processes, its best here), the time to open the index in
a warm process, and the time of a whole `memindex count` process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from memindex.corpus.sources import ReadOptions
from memindex.index import Index, build_index


def infini_gram_seconds(index: Path, scratch: Path, width: int, processes: int = 2) -> float:
    """Seconds of infini-gram's compiled builder for the table of the same token file."""
    import infini_gram

    builder = str(Path(infini_gram.__file__).parent / "rust_indexing")
    tokens = index / "tokenized.0"
    size = tokens.stat().st_size
    ratio = int(np.ceil(np.log2(size) / 8))
    part = -(-size // processes // width) * width
    parts, merged = scratch / "parts", scratch / "merged"
    parts.mkdir()
    merged.mkdir()
    common = ["--data-file", tokens, "--ratio", ratio, "--token-width", width]
    start = time.perf_counter()
    running = []
    for s in range(0, size, part):
        limits = ["--start-byte", s, "--end-byte", min(s + part + 100_000, size)]
        command = [builder, "make-part", *common, "--parts-dir", parts, *limits]
        running.append(subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    assert not any(process.wait() for process in running)
    for command in (
        [
            "merge",
            *common,
            "--parts-dir",
            parts,
            "--merged-dir",
            merged,
            "--num-threads",
            processes,
            "--hacksize",
            100000,
        ],
        ["concat", *common, "--merged-dir", merged, "--merged-file", scratch / "table", "--num-threads", processes],
    ):
        subprocess.run([builder, *map(str, command)], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    assert (scratch / "table").read_bytes() == (index / "table.0").read_bytes(), "the tables differ"
    return seconds


def timed(action) -> float:
    """Seconds that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def one_round(arguments: argparse.Namespace, compare: bool) -> dict[str, float]:
    """All figures of one build."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "index"
        start = time.perf_counter()
        options = ReadOptions(arguments.text_field, arguments.domain_field)
        report = build_index(arguments.corpus, out, tokenizer=arguments.tokenizer, options=options)
        figures["whole build, s"] = time.perf_counter() - start
        tokens = report.manifest.tokens + report.manifest.documents
        figures["tokens"] = tokens
        for stage, seconds in report.seconds.items():
            figures[f"{stage}, s"] = seconds
            figures[f"{stage}, M tokens/s"] = tokens / seconds / 1e6
        figures["sorting process, peak bytes per token"] = report.sorting_peak_memory / tokens
        figures["main process, peak MB"] = report.peak_memory / 1e6
        figures["index, bytes per token"] = sum(f.bytes for f in report.manifest.files.values()) / tokens
        figures["open, ms"] = 1e3 * min(timed(lambda: Index.open(out)) for _ in range(5))
        query = [sys.executable, "-m", "memindex.cli", "count", "-i", str(out), "of the", "--by-domain", "--json"]
        figures["memindex count, whole process, s"] = timed(
            lambda: subprocess.run(query, check=True, capture_output=True)
        )
        if compare:
            theirs = infini_gram_seconds(out, Path(scratch), report.manifest.token_width)
            ours = report.seconds["suffix sorting"] + report.seconds["table and domain column"]
            figures["infini-gram's builder, s"] = theirs
            figures["infini-gram / memindex (sort, table and domain column)"] = theirs / ours
    return figures


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="+")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--text-field", default="text")
    parser.add_argument("--domain-field")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true", help="leave infini-gram out")
    arguments = parser.parse_args()
    rounds = [one_round(arguments, not arguments.no_peer) for _ in range(arguments.rounds)]
    print(f"| figure ({arguments.rounds} rounds) | minimum | median |\n| --- | ---: | ---: |")
    for name in rounds[0]:
        values = [figures[name] for figures in rounds]
        print(f"| {name} | {min(values):,.4g} | {statistics.median(values):,.4g} |")


if __name__ == "__main__":
    main()
