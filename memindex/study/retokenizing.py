"""Sequences for a model whose tokenizer is not the index's: the same texts, in the model's own tokens.

A sequence is an n-gram of the index. Its text, from its first whole character on, is tokenized anew together with what
follows in its document, and the first prefix + suffix tokens are what the model gets. A text that goes on has other
tokens at its end than one that stops there, so more of it is tokenized than is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.corpus.tokenizer import Tokenizer
from memindex.errors import CorruptIndexError, MemindexError
from memindex.index.index import Index

#: Tokens of the model beyond those that are used, unless the document ends before. Merges reach over a few characters
#: at the end of a text (a word, a run of spaces), for a tokenizer that does not split words over a few words.
MARGIN = 32

#: Tokens of the index before a sequence that are decoded with it: a word by itself may lose the space before it.
BEFORE = 8

#: Sequences decoded and tokenized in one go.
BATCH = 8192


class Retokenized(NamedTuple):
    """Sequences in a model's own tokens.

    Attributes:
        prefixes: int32 (kept, prefix).
        suffixes: int32 (kept, suffix).
        rows: int64 (kept,), their rows in the table of sequences, ascending. The others' documents end too early.
    """

    prefixes: npt.NDArray[np.int32]
    suffixes: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]


def retokenize(
    indexes: Sequence[Index], sequences: pa.Table, tokenizer: Tokenizer, prefix: int, suffix: int
) -> Retokenized:
    """The first prefix + suffix tokens of every sequence's text and what follows it in its document.

    Exact: the ids are those of the whole rest of the document, but for a tokenizer whose merges reach over more than
    MARGIN tokens.

    Args:
        indexes: The indexes that the column `index` of `sequences` names, with their tokenizers.
        sequences: A table of the schema `sequences`.
        tokenizer: The model's tokenizer (`memindex.models.sources.read_tokenizer`).
        prefix: Tokens of the model's own to give it.
        suffix: Tokens of its own that follow.

    Raises:
        MemindexError: A sequence has no place in one of the indexes (it was imported), an index has no tokenizer, or
            every document ends too early.
        CorruptIndexError: A place lies outside its index.
    """
    if prefix < 1 or suffix < 1:
        raise MemindexError(f"prefix and suffix must be 1 token or more, got {prefix} and {suffix}")
    length = prefix + suffix
    ids = np.zeros((len(sequences), length), dtype=np.int32)
    kept = np.zeros(len(sequences), dtype=bool)
    for index, shard, rows in _by_shard(indexes, sequences):
        position = sequences.column("position").take(pa.array(rows)).to_numpy().astype(np.int64)
        for start in range(0, len(rows), BATCH):
            part = slice(start, start + BATCH)
            ids[rows[part]], kept[rows[part]] = _of_places(index, shard, position[part], tokenizer, length)
    if len(kept) and not kept.any():
        raise MemindexError(
            f"no sequence has {length} tokens of {tokenizer.name} before its document ends: "
            "choose a shorter prefix or suffix"
        )
    rows = np.flatnonzero(kept)
    return Retokenized(ids[rows, :prefix], ids[rows, prefix:], rows)


def _by_shard(indexes: Sequence[Index], sequences: pa.Table) -> list[tuple[Index, int, npt.NDArray[np.int64]]]:
    """The rows of every shard of every index; MemindexError where a row is of none."""
    if sequences.column("index").null_count or sequences.column("position").null_count:
        raise MemindexError("imported sequences have no place in an index: they can't be tokenized anew")
    names = np.array(sequences.column("index").to_pylist(), dtype=object)
    shards = sequences.column("shard").to_numpy()
    by_name = {index.name: index for index in indexes}
    unknown = set(names) - by_name.keys()
    if unknown:
        raise MemindexError(f"sequences come from the index {min(unknown)}, which is not one of {', '.join(by_name)}")
    places = []
    for name in sorted(set(names)):
        for shard in np.unique(shards[names == name]):
            if not 0 <= shard < len(by_name[name].shards):
                raise CorruptIndexError(f"{by_name[name].path} has no shard {shard}: the sequences are of another one")
            places.append((by_name[name], int(shard), np.flatnonzero((names == name) & (shards == shard))))
    return places


def _of_places(
    index: Index, shard: int, position: npt.NDArray[np.int64], tokenizer: Tokenizer, length: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Ids (rows, length) from each position on, and which rows have so many."""
    starts, ends = _bounds(index, shard, position)
    tokens = index.tokens_of_shard(shard)
    ids = np.zeros((len(position), length), dtype=np.int32)
    kept = np.zeros(len(position), dtype=bool)
    open_rows, reach = np.arange(len(position)), 2 * length + 2 * MARGIN
    while len(open_rows):
        first, last = position[open_rows], np.minimum(position[open_rows] + reach, ends[open_rows])
        whole = last == ends[open_rows]
        before = np.maximum(first - BEFORE, starts[open_rows])
        texts = _texts(index.tokenizer, tokens, (before, first, last), first == starts[open_rows], whole)
        encoded = tokenizer.encode_texts(texts)
        lengths = encoded.lengths()
        enough = lengths >= np.where(whole, length, length + MARGIN)
        found = open_rows[enough]
        ids[found] = encoded.values[encoded.offsets[:-1][enough, None] + np.arange(length)]
        kept[found] = True
        open_rows, reach = open_rows[~enough & ~whole], 2 * reach
    return ids, kept


def _bounds(
    index: Index, shard: int, position: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First token, and first one after the last, of the document around each position."""
    separators = index.document_starts(shard)
    size = len(index.shards[shard])
    number = np.searchsorted(separators, position, side="right") - 1
    # A separator is no place of a sequence either.
    if ((position < 0) | (position >= size) | (number < 0) | (separators[number] == position)).any():
        raise CorruptIndexError(f"a sequence lies outside shard {shard} of {index.path}: it is of another index")
    return separators[number] + 1, np.append(separators[1:], size)[number]


def _texts(
    tokenizer: Tokenizer,
    tokens: npt.NDArray[np.generic],
    places: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]],
    from_start: npt.NDArray[np.bool_],
    to_end: npt.NDArray[np.bool_],
) -> list[str]:
    """The texts of tokens between the last two `places`, read behind those between the first two.

    Without the halves of characters that a cut leaves; a document itself starts and ends with whole ones.
    """
    spans = zip(*(column.tolist() for column in places), strict=True)
    decoded = tokenizer.decode_pieces([[tokens[b:f].tolist(), tokens[f:e].tolist()] for b, f, e in spans])
    # Half a character decodes to U+FFFD. One that stands in the text is lost with it; the sequence then starts later.
    heads = [text if whole else text.lstrip("\ufffd") for (_, text), whole in zip(decoded, from_start, strict=True)]
    return [text if whole else text.rstrip("\ufffd") for text, whole in zip(heads, to_end, strict=True)]
