"""The document side of an index: domain codes, documents.parquet, and infini-gram's metadata files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memindex.errors import CorpusError
from memindex.index.manifest import DOCUMENTS_FILE, DomainFacts

#: documents.parquet, one row per document. first_token: position in the shard of the first token after the separator.
SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("document", pa.int64(), nullable=False),
        pa.field("first_token", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
    ]
)

MOST_DOMAINS = 1 << 16

#: A row group is written at so many rows or bytes (columns as they lie in memory), whichever comes first.
GROUP_ROWS = 100_000
GROUP_BYTES = 64 << 20


class DocumentRows:
    """Writes documents.parquet, and keeps the domain code of every document.

    Domains that are `known` keep their codes, documents and tokens.
    """

    def __init__(self, directory: Path, known: Sequence[DomainFacts] = ()) -> None:
        self.rows = 0
        self.domains: dict[str, int] = {domain.name: code for code, domain in enumerate(known)}
        self._documents = [domain.documents for domain in known]
        self._tokens = [domain.tokens for domain in known]
        self._codes: list[npt.NDArray[np.uint16]] = []
        self._parquet = pq.ParquetWriter(directory / DOCUMENTS_FILE, SCHEMA, compression="zstd")
        self._group: list[pa.RecordBatch] = []

    def append_rows(
        self,
        batch: pa.RecordBatch,
        shards: npt.NDArray[np.int32],
        numbers: npt.NDArray[np.int64],
        firsts: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
    ) -> None:
        """Add documents (`domain`, `path`, `line`, `metadata` of `batch`).

        Args:
            batch: The described documents.
            shards: The shard of each.
            numbers: The number of each in its shard.
            firsts: The token position of each one's first token in its shard.
            lengths: The tokens of each.
        """
        codes = self._encode(batch.column("domain"))
        size = len(self.domains)
        self._codes.append(codes)
        self._documents = _added(self._documents, np.bincount(codes, minlength=size))
        weights = np.bincount(codes, weights=lengths, minlength=size)
        self._tokens = _added(self._tokens, weights.astype(np.int64))
        columns = [
            *map(pa.array, (shards, numbers, firsts, lengths)),
            *(batch.column(name).cast(SCHEMA.field(name).type) for name in ("domain", "path", "line", "metadata")),
        ]
        self._group.append(pa.record_batch(columns, schema=SCHEMA))
        if sum(map(len, self._group)) >= GROUP_ROWS or sum(part.nbytes for part in self._group) >= GROUP_BYTES:
            self._write_group()
        self.rows += len(batch)

    def copy(self, table: pa.Table) -> None:
        """Write rows that are known already, with documents and tokens of their domains, as a row group."""
        self._write_group()
        self._parquet.write_table(table.cast(SCHEMA), row_group_size=max(len(table), 1))

    def _write_group(self) -> None:
        """Write the collected rows as one row group: small ones make the file large and slow to scan."""
        if self._group:
            table = pa.Table.from_batches(self._group, schema=SCHEMA)
            self._parquet.write_table(table, row_group_size=len(table))
            self._group = []

    def _encode(self, labels: pa.Array) -> npt.NDArray[np.uint16]:
        encoded = labels.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        codes = np.array([self.domains.setdefault(name, len(self.domains)) for name in names], dtype=np.int64)
        if len(self.domains) > MOST_DOMAINS:
            raise CorpusError(
                f"more than {MOST_DOMAINS} domains: {names[-1]!r} is one too many; does the field hold labels?"
            )
        labelled: npt.NDArray[np.uint16] = codes[encoded.indices.to_numpy()].astype(np.uint16)
        return labelled

    def close(self) -> None:
        """Finish the files; a full disk shows here at the latest."""
        self._write_group()
        self._parquet.close()

    def abandon(self) -> None:
        """Let go of the files of a build that failed, also where closing fails again, as on a full disk."""
        with suppress(Exception):
            self._parquet.close()

    def domain_codes(self) -> npt.NDArray[np.uint16]:
        """Domain code of every document of the build, uint16 of shape (documents,)."""
        return np.concatenate([np.empty(0, np.uint16), *self._codes]).astype("<u2")

    def domain_block(self) -> int:
        """Suffixes between two rows of cumulative counts."""
        return domain_block(len(self.domains))

    def domain_facts(self) -> tuple[DomainFacts, ...]:
        """Documents and tokens of every domain, in the order of the codes."""
        names = zip(self.domains, self._documents, self._tokens, strict=True)
        return tuple(DomainFacts(name, int(documents), int(tokens)) for name, documents, tokens in names)


class DocumentTable(DocumentRows):
    """Takes the batches of one shard in order, and writes infini-gram's metadata of them too."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._bytes = 0
        self._files: list[BinaryIO] = []
        try:
            for name in ("metadata.0", "metaoff.0"):
                self._files.append((directory / name).open("wb"))
        except OSError:
            self.abandon()
            raise

    def append(self, batch: pa.RecordBatch, firsts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> None:
        """Add documents (`corpus.documents.SCHEMA`) with the position and number of their tokens."""
        numbers = self.rows + np.arange(len(batch), dtype=np.int64)
        self.append_rows(batch, np.zeros(len(batch), dtype=np.int32), numbers, firsts, lengths)
        lines = _metadata_lines(batch)
        if not len(lines):
            return
        offsets = np.frombuffer(lines.buffers()[1], dtype=np.int64)[lines.offset : lines.offset + len(lines) + 1]
        metadata, metaoff = self._files
        metadata.write(memoryview(lines.buffers()[2])[int(offsets[0]) : int(offsets[-1])])
        metaoff.write((offsets[:-1] - offsets[0] + self._bytes).astype("<u8").tobytes())
        self._bytes += int(offsets[-1] - offsets[0])

    def close(self) -> None:
        """Finish the files; a full disk shows here at the latest."""
        super().close()
        for stream in self._files:
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()

    def abandon(self) -> None:
        """Let go of the files of a build that failed, also where closing fails again, as on a full disk."""
        super().abandon()
        for file in self._files:
            with suppress(Exception):
                file.close()


def domain_block(domains: int) -> int:
    """Suffixes between two rows of cumulative counts: keeps those rows at a quarter byte per suffix at most."""
    return max(128, 32 * domains)


def document_rows(
    shards: npt.NDArray[np.int32], shard: npt.NDArray[np.int32], document: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Rows of documents in documents.parquet, int64 of the shape of `shard` and `document`.

    `shards` is that table's column; shards may be mixed there, but the documents of one stand in their order.
    """
    ordered = np.argsort(shards, kind="stable")
    first = np.searchsorted(shards[ordered], shard)
    rows: npt.NDArray[np.int64] = ordered[first + document]
    return rows


def _added(before: list[int], more: npt.NDArray[np.int64]) -> list[int]:
    total = more.astype(np.int64)
    total[: len(before)] += np.array(before, dtype=np.int64)
    return list(total)


def _metadata_lines(batch: pa.RecordBatch) -> pa.Array:
    """infini-gram's lines: {"path": …, "linenum": … (from 0), "metadata": {…}}."""
    paths = batch.column("path").dictionary_encode()
    quoted = pa.array([json.dumps(path) for path in paths.dictionary.to_pylist()], type=pa.large_string())
    linenum = pc.subtract(batch.column("line"), 1).cast(pa.large_string())
    parts = ['{"path": ', quoted.take(paths.indices), ', "linenum": ', linenum, ', "metadata": ']
    scalars = [pa.scalar(part, pa.large_string()) if isinstance(part, str) else part for part in parts]
    end = pa.scalar("}\n", pa.large_string())
    empty = pa.scalar("", pa.large_string())
    return pc.binary_join_element_wise(*scalars, batch.column("metadata"), end, empty)
