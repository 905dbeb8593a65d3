"""Folders of infini-gram files (v4) written by hand, from the format's description alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def write_folder(
    folder: Path, shards: list[list[list[int]]], width: int, metadata: list[list[dict]] | None = None
) -> Path:
    """Write documents (ids) of each shard, with one metadata line a document when given."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, documents in enumerate(shards):
        separator = (1 << 8 * width) - 1
        tokens = np.array([token for d in documents for token in (separator, *d)], dtype=f"<u{width}")
        starts = np.cumsum([0, *(width * (len(d) + 1) for d in documents)])[:-1]
        text = tokens.tobytes()
        order = sorted(range(0, len(text), width), key=lambda at: text[at:])
        pointer = max(1, -(-(len(text) - 1).bit_length() // 8))
        (folder / f"tokenized.{shard}").write_bytes(text)
        (folder / f"table.{shard}").write_bytes(b"".join(at.to_bytes(pointer, "little") for at in order))
        (folder / f"offset.{shard}").write_bytes(starts.astype("<u8").tobytes())
        if metadata is not None:
            write_metadata(folder, shard, metadata[shard])
    return folder


def write_metadata(folder: Path, shard: int, rows: list[dict]) -> None:
    """metadata.S and metaoff.S of these lines."""
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    (folder / f"metadata.{shard}").write_bytes(b"".join(lines))
    offsets = np.cumsum([0, *map(len, lines)])[: len(lines)]
    (folder / f"metaoff.{shard}").write_bytes(offsets.astype("<u8").tobytes())


def random_documents(seed: int, number: int, largest: int = 4) -> list[list[int]]:
    """Documents of few distinct ids, so that n-grams repeat."""
    random = np.random.default_rng(seed)
    return [random.integers(0, largest, int(n)).tolist() for n in random.integers(0, 25, number)]


def occurrences(document: list[int], query: list[int]) -> int:
    """How often a query stands in a document."""
    return sum(document[i : i + len(query)] == query for i in range(len(document) - len(query) + 1))


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of the last change of every file."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file()}
