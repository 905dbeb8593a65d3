"""Peak memory of index builds on columns that are small as they are stored and large once they are decoded.

    python benchmarks/memory_columns.py [--memory 1GB] [--rows 4000] [--tokenizer bytes] [--only parquet arrow plain]

The inputs: a dictionary encoded Parquet file whose rows all hold one text of 200 kB, an Arrow stream with a dictionary
of one text of 900 kB, and a Parquet file with one row group of plain texts (100 kB for each of the rows). Prints the
input, --memory, the peak of all processes together, and the seconds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from memory import build


def dictionary_parquet(file: Path, rows: int) -> None:
    """Rows of one text of 200 kB."""
    text = random_text(1, 200_000)
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))
    pq.write_table(pa.table({"text": column.cast(pa.large_string())}), file)


def dictionary_arrow(file: Path, rows: int) -> None:
    """Rows of one text of 900 kB, in a single batch."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([random_text(1, 900_000)]))
    table = pa.table({"text": column})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def plain_parquet(file: Path, rows: int) -> None:
    """Rows of texts of 100 kB that differ, in a single row group."""
    texts = pa.array([random_text(i, 100_000) for i in range(rows)], pa.large_string())
    pq.write_table(pa.table({"text": texts}), file, use_dictionary=False, row_group_size=1 << 30)


def random_text(seed: int, size: int) -> str:
    """Letters."""
    return np.random.default_rng(seed).integers(97, 123, size, dtype=np.uint8).tobytes().decode()


INPUTS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "parquet": ("dictionary.parquet", dictionary_parquet),
    "arrow": ("dictionary.arrow", dictionary_arrow),
    "plain": ("plain.parquet", plain_parquet),
}


def main() -> None:
    """Print a row per input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--tokenizer", default="bytes")
    parser.add_argument("--only", nargs="*", choices=list(INPUTS), default=list(INPUTS))
    arguments = parser.parse_args()
    print(f"{'input':34} {'--memory':>9} {'peak MB':>8} {'seconds':>8}")
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / INPUTS[name][0]
            INPUTS[name][1](file, arguments.rows)
            label = f"{arguments.rows:,} rows, {file.name}, {file.stat().st_size / 1e6:.1f} MB"
            seconds, peak, error = build(file, Path(folder) / "index", arguments.tokenizer, arguments.memory)
            print(f"{label:34} {arguments.memory:>9} {peak / 1e6:8.0f} {seconds:8.1f}  {error}", flush=True)


if __name__ == "__main__":
    main()
