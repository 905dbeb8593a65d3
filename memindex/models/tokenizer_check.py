"""Whether a model reads the ids of an index: its tokenizer is compared with the index's, before any weights load.

A study gives a model the ids that stand in the index. They mean the same to it only where both vocabularies have the
same text for each of them. Files may differ without that (names of special tokens, the format's version), so the
vocabularies are compared and not the files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memindex.corpus.tokenizer import BYTES, Tokenizer
from memindex.errors import MemindexError
from memindex.models.sources import read_config, read_record, read_tokenizer, vocabulary_of
from memindex.ragged import from_matrix

if TYPE_CHECKING:
    import numpy.typing as npt

    from memindex.index.index import Index

RETOKENIZE = "score it on the text instead (--retokenize), or use an index with the model's tokenizer"

#: Ids of a narrow index that are counted one by one, to see whether they occur; a u32 index has too many.
_COUNTED = 1 << 17


def check_tokenizer(index: Index, source: str | Path, revision: str | None = None) -> None:
    """Refuse a model that the ids of an index mean something else to, or nothing.

    Config and tokenizer are read, no weights. A model whose tokenizer has more tokens than the index's is fine, and so
    is one that lacks tokens which never occur in the index. A model without a tokenizer is judged by the record of its
    training on an index, or else by the size of its vocabulary alone.

    Args:
        index: The index that the sequences come from.
        source: Folder or hub name of the model.
        revision: Branch, tag or commit of a hub model.

    Raises:
        MemindexError: The vocabularies differ, the model's ids don't fit the index's token width, or the index holds
            ids that the model has no embedding for; or config or tokenizer can't be read.
    """
    rows = vocabulary_of(read_config(source, revision))
    tokenizer = read_tokenizer(source, revision)
    _check_width(index, source, tokenizer.vocabulary if tokenizer else rows)
    if index.has_tokenizer:
        if tokenizer is not None:
            _check_vocabularies(index, source, tokenizer)
        else:
            _check_record(index, source)
    if rows is not None:
        _check_rows(index, source, rows)


def vocabulary(tokenizer: Tokenizer) -> dict[int, str]:
    """The text of every id, as the tokenizer writes it: spaces and bytes in the form of its model."""
    if tokenizer.definition is None:
        return {byte: f"<0x{byte:02X}>" for byte in range(256)}
    definition = json.loads(tokenizer.definition)
    listed: Any = definition["model"]["vocab"]
    # Unigram models list [text, score]; the place is the id.
    texts = (
        {i: t for t, i in listed.items()} if isinstance(listed, dict) else {i: row[0] for i, row in enumerate(listed)}
    )
    texts.update({token["id"]: token["content"] for token in definition.get("added_tokens", [])})
    return texts


def _check_width(index: Index, source: str | Path, size: int | None) -> None:
    width = index.manifest.token_width
    if size is not None and size > 1 << (8 * width):
        raise MemindexError(
            f"the vocabulary of {source} ({size:,} ids) is larger than the {width}-byte tokens of {index.path} hold: "
            f"{RETOKENIZE}"
        )


def _check_vocabularies(index: Index, source: str | Path, tokenizer: Tokenizer) -> None:
    own = index.tokenizer
    if own.checksum == tokenizer.checksum:
        return
    if own.is_bytes != tokenizer.is_bytes:
        raise MemindexError(_differ(index, source, tokenizer, "one of them is of bytes"))
    ours, theirs = vocabulary(own), vocabulary(tokenizer)
    different = np.array(sorted(i for i, text in ours.items() if theirs.get(i) != text), dtype=np.int64)
    # Tokens that only one of them has are harmless as long as no sequence can hold them.
    used = different[_count(index, different) > 0] if len(different) < _COUNTED else different
    if len(used):
        first = int(used[0])
        other = f"{theirs[first]!r}" if first in theirs else "nothing"
        raise MemindexError(
            _differ(index, source, tokenizer, f"id {first} is {ours[first]!r} in the index, {other} in the model")
        )


def _differ(index: Index, source: str | Path, tokenizer: Tokenizer, example: str) -> str:
    theirs = "" if tokenizer.name == str(source) else f" ({tokenizer.name})"
    return (
        f"the tokenizer of {source}{theirs} is not that of {index.path} ({index.manifest.tokenizer}): {example}; "
        f"{RETOKENIZE}"
    )


def _check_record(index: Index, source: str | Path) -> None:
    """A model that was trained on an index knows which tokenizer that had."""
    checksum = (read_record(source) or {}).get("tokenizer_checksum")
    if checksum is not None and checksum != index.manifest.tokenizer_checksum:
        theirs = "bytes" if checksum == BYTES else f"SHA-256 {str(checksum)[:12]}…"
        raise MemindexError(
            f"{source} was trained on an index with another tokenizer ({theirs}) than {index.path} "
            f"({index.manifest.tokenizer}): {RETOKENIZE}"
        )


def _check_rows(index: Index, source: str | Path, rows: int) -> None:
    """Every id that occurs in the index needs a row of the model's embedding."""
    beyond = np.arange(rows, index.manifest.vocabulary, dtype=np.int64)
    if not 0 < len(beyond) < _COUNTED:
        return
    counts = _count(index, beyond)
    if counts.any():
        largest = int(beyond[np.flatnonzero(counts)[-1]])
        raise MemindexError(
            f"{index.path} holds token id {largest}, {source} knows 0 to {rows - 1}: "
            "it was made for another tokenizer; " + RETOKENIZE
        )


def _count(index: Index, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    # The widest id is the separator, which no query may hold.
    largest = (1 << (8 * index.manifest.token_width)) - 1
    counts = np.zeros(len(ids), dtype=np.uint64)
    asked = ids < largest
    if asked.any():
        counts[asked] = index.count(from_matrix(ids[asked, None]))
    return counts
