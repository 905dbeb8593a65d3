"""From tokenized units to shards: document i of a build goes to shard i modulo shards.

Tokens, metadata and document rows of all units are appended to the files of the shards, unit by unit. What comes of it
is written down in `dealt-….json` beside the units; they are not needed any more then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from memindex import _core
from memindex.index.document_table import DocumentRows
from memindex.index.manifest import DOCUMENTS_FILE, DomainFacts, write_atomically

#: Rows of a unit's document table that are read at a time.
ROWS = 1 << 13


@dataclass
class Dealt:
    """What the shards hold.

    Attributes:
        tokens: Tokens and separators of each new shard.
        documents: Documents in all of them.
        domains: The domains, in the order of their codes; with what shards that were there before hold.
        skipped: Documents left out, and a line about each.
        text_bytes: Bytes of text that were tokenized.
    """

    tokens: list[int]
    documents: int
    domains: list[DomainFacts]
    skipped: int = 0
    skipped_lines: list[str] = field(default_factory=list)
    text_bytes: int = 0

    def write(self, record: Path, codes: npt.NDArray[np.uint16]) -> None:
        """Write this, and the domain of every document, so that a later build finds them."""
        write_atomically(_codes_of(record), codes.astype("<u2").tobytes())
        write_atomically(record, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, record: Path) -> Dealt | None:
        """What an earlier build wrote; None when there is none."""
        if not record.is_file():
            return None
        fields = json.loads(record.read_bytes())
        return cls(**fields | {"domains": [DomainFacts(**domain) for domain in fields["domains"]]})


def labels_of(record: Path, shard: int, shards: int) -> bytes:
    """The domains of the documents of new shard `shard`, as little-endian uint16."""
    codes = np.fromfile(_codes_of(record), dtype="<u2")
    return codes[shard::shards].tobytes()


def _codes_of(record: Path) -> Path:
    return record.with_suffix(".codes")


def lengths_of(folder: Path, width: int) -> npt.NDArray[np.int64]:
    """Tokens of each document of a unit, int64."""
    starts = np.fromfile(folder / "offset.0", dtype="<u8").astype(np.int64) // width
    end = (folder / "tokenized.0").stat().st_size // width
    return np.diff(starts, append=end) - 1


def deal(folders: Sequence[Path], index: Path, shards: range, rows: DocumentRows) -> list[int]:
    """Deal the documents of units out to the files of `shards` in the folder `index`, and their rows to `rows`.

    Returns:
        Tokens and separators of each shard.
    """
    dealers = [
        (data, offsets, _core.RecordDealer([(index / f"{data}.{s}", index / f"{offsets}.{s}") for s in shards]))
        for data, offsets in (("tokenized", "offset"), ("metadata", "metaoff"))
    ]
    ends, dealt = np.zeros(len(shards), dtype=np.int64), 0
    for folder in folders:
        number = 0
        for batch in _row_batches(folder):
            numbers = dealt + number + np.arange(len(batch), dtype=np.int64)
            lengths = batch.column("tokens").to_numpy()
            places = numbers % len(shards)
            firsts = first_tokens(places, lengths, ends)
            rows.append_rows(batch, (shards[0] + places).astype(np.int32), numbers // len(shards), firsts, lengths)
            number += len(batch)
        targets = ((dealt + np.arange(number)) % len(shards)).astype(np.int32)
        for data, offsets, dealer in dealers:
            dealer.deal(folder / f"{data}.0", folder / f"{offsets}.0", targets)
        dealt += number
    for *_, dealer in dealers:
        dealer.close()
    return [int(end) for end in ends]


def _row_batches(folder: Path) -> Iterator:  # type: ignore[type-arg]
    with pq.ParquetFile(folder / DOCUMENTS_FILE) as file:
        yield from file.iter_batches(ROWS, columns=["tokens", "domain", "path", "line", "metadata"])


def first_tokens(
    places: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Where the first token of each document stands when all are appended to their shards in order.

    Args:
        places: The shard of each document.
        lengths: The tokens of each.
        ends: Tokens and separators of each shard; brought up to date.

    Returns:
        Token positions in the shards, int64.
    """
    order = np.argsort(places, kind="stable")
    sizes = lengths[order] + 1
    before = np.cumsum(sizes) - sizes
    of_shard = places[order]
    first_of_shard = np.searchsorted(of_shard, np.arange(len(ends)))
    # The entry behind the last belongs to shards that get no document.
    base = np.append(before, 0)[first_of_shard]
    firsts = np.empty(len(places), dtype=np.int64)
    firsts[order] = before - base[of_shard] + ends[of_shard] + 1
    np.add.at(ends, places, lengths + 1)
    return firsts
