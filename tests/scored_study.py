"""A small index and model that runs are tested on, and the tables that a run left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from memindex.index import Index, build_index
from memindex.study.config import FILE, SequenceConfig, StudyConfig, load_study
from memindex.study.probe_config import PROBES
from memindex.study.running import RunOptions
from memindex.study.study_toml import study_toml
from memindex.tables.schema import TABLES
from memindex.tables.store import TableStore

HEADER = b"# Licensed under these terms, as is, without any warranty.\n"

#: 8 + 8 tokens; with the corpus below some 300 sequences.
SEQUENCES = SequenceConfig(prefix=8, suffix=8, uniform=150, per_bucket=20, heldout=60, seed=3)
SMALL = RunOptions(device="cpu", unit_size=64, batch_size=32)

#: Columns that hold times.
TIMES = {"runs": ("seconds", "created")}


def make_indexes(root: Path) -> tuple[Index, Index]:
    """An index of texts that mostly begin with the same header, and one of held-out texts."""
    random = np.random.default_rng(0)
    for part, files in (("train", 40), ("heldout", 12)):
        (root / part).mkdir(parents=True)
        for i in range(files):
            text = bytes(random.integers(97, 123, 200).tolist())
            (root / part / f"{i}.txt").write_bytes((HEADER if i % 4 else b"") + text)
        build_index([root / part], root / f"{part}-index", tokenizer="bytes")
    return Index.open(root / "train-index"), Index.open(root / "heldout-index")


def make_model(out: Path, index: Index, seed: int = 0) -> Path:
    """A Llama of 5,000 parameters trained for a moment on an index."""
    from memindex.models.from_index import train_on_index

    train_on_index(index, "llama", 5000, 20_000, out, context=32, seed=seed, device="cpu")
    return out


def make_study(folder: Path, indexes: tuple[Index, Index], *models: Path, more: str = "") -> StudyConfig:
    """A study of the models; `more` goes to the end of its study.toml."""
    folder.mkdir(parents=True)
    text = study_toml(folder, indexes[0].path, indexes[1].path, models, SEQUENCES)
    (folder / FILE).write_text(text + more)
    return load_study(folder)


def tables(study: StudyConfig) -> dict[str, pa.Table]:
    """Every table of a study without the columns that hold times."""
    store = TableStore(study.tables)
    return {name: store.read(name).drop_columns(list(TIMES.get(name, ()))) for name in TABLES}


def assert_same_tables(got: StudyConfig, wanted: StudyConfig) -> None:
    """Every table equal, value by value."""
    ours, theirs = tables(got), tables(wanted)
    for name, table in theirs.items():
        assert len(table) or name in {"probes", *PROBES, "planted_exposures"}, f"{name} is empty"
        assert ours[name].equals(table), name
