"""Windows of an index as rows of the table `sequences`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from memindex.errors import MemindexError
from memindex.index.document_table import document_rows
from memindex.index.index import Index
from memindex.index.manifest import DOCUMENTS_FILE
from memindex.ragged import from_matrix
from memindex.study.config import SequenceConfig
from memindex.study.first_documents import first_documents


class Windows(NamedTuple):
    """Windows of an index: shard and token position (int), bucket (int, -1 for none); all of shape (windows,)."""

    shard: npt.NDArray[np.int32]
    position: npt.NDArray[np.int64]
    bucket: npt.NDArray[np.int32]

    def take(self, rows: npt.NDArray[np.intp]) -> Windows:
        """The windows of these numbers."""
        return Windows(self.shard[rows], self.position[rows], self.bucket[rows])


def window_ids(
    index: Index, shard: npt.NDArray[np.int32], position: npt.NDArray[np.int64], length: int
) -> npt.NDArray[np.int32]:
    """The ids of windows, int32 (windows, length)."""
    ids = np.empty((len(position), length), dtype=np.int32)
    for number in range(index.manifest.shards):
        mine = np.flatnonzero(shard == number)
        ids[mine] = index.tokens_of_shard(number)[position[mine][:, None] + np.arange(length)]
    return ids


def window_table(
    index: Index, sample: str, windows: Windows, config: SequenceConfig, inclusion: npt.NDArray[np.float64]
) -> pa.Table:
    """Columns of the schema `sequences`, but for their numbers, of windows of an index.

    Args:
        index: The index.
        sample: The name of the sample.
        windows: The windows.
        config: How long prefix and suffix are.
        inclusion: The probability that the sample includes each, float64 of shape (windows,).
    """
    length = config.prefix + config.suffix
    ids = window_ids(index, windows.shard, windows.position, length)
    document, offset, tokens = documents_of(index, windows)
    bucket = pa.array(windows.bucket, mask=windows.bucket < 0)
    columns = {
        "sample": pa.array([sample] * len(ids)),
        "bucket": bucket,
        "inclusion": pa.array(inclusion),
        "planted_text": pa.nulls(len(ids), pa.int64()),
        "index": pa.array([index.name] * len(ids)),
        "shard": pa.array(windows.shard),
        "position": pa.array(windows.position),
        "document": pa.array(document),
        "document_offset": pa.array(offset),
        "document_tokens": pa.array(tokens),
        "first_document": pa.array(first_documents(index, from_matrix(ids))),
        "domain": domains_of(index, windows.shard, document),
        "prefix": token_lists(ids[:, : config.prefix]),
        "suffix": token_lists(ids[:, config.prefix :]),
    }
    return pa.table(columns)


def documents_of(
    index: Index, windows: Windows
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Each window's document, a number in its shard, its offset there and the document's length in tokens.

    All of shape (windows,).
    """
    document, offset, tokens = (np.empty(len(windows.position), dtype=np.int64) for _ in range(3))
    for number, shard in enumerate(index.shards):
        mine = np.flatnonzero(windows.shard == number)
        position = np.ascontiguousarray(windows.position[mine])
        document[mine], first, end = shard.locate(position).reshape(-1, 3).T
        offset[mine], tokens[mine] = position - first, end - first
    return document, offset, tokens


def domains_of(index: Index, shard: npt.NDArray[np.int32], document: npt.NDArray[np.int64]) -> pa.Array:
    """Domain of each document."""
    if DOCUMENTS_FILE not in index.manifest.files:
        raise MemindexError(f"{index.path} has no document table: write it with: memindex index open {index.path}")
    table = pq.read_table(index.file(DOCUMENTS_FILE), columns=["shard", "domain"])
    rows = document_rows(table.column("shard").to_numpy(), shard, document)
    return table.column("domain").take(pa.array(rows)).combine_chunks()


def token_lists(ids: npt.NDArray[np.int32]) -> pa.Array:
    """Rows of a matrix as a column of token lists."""
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * ids.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(ids).reshape(-1)))
