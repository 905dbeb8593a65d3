"""Small indexes written in this process, in milliseconds: what property tests need by the hundred."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from memindex import _core
from memindex.index import Index
from memindex.index.manifest import DomainFacts, FileFacts, Manifest
from memindex.ragged import from_lists


def write_index(folder: Path, documents: list[list[int]], shards: int, width: int) -> Index:
    """An index of these documents (ids) in a new folder inside `folder`; dealt in turn, shards may be empty."""
    folder.mkdir(exist_ok=True)
    path = next(place for number in itertools.count() if not (place := folder / f"index{number}").exists())
    path.mkdir()
    batch = from_lists(documents)
    writer = _core.DocumentWriter(path, shards, width)
    writer.append(batch.values.astype(np.uint32), batch.offsets)
    writer.close()
    for shard in range(shards):
        _core.sort_shard(path, shard, width, bytes(2 * len(documents[shard::shards])), 1, 4)
    files = {file.name: FileFacts(file.stat().st_size, _core.checksum(file)) for file in sorted(path.iterdir())}
    tokens = int(batch.offsets[-1])
    domains = (DomainFacts("all", len(documents), tokens),)
    vocabulary = 2 ** (8 * width) - 1
    sizes = (vocabulary, width, len(documents), tokens, shards)
    Manifest("made", "bytes", "none", *sizes, domains, 4, files, "now", "test").write(path)
    return Index.open(path)
