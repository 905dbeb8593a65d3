"""A small index, a study on it, and windows of its text: what the tests of importers share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from memindex.cli import cli
from memindex.index import Index, build_index
from memindex.study.config import SequenceConfig, load_study
from memindex.study.sampling import sample_sequences
from memindex.study.study_toml import study_toml
from memindex.tables.store import TableStore

PREFIX, SUFFIX = 6, 4


def make_world(root: Path, tokenizer: str = "bytes", files: int = 12) -> Path:
    """A folder with an index of short texts in three domains, and a study whose sequences are sampled."""
    random = np.random.default_rng(0)
    for i in range(files):
        folder = root / "corpus" / f"domain-{i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        text = "the same first line\n" + bytes(random.integers(97, 123, 150).tolist()).decode()
        (folder / f"{i}.txt").write_text(text, encoding="utf-8")
    build_index([root / "corpus"], root / "index", tokenizer=tokenizer)
    study = root / "study"
    study.mkdir()
    config = SequenceConfig(prefix=PREFIX, suffix=SUFFIX, uniform=30, per_bucket=0, heldout=0, seed=1)
    (study / "study.toml").write_text(study_toml(study, root / "index", None, [], config), encoding="utf-8")
    sequences, _ = sample_sequences(Index.open(root / "index"), config)
    store(root).write("sequences", "sample-made", sequences)
    return root


def store(root: Path) -> TableStore:
    return TableStore(load_study(root / "study").tables)


def windows(root: Path, rows: int, length: int = PREFIX + SUFFIX, seed: int = 5) -> np.ndarray:
    """Distinct windows of the corpus that occur once, as ids (the bytes of the random parts)."""
    tokens = np.asarray(Index.open(root / "index").tokens_of_shard(0))
    every = np.lib.stride_tricks.sliding_window_view(tokens, length)
    lower = every[((every >= 97) & (every < 123)).all(axis=1)]
    chosen = np.unique(lower, axis=0)
    return np.random.default_rng(seed).permutation(chosen)[:rows].astype(np.int64)


def run(root: Path, *arguments: object) -> None:
    """A command of memindex in this process; -s is the study of `root`."""
    cli.main([str(a) for a in arguments] + ["-s", str(root / "study")], standalone_mode=False)


def rows(root: Path, table: str) -> list[dict[str, Any]]:
    """All rows of a table that imports wrote, by sequence_id."""
    found = store(root).read(table).to_pylist()
    return sorted(
        (row for row in found if row.get("sample", "imported") == "imported"),
        key=lambda row: row.get("sequence_id") or 0,
    )


def contents(root: Path) -> dict[str, Any]:
    """Every table file's content by its name; the time of a run left out."""
    import pyarrow.parquet as pq

    found = {}
    for file in sorted((root / "study" / "tables").rglob("*.parquet")):
        listed = pq.ParquetFile(file).read().to_pylist()
        found[f"{file.parent.name}/{file.name}"] = json.dumps(
            [{k: v for k, v in row.items() if k != "created"} for row in listed]
        )
    return found
