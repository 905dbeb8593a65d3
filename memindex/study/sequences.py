"""The study's own sequences in its tables: sampled and counted once, named by all that they depend on.

The table `sequences` may hold others beside them (imported ones); only the study's own are scored.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import pyarrow as pa

from memindex.errors import MemindexError
from memindex.progress import Progress
from memindex.study.config import StudyConfig
from memindex.study.frequencies import count_sequences
from memindex.study.origins import open_index, remember_indexes
from memindex.study.planted_sequences import planted_digest, planted_sequences, planted_windows
from memindex.study.sampling import bucket_totals, sample_sequences
from memindex.tables.store import TableStore

#: What the units of the study's own sequences begin with.
OWN = "sample-"

#: The tables of the study's own sequences; names of their units begin with the sample's.
_TABLES = ("sequences", "frequencies", "buckets", "ngram_statistics", "domain_counts")


def ensure_sequences(config: StudyConfig, progress: Progress) -> pa.Table:
    """The study's sequences, sampled and counted now if they were not before.

    Raises:
        MemindexError: The tables hold sequences of other settings or another index.
    """
    store = TableStore(config.tables)
    unit = sample_name(config)
    index, *heldout = (open_index(config, path) for path in config.indexes().values())
    remember_indexes(store, [index, *heldout])
    own = {name.split(" ")[0] for table in _TABLES for name in store.units(table) if name.startswith(OWN)}
    if own - {unit}:
        raise MemindexError(
            f"{config.directory}: its sequences were sampled with other settings or another index; "
            f"remove {config.tables} to start anew"
        )
    if not store.has("sequences", unit):
        progress("sample sequences", 0, 1)
        planted = unnatural = None
        if config.planted is not None:
            planted = planted_sequences(index, config.planted, config.sequences)
            unnatural = planted_windows(config.planted, config.sequences.prefix + config.sequences.suffix)
        others = heldout[0] if heldout else None
        sequences, totals = sample_sequences(index, config.sequences, others, planted, unnatural)
        store.write("buckets", unit, bucket_totals(index, config.sequences, totals, sequences))
        store.write("sequences", unit, sequences)
        progress("sample sequences", 1, 1)
    sequences = store.read("sequences", units=[unit])
    if not store.has("frequencies", unit):
        store.write("frequencies", unit, count_sequences(index, sequences))
    return sequences


def sample_name(config: StudyConfig) -> str:
    """Names the sample by all that it depends on: the settings and the indexes' contents."""
    manifests = [open_index(config, path).manifest for path in config.indexes().values()]
    contents = [manifest.contents() for manifest in manifests]
    settings = asdict(config.sequences)
    if not settings["per_domain"]:
        # Studies from before it was there have this name.
        del settings["per_domain"]
    depends = [settings, contents]
    if config.planted is not None:
        # Samples of an older memindex held planted windows beside natural ones.
        depends.append([planted_digest(config.planted), "natural"])
    key = json.dumps(depends)
    return f"{OWN}{hashlib.sha256(key.encode()).hexdigest()[:12]}"
