"""Suffix sorting and table writing of repetitive texts, beside natural text of the same size in the same round.

    python benchmarks/repetitive.py INDEX [--tokens N] [--rounds N] [--scratch DIR]

Natural text is the first N tokens of INDEX. The others are as long: its first half twice, its first 1,000 tokens over
and over (each time a document of its own, and in one document), one token over and over. Each goes through the sorting
process of a build, labelled with two domains. Prints M tokens/s of sorting and of all that the process writes (table,
key table, domain column), how many times as fast as natural text, and the process's peak memory in bytes per token.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rounds import Table

from memindex import Index, _core
from memindex.index.plan import KEY_STRIDE
from memindex.index.sorting import SortJob, sort_shard

#: Tokens of a document that is repeated.
PERIOD = 1_000

NATURAL = "natural text"

Texts = tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]


def texts(index: Index, tokens: int) -> Iterator[tuple[str, Texts]]:
    """Each kind of text: values and offsets of its documents."""
    tokens = min(tokens, len(index.shards[0])) // (2 * PERIOD) * 2 * PERIOD
    ids = index.tokens_of_shard(0)[:tokens]
    # Without separators: those of the new documents are written between them.
    ids = ids[ids != np.iinfo(ids.dtype).max].astype(np.uint32)
    half, repeats = tokens // 2, tokens // PERIOD
    whole = np.array([0, tokens])
    yield NATURAL, (np.resize(ids, tokens), whole)
    yield "the same text twice", (np.tile(ids[:half], 2), np.array([0, half, tokens]))
    repeated = np.tile(ids[:PERIOD], repeats)
    yield f"{PERIOD:,} tokens {repeats:,} times, documents", (repeated, np.arange(repeats + 1) * PERIOD)
    yield f"{PERIOD:,} tokens {repeats:,} times, one document", (repeated, whole)
    yield f"one token {tokens:,} times", (np.full(tokens, ids[0]), whole)


def sort(text: Texts, width: int, scratch: str) -> dict[str, float]:
    """Sort a text as a build does; figures by name."""
    values, offsets = text
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        writer = _core.DocumentWriter(folder, 1, width)
        writer.append(values, offsets)
        writer.close()
        labels = (np.arange(len(offsets) - 1) % 2).astype(np.uint16).tobytes()
        done = sort_shard(SortJob(Path(folder), 0, width, labels, 2, 128, KEY_STRIDE))
    return {
        "sorting, M tokens/s": done.tokens / done.sort_seconds / 1e6,
        "writing, M tokens/s": done.tokens / done.write_seconds / 1e6,
        "both, M tokens/s": done.tokens / (done.sort_seconds + done.write_seconds) / 1e6,
        "peak memory, bytes per token": done.peak_memory / done.tokens,
    }


def main() -> None:
    """Sort each text once in every round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("--tokens", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", help="folder for the texts and tables")
    arguments = parser.parse_args()
    index = Index.open(arguments.index)
    table, ratios = Table("text", "figures by column"), Table("text", "times as fast as natural text")
    for _ in range(arguments.rounds):
        natural: dict[str, float] = {}
        for name, text in texts(index, arguments.tokens):
            figures = sort(text, index.manifest.token_width, arguments.scratch)
            natural = natural or figures
            table.add(name, figures)
            rates = {column: rate / natural[column] for column, rate in figures.items() if column.endswith("/s")}
            ratios.add(name, {column.partition(",")[0]: ratio for column, ratio in rates.items()})
    table.print()
    ratios.print()


if __name__ == "__main__":
    main()
