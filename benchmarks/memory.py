"""Peak memory and time of index builds on documents of extreme sizes.

    python benchmarks/memory.py --tokenizer TOKENIZER [--corpus FILE.jsonl.zst …] [--megabytes 40 400] [--memory 1GB]

The text of a corpus (by default this repository's own), repeated to the size, is written as one document, as one with
a character newer than gigatoken's Unicode, and as 4,000 documents; and as one of ideographs without a space. Each is
built in turns. Prints the input, --memory, the peak of all processes together, the seconds, and their ratio to the
4,000 documents.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def resident(pid: int) -> int:
    """Bytes of memory of a process and its descendants that are not shared with others (PSS)."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) << 10
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += (task / "children").read_text().split() if task.name != str(pid) else []
    except OSError:
        return total
    return total + sum(resident(int(child)) for child in children)


def build(source: Path, out: Path, tokenizer: str, memory: str) -> tuple[float, int, str]:
    """(seconds, peak bytes, last line of the output when it failed) of a build."""
    command = [sys.executable, "-m", "memindex.cli", "index", "build", source, "--out", out]
    command += ["--tokenizer", tokenizer, "--memory", memory, "--json"]
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.05):
            peak = max(peak, resident(process.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    _, errors = process.communicate()
    stop.set()
    thread.join()
    seconds = time.perf_counter() - start
    return seconds, peak, "" if process.returncode == 0 else errors.strip().splitlines()[-1]


def text_of(corpus: list[Path], size: int) -> str:
    """Text of the corpus, repeated or cut to some bytes."""
    if corpus:
        import pyarrow as pa

        parts = []
        for file in corpus:
            with pa.input_stream(str(file), compression="detect") as stream:
                parts += [json.loads(line)["text"] for line in stream.read().splitlines()]
    else:
        parts = [file.read_text(encoding="utf-8") for file in sorted((ROOT / "memindex").rglob("*.py"))]
    whole = "\n".join(parts)
    whole *= -(-size // len(whole.encode()))
    return whole.encode()[:size].decode("utf-8", errors="ignore")


def inputs(text: str) -> dict[str, list[str]]:
    """Names of inputs, and their documents."""
    part = -(-len(text) // 4000)
    half = len(text) // 2
    return {
        "4,000 documents": [text[start : start + part] for start in range(0, len(text), part)],
        "one document": [text],
        "one, with U+1E900": [text[:half] + " \U0001e900 " + text[half:]],
        "one of ideographs": ["文字" * (len(text) // 6)],
    }


def main() -> None:
    """Print a row per input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--corpus", nargs="*", type=Path, default=[])
    parser.add_argument("--megabytes", nargs="*", type=int, default=[40])
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'input':34} {'--memory':>9} {'peak MB':>8} {'seconds':>8} {'ratio':>6}")
    for megabytes in arguments.megabytes:
        made = inputs(text_of(arguments.corpus, megabytes * 10**6))
        with tempfile.TemporaryDirectory() as folder:
            for name, documents in made.items():
                with (Path(folder) / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                    file.writelines(json.dumps({"text": document}) + "\n" for document in documents)
            found: dict[str, list[tuple[float, int, str]]] = {name: [] for name in made}
            for number in range(arguments.rounds):
                for name in made:
                    out = Path(folder) / f"{name} {number}"
                    found[name].append(
                        build(Path(folder) / f"{name}.jsonl", out, arguments.tokenizer, arguments.memory)
                    )
        base = min(seconds for seconds, _, _ in found["4,000 documents"])
        for name, runs in found.items():
            seconds, peak = min(s for s, _, _ in runs), max(p for _, p, _ in runs)
            failure = next((error for _, _, error in runs if error), "")
            label = f"{megabytes} MB, {name}"
            print(
                f"{label:34} {arguments.memory:>9} {peak / 1e6:8.0f} {seconds:8.1f} {seconds / base:6.2f}  {failure}",
                flush=True,
            )


if __name__ == "__main__":
    main()
