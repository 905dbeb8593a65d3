"""A build that is killed at random moments and begun again, until it ends: are the files those of one that was not?

    python benchmarks/kills.py CORPUS… --tokenizer TOKENIZER [--kills N] [--shards N] [--unit-size SIZE]

Prints how long the build took at a stretch, how long with all the kills, what the kills found finished, and whether all
files are the same; exit code 1 when one is not.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def digest(index: Path) -> dict[str, bytes | dict]:
    """Content of every file; of the manifest without what names the moment and the folder."""
    manifest = json.loads((index / "index.json").read_bytes())
    for name in ("name", "created", "checksum"):
        del manifest[name]
    files = {file.name: file.read_bytes() for file in index.iterdir() if file.name != "index.json"}
    return {**files, "index.json": manifest}


def main() -> None:
    """Build once at a stretch, then with kills, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="+")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--shards", default="4")
    parser.add_argument("--unit-size", default="2MB")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        build = [sys.executable, "-m", "memindex.cli", "index", "build", *arguments.corpus, "--json"]
        build += ["--tokenizer", arguments.tokenizer, "--shards", arguments.shards, "--unit-size", arguments.unit_size]
        start = time.perf_counter()
        subprocess.run([*build, "--out", folder / "straight"], check=True, capture_output=True)
        straight = time.perf_counter() - start
        kills, found, spent = 0, [], 0.0
        while not (folder / "killed").exists():
            # Most moments lie early in what is left, so that a build of a few seconds takes twenty.
            most = moments.uniform(0.3, straight * 0.4) if kills < arguments.kills else None
            start = time.perf_counter()
            with subprocess.Popen(
                [*build, "--out", folder / "killed"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process:
                try:
                    _, stderr = process.communicate(timeout=most)
                    assert process.returncode == 0, stderr.decode()
                except subprocess.TimeoutExpired:
                    process.kill()
                    kills += 1
                    units = folder / ".killed.partial" / "units"
                    left = list(units.iterdir()) if units.is_dir() else []
                    found.append(sum(not unit.name.startswith(".") and unit.suffix != ".codes" for unit in left))
            spent += time.perf_counter() - start
        same = digest(folder / "straight") == digest(folder / "killed")
    print(f"at a stretch: {straight:.1f} s; with {kills} kills: {spent:.1f} s")
    print(f"finished units after each kill: {found}")
    print("all files are the same" if same else "files differ")
    sys.exit(not same)


if __name__ == "__main__":
    main()
