"""Frequencies of many sequences: whole, prefix, suffix, n-gram statistics, domains and longest spans.

    python benchmarks/frequencies.py INDEX [--sequences N] [--rounds N] [--seconds S] [--join N]

INDEX has one shard. Sequences are 32 + 32 tokens from random places of it. Beside memindex, in the same round and on
the same 5-grams, count: a loop over infini-gram (as many of its calls as fit in --seconds), and plain DuckDB, which
joins the 5-grams of --join sequences with all 5-grams of the corpus. The answers are compared.
"""

from __future__ import annotations

import argparse
import os
import resource
from pathlib import Path

import duckdb
import numpy as np
import peers
import pyarrow as pa
import samples
from rounds import Measured, Table, once, one_by_one

from memindex import Index
from memindex.index.domain_counts import domain_counts
from memindex.ragged import from_matrix
from memindex.study.frequencies import count_sequences, ngram_statistics
from memindex.study.spans import longest_spans

LENGTH, PREFIX, N = 64, 32, 5
OURS, LOOP, JOIN = "memindex", "infini-gram, one by one", "DuckDB join"


def lookups(index: Index, arguments: argparse.Namespace, table: Table, turn: int) -> None:
    """What the tables of a study ask, each with its rate."""
    ids = samples.present(index, LENGTH, arguments.sequences, turn).astype(np.int32)
    rows = from_matrix(ids)
    sequences = pa.table({"sequence_id": np.arange(len(ids)), "prefix": lists(ids[:, :PREFIX])})
    sequences = sequences.append_column("suffix", lists(ids[:, PREFIX:]))
    work = {
        "whole, prefix, suffix": lambda: count_sequences(index, sequences),
        "statistics of unigrams": lambda: ngram_statistics(index, rows, 1),
        f"statistics of {N}-grams": lambda: ngram_statistics(index, rows, N),
        "counts by domain": lambda: domain_counts(index, rows),
        "longest spans of 32 tokens": lambda: longest_spans(index, from_matrix(changed(index, ids[:, PREFIX:], turn))),
    }
    for name, call in work.items():
        table.round(name, {OURS: once(call, len(ids))})


def changed(index: Index, ids: np.ndarray, turn: int) -> np.ndarray:
    """Continuations that are wrong from a random token on: other text of the corpus stands there."""
    random = np.random.default_rng(turn)
    from_there = np.arange(ids.shape[1]) >= random.integers(0, ids.shape[1] + 1, len(ids))[:, None]
    return np.where(from_there, random.permutation(ids), ids)


def lists(ids: np.ndarray) -> pa.Array:
    """A token column of ids of shape (rows, length)."""
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * ids.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(ids).reshape(-1)))


def compared(index: Index, arguments: argparse.Namespace, table: Table, turn: int) -> None:
    """The same 5-grams of --join sequences by every engine, and the answers compared."""
    ids = samples.present(index, LENGTH, arguments.join, turn)
    grams = np.lib.stride_tricks.sliding_window_view(ids, N, axis=1).reshape(-1, N)
    wanted = index.count(from_matrix(grams))
    measured: dict[str, Measured] = {OURS: once(lambda: index.count(from_matrix(grams)), len(grams))}
    engine = peers.infini_gram([index], **peers.NO_PREFETCH)
    if engine is not None:
        queries = grams.tolist()
        assert [engine.count(query)["count"] for query in queries[:500]] == wanted[:500].tolist(), "infini-gram differs"
        measured[LOOP] = one_by_one(engine.count, queries, arguments.seconds)
    measured[JOIN] = once(lambda: joined(index, grams, wanted), len(grams))
    table.round(f"{len(grams):,} {N}-grams", measured)


def joined(index: Index, grams: np.ndarray, wanted: np.ndarray) -> None:
    """Count with DuckDB: nothing is made ready before."""
    tokens = np.asarray(index.tokens_of_shard(0))
    names = [f"t{i}" for i in range(N)]
    separator = int(np.iinfo(tokens.dtype).max)
    inside = np.lib.stride_tricks.sliding_window_view(tokens != separator, N).all(axis=1)
    con = duckdb.connect(config={"threads": len(os.sched_getaffinity(0))})
    kind = tokens.dtype
    corpus = {name: tokens[i : len(tokens) - N + 1 + i][inside] for i, name in enumerate(names)}
    asked = {name: np.ascontiguousarray(grams[:, i], dtype=kind) for i, name in enumerate(names)}
    con.register("corpus", pa.table(corpus))
    con.register("asked", pa.table(asked | {"number": np.arange(len(grams))}))
    columns = ", ".join(names)
    found = con.execute(f"""
        WITH counts AS (
            SELECT {columns}, count(*) AS n FROM corpus
            SEMI JOIN asked USING ({columns}) GROUP BY ALL
        )
        SELECT coalesce(n, 0) AS n FROM asked LEFT JOIN counts USING ({columns}) ORDER BY number
    """).fetchnumpy()["n"]
    assert (found == wanted).all(), "DuckDB counts differently"


def main() -> None:
    """Measure all of it, in rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--sequences", type=int, default=1_000_000)
    parser.add_argument("--join", type=int, default=20_000, help="sequences whose 5-grams every engine counts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="for a peer that is asked one by one")
    arguments = parser.parse_args()
    index = Index.open(arguments.index)
    samples.warm(arguments.index)
    ours, others = Table(f"{arguments.sequences:,} sequences", "sequences/s"), Table("counts", "counts/s")
    for turn in range(arguments.rounds):
        lookups(index, arguments, ours, turn)
        compared(index, arguments, others, turn)
    print(f"{index}, {index.manifest.token_width} bytes per id, {len(index.domains)} domains")
    ours.print()
    others.print([OURS])
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:,.2f} GB")


if __name__ == "__main__":
    main()
