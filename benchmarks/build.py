"""Building and opening an index, beside infini-gram's builder on the same tokens in the same run.

    python benchmarks/build.py CORPUS… --tokenizer TOKENIZER [--text-field F] [--domain-field F] [--rounds N]

Prints, as minimum and median over the rounds: seconds and tokens/s of the build and of its stages (which overlap) and
of the proof of the index, peak memory of all processes, how near the estimate of `--dry-run` came, the ratio of suffix
sorting to infini-gram's builder (2 processes, its best here), the time to open the index in a warm process, and the
time of a whole `memindex count` process.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from memindex.corpus.sources import ReadOptions
from memindex.index import Index, build_index
from memindex.index.estimating import estimate_build
from memindex.index.sharding import parse_size


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


def processor_seconds() -> float:
    """Time that this process and its children which ended spent on processors."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Watch:
    """Looks at the memory of this process and of all it started, every 20 ms: `peak` is the most, in bytes."""

    def __enter__(self) -> Watch:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.peak = max(self.peak, resident(os.getpid()))


def resident(pid: int) -> int:
    """Bytes in memory of a process and of all that it started."""
    total, family = 0, {pid}
    for stat in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda file: int(file.parent.name)):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) in family or int(fields[1]) in family:
            family.add(int(stat.parent.name))
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total


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
        busy = processor_seconds()
        how = {"shards": arguments.shards, "memory": arguments.memory and parse_size(arguments.memory)}
        estimate = estimate_build(arguments.corpus, out, tokenizer=arguments.tokenizer, options=options, **how)
        with Watch() as watch:
            start = time.perf_counter()
            report = build_index(arguments.corpus, out, tokenizer=arguments.tokenizer, options=options, **how)
            figures["whole build, s"] = time.perf_counter() - start
        figures["whole build, processor s"] = processor_seconds() - busy
        figures["all processes together, peak MB"] = watch.peak / 1e6
        busy, start = processor_seconds(), time.perf_counter()
        Index.open(out).verify()
        figures["verify, s"] = time.perf_counter() - start
        figures["verify, processor s"] = processor_seconds() - busy
        figures["build and verify, s"] = figures["whole build, s"] + figures["verify, s"]
        figures["shards"] = report.manifest.shards
        tokens = report.manifest.tokens + report.manifest.documents
        figures["tokens"] = tokens
        figures["estimated / true tokens"] = estimate.tokens / report.manifest.tokens
        size = sum(file.bytes for file in report.manifest.files.values())
        figures["estimated / true bytes of the index"] = estimate.index_bytes / size
        figures["estimated / true memory"] = estimate.memory / watch.peak
        figures["estimated / true seconds"] = estimate.seconds / figures["whole build, s"]
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
        if compare and report.manifest.shards == 1:
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
    parser.add_argument("--shards", type=int)
    parser.add_argument("--memory", help="as for `memindex index build`")
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
