"""Token ids of a batch of documents: those it came with, or those a tokenizer gives its texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from memindex.errors import CorpusError
from memindex.ragged import Ragged

if TYPE_CHECKING:
    from memindex.corpus.tokenizer import Tokenizer


def tokens_of(batch: pa.RecordBatch, tokenizer: Tokenizer) -> Ragged:
    """Ids of a batch of `documents.SCHEMA` or `documents.TOKENS_SCHEMA`: uint32 values, int64 offsets.

    Raises:
        CorpusError: A document came with an id that the tokenizer does not have.
    """
    if "tokens" not in batch.schema.names:
        return tokenizer.encode_batch(batch.column("text"))
    column = batch.column("tokens")
    offsets = np.asarray(column.offsets, dtype=np.int64)
    values = np.asarray(column.flatten(), dtype=np.uint32)
    offsets = offsets - offsets[0]
    if len(values) and int(values.max()) >= tokenizer.vocabulary:
        at = int(np.argmax(values >= tokenizer.vocabulary))
        row = int(np.searchsorted(offsets, at, side="right")) - 1
        place = f"{batch.column('path')[row]}:{batch.column('line')[row]}"
        raise CorpusError(
            f"{place}: token id {values[at]}, but {tokenizer.name} has ids up to {tokenizer.vocabulary - 1}: "
            "give the --tokenizer that the files were made with"
        )
    return Ragged(values, offsets)
