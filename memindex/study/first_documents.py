"""The first document that holds a sequence: what sequences in copies of one text have in common.

Copies of one text are not independent observations, though each copy is in a document of its own. So intervals count
first documents.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from memindex.index.index import Index
from memindex.ragged import Ragged

#: Occurrences of a sequence that are looked at, evenly spaced in the suffix array. Copies of one text stand there in
#: one order, whichever part of it is looked up: parts of it come to the same document also where there are more.
MOST_OCCURRENCES = 1000

#: Occurrences that are looked at together: they bound the memory.
_TOGETHER = 1 << 22


def first_documents(index: Index, sequences: Ragged) -> npt.NDArray[np.int64]:
    """The first document of each sequence.

    Args:
        index: Where it is looked for.
        sequences: Token ids.

    Returns:
        int64 of shape (sequences,): a number among the documents of all shards, those of the first shard first; -1
        where the sequence does not occur.
    """
    counts = np.minimum(index.count(sequences).astype(np.int64), MOST_OCCURRENCES)
    before = index.documents_before()
    none = int(before[-1])
    first = np.full(len(counts), none, dtype=np.int64)
    part = np.cumsum(counts) // _TOGETHER
    for number in np.unique(part).tolist():
        rows = np.flatnonzero(part == number)
        found = index.positions(sequences.take(rows), limit=MOST_OCCURRENCES)
        for shard, opened in enumerate(index.shards):
            mine = np.flatnonzero(found.shard == shard)
            document = opened.locate(np.ascontiguousarray(found.position[mine])).reshape(-1, 3)[:, 0]
            np.minimum.at(first, rows[found.query[mine]], document + before[shard])
    return np.where(first == none, -1, first)
