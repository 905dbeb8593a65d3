"""Documents as infini-gram's API shows them: an excerpt around a place, cut into spans that match and that don't."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from memindex.index.describing import Answer
from memindex.index.index import Index
from memindex.server.indexes import Served
from memindex.server.infini_gram_lookups import Segments, total

#: A part of an excerpt: ids, and the clause that they match.
Part = tuple[list[int], str | None]


def document_at(index: Index, shard: int, position: int, most: int) -> Answer:
    """The document around a token; `most` tokens of it at most. Of a separator, the document that begins there.

    `needle_offset` is -1 for a separator, which the excerpt has none of.
    """
    opened = index.shards[shard]
    document, first, end = opened.locate(np.array([position], dtype=np.int64)).tolist()
    start, stop = max(first, position - most // 2), min(end, position + (most + 1) // 2)
    values, _ = opened.tokens(np.array([start], dtype=np.int64), np.array([max(start, stop)], dtype=np.int64))
    line, _ = opened.metadata(np.array([document], dtype=np.int64))
    metadata = line.tobytes().decode("utf-8", errors="replace")
    return {
        "doc_ix": int(index.documents_before()[shard]) + document,
        "doc_len": end - first,
        "disp_len": len(values),
        "needle_offset": position - start,
        # With the line feed that ends it in the file, as there.
        "metadata": f"{metadata}\n" if metadata else "",
        "token_ids": values.tolist(),
        "blocked": False,
    }


def position_at(index: Index, shard: int, rank: int) -> int:
    """Token position of a suffix."""
    return int(index.shards[shard].positions(np.array([rank], dtype=np.uint64))[0])


def with_spans(served: Served, document: Answer, clauses: Sequence[Sequence[Sequence[int]]]) -> Answer:
    """The document with `spans`: texts of its parts, each with the number of the clause that it matches, or null."""
    parts: list[Part] = [(document["token_ids"], None)]
    for number, clause in enumerate(clauses):
        for term in clause:
            if term:
                parts = [piece for part in parts for piece in _cut(part, list(term), str(number))]
    tokens = served.infini_gram
    return document | {"spans": [[tokens.text(ids), label] for ids, label in parts]}


def sampled(found: Segments, most: int) -> list[tuple[int, int, int]]:
    """Up to `most` different occurrences at random: the number of each among all, its shard, its rank."""
    occurrences = total(found)
    places = []
    for number in random.sample(range(occurrences), min(most, occurrences)):
        rest = number
        for shard, (start, end) in enumerate(found):
            if rest < end - start:
                places.append((number, shard, start + rest))
                break
            rest -= end - start
    return places


def _cut(part: Part, term: list[int], label: str) -> list[Part]:
    """A part that matches nothing yet, cut at every occurrence of a term."""
    ids, taken = part
    if taken is not None:
        return [part]
    pieces: list[Part] = []
    begin = 0
    for start in _places(ids, term):
        if start < begin:
            continue
        pieces += [(ids[begin:start], None)] if start > begin else []
        pieces.append((term, label))
        begin = start + len(term)
    return [*pieces, (ids[begin:], None)] if begin < len(ids) else pieces


def _places(ids: list[int], term: list[int]) -> list[int]:
    """Where a term starts in a list of ids; overlapping places too."""
    text: Any = np.array(ids, dtype=np.int64)
    found = np.ones(max(len(ids) - len(term) + 1, 0), dtype=bool)
    for i, token in enumerate(term):
        found &= text[i : i + len(found)] == token
    places: list[int] = np.flatnonzero(found).tolist()
    return places
