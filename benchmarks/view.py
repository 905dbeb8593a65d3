"""Group-bys over the view `memorization` of a large study, beside the same questions to one flat table.

    python benchmarks/view.py [--sequences N] [--models N] [--rounds N]

The study is made up and written as runs write theirs: sequences of 32 + 32 tokens, units of 65,536 rows. The flat
table is what the view would give if it were stored: DuckDB reads just the columns that are asked for, and nothing is
joined. Answers are compared.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from rounds import Table, once

import memindex
from memindex.tables.store import TableStore

UNIT = 1 << 16
DOMAINS = [f"domain {i}" for i in range(20)]
PART = 32

QUESTIONS = {
    "rate by model": "SELECT run_label, count(*), avg(memorized::INTEGER) FROM {} GROUP BY ALL ORDER BY ALL",
    "rate by model, domain": "SELECT run_label, domain, count_if(memorized) FROM {} GROUP BY ALL ORDER BY ALL",
    "rate by frequency": "SELECT run_label, frequency_bucket, avg(score) FROM {} GROUP BY ALL ORDER BY ALL",
    "log-probability by domain": "SELECT domain, avg(suffix_logprob) FROM {} WHERE memorized GROUP BY ALL ORDER BY ALL",
}


def main() -> None:
    """Make the study, ask every question in rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=2_000_000)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = write_study(Path(folder), arguments.sequences, arguments.models)
        con = memindex.connect(study)
        flat = Path(folder) / "flat.parquet"
        columns = "run_label, domain, frequency_bucket, memorized, score, suffix_logprob"
        con.execute(f"COPY (SELECT {columns} FROM memorization) TO '{flat}'")
        [(rows,)] = con.execute("SELECT count(*) FROM memorization").fetchall()
        [(threads,)] = con.execute("SELECT current_setting('threads')").fetchall()
        print(f"{rows:,} rows, {arguments.models} models; DuckDB {duckdb.__version__}, {threads} threads")
        table = Table("question", "rows/s")
        for _ in range(arguments.rounds):
            for name, question in QUESTIONS.items():
                table.round(name, asked(con, question, flat, rows))
        table.print(["view"])


def asked(con: duckdb.DuckDBPyConnection, question: str, flat: Path, rows: int) -> dict[str, Callable[[], float]]:
    """What a round measures; both ways have to give the same answer."""
    ours, flat_answer = (con.execute(question.format(source)).fetchall() for source in ("memorization", f"'{flat}'"))
    for row, other in zip(ours, flat_answer, strict=True):
        assert row[:-1] == other[:-1]
        np.testing.assert_allclose(row[-1], other[-1], rtol=1e-9)
    return {
        name: once(lambda source=source: con.execute(question.format(source)).fetchall(), rows)
        for name, source in (("view", "memorization"), ("one flat table", f"'{flat}'"))
    }


def write_study(folder: Path, sequences: int, models: int) -> Path:
    """A study of made-up numbers in the store's own files."""
    random = np.random.default_rng(0)
    study = folder / "study"
    study.mkdir()
    (study / "study.toml").write_text('name = "large"\nindex = "../index"\n', encoding="utf-8")
    store = TableStore(study / "tables")
    domains = np.array(DOMAINS)[random.integers(0, len(DOMAINS), sequences)]
    documents = random.integers(0, sequences // 4, sequences)
    counts = np.minimum(random.zipf(1.6, sequences), 10**6)
    tokens = random.integers(0, 50_000, (sequences, 2 * PART), dtype=np.int32)
    ids = np.arange(sequences)
    store.write(
        "sequences",
        "uniform",
        {
            "sequence_id": ids,
            "sample": ["uniform"] * sequences,
            "bucket": pa.nulls(sequences, pa.int32()),
            "inclusion": np.full(sequences, 0.01),
            "planted_text": pa.nulls(sequences, pa.int64()),
            "index": ["index"] * sequences,
            "shard": np.zeros(sequences, dtype=np.int32),
            "position": ids * 64,
            "document": documents,
            "document_offset": ids % 1000,
            "document_tokens": np.full(sequences, 2000),
            "first_document": documents,
            "domain": pa.array(domains),
            "prefix": np.ascontiguousarray(tokens[:, :PART]),
            "suffix": np.ascontiguousarray(tokens[:, PART:]),
        },
    )
    columns = {"sequence_count": counts, "prefix_count": counts + 1, "suffix_count": counts + 2}
    store.write("frequencies", "uniform", {"sequence_id": ids, "index": ["index"] * sequences, **columns})
    for number in range(models):
        write_run(store, number, tokens[:, PART:], counts, random)
    return study


def write_run(
    store: TableStore, number: int, suffixes: np.ndarray, counts: np.ndarray, random: np.random.Generator
) -> None:
    """A model that knows frequent sequences by heart, the better the larger it is."""
    name = f"model {number}"
    rows = len(suffixes)
    known = random.random(rows) < np.minimum(0.01 * 2**number * np.log2(counts + 1), 1)
    matched = np.where(known, PART, np.minimum(random.geometric(0.5, rows) - 1, PART - 1)).astype(np.int32)
    logprob = -random.exponential(40, rows).astype(np.float32)
    model = dict.fromkeys(
        ("family", "corpus", "revision", "trained_tokens", "layers", "hidden_size", "heads", "vocabulary", "context")
    )
    sizes = {"parameters": 10 ** (6 + number), "non_embedding_parameters": 9 * 10 ** (5 + number)}
    row = {"model_id": name, "architecture": "gpt_neox", "source": "made up", **sizes, **model}
    store.write("models", name, {key: [value] for key, value in row.items()})
    unknown = "seed top_k temperature control dtype device attention compiled model_fingerprint batch_size retokenized"
    run: dict[str, Any] = dict.fromkeys([*unknown.split(), "seconds"])
    run |= {"run_id": name, "model_id": name, "prefix_length": PART, "suffix_length": PART, "decoding": "greedy"}
    run |= {"made_by": "memindex", "sequences": rows, "versions": "", "created": datetime(2026, 1, 1)}
    store.write("runs", name, {key: [value] for key, value in run.items()})
    for start in range(0, rows, UNIT):
        part = slice(start, start + UNIT)
        write_unit(store, name, start, suffixes[part], matched[part], logprob[part])


def write_unit(
    store: TableStore, name: str, start: int, suffixes: np.ndarray, matched: np.ndarray, logprob: np.ndarray
) -> None:
    """One file of continuations: right as far as they match."""
    rows = len(matched)
    right = np.arange(PART) < matched[:, None]
    store.write(
        "continuations",
        f"{name} {start:09d}",
        {
            "run_id": [name] * rows,
            "sequence_id": np.arange(start, start + rows),
            "score": (matched / PART).astype(np.float32),
            "matched": matched,
            "memorized": matched == PART,
            "edit_distance": PART - matched,
            "bleu": (matched / PART).astype(np.float32),
            "suffix_logprob": logprob,
            "suffix_logprob_top40": logprob / 2,
            "prefix_logprob": 2 * logprob,
            "token_logprobs": np.repeat(logprob[:, None] / PART, PART, axis=1),
            "token_ranks": np.where(right, 0, 7).astype(np.int32),
            "continuation": np.where(right, suffixes, suffixes[:, ::-1]),
        },
    )


if __name__ == "__main__":
    main()
