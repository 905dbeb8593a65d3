"""Where imported sequences stand in the study's index: one occurrence of each, with its document."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from memindex.errors import MemindexError
from memindex.importers.chunks import Chunk
from memindex.index.index import Index
from memindex.ragged import Ragged, concatenated
from memindex.study.first_documents import first_documents

#: Columns of the table sequences that an occurrence fills.
PLACES = ("index", "shard", "position", "document", "document_offset", "document_tokens", "first_document", "domain")
_TAKEN = ("shard", "position", "document", "document_tokens", "domain")


def check_ids(index: Index, ids: Ragged | None) -> None:
    """Refuse ids that the index's tokenizer does not have."""
    if ids is None:
        return
    width = index.manifest.token_width
    most = index.manifest.vocabulary or (1 << (8 * width)) - 1
    if len(ids.values) and ids.values.max() >= most:
        raise MemindexError(
            f"token id {ids.values.max()}: the index {index.name} knows 0 to {most - 1}, so these are tokens of "
            "another tokenizer: import them without looking them up (--no-lookup)"
        )


def places(index: Index, chunk: Chunk) -> dict[str, pa.Array]:
    """One occurrence of each sequence; NULL where there is none."""
    assert chunk.prefix is not None
    assert chunk.suffix is not None
    sequences = concatenated(chunk.prefix, chunk.suffix)
    found = index.documents(sequences, limit=1, max_tokens=1, text=False)
    firsts = first_documents(index, sequences)
    rows = np.full(len(chunk.rows), -1)
    rows[found.column("query").to_numpy()] = np.arange(len(found))
    taken = found.take(pa.array(rows, mask=rows < 0))
    columns = {
        "index": pa.array(np.full(len(rows), index.name), mask=rows < 0),
        **{name: taken.column(name).combine_chunks() for name in _TAKEN},
        "document_offset": taken.column("match").combine_chunks(),
        "first_document": pa.array(firsts, mask=firsts < 0),
    }
    return columns


def nowhere(rows: int) -> dict[str, pa.Array]:
    """The same columns for sequences that were not looked up."""
    return {name: pa.nulls(rows) for name in PLACES}
