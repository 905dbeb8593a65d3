"""Tracing a text: its maximal verbatim spans, how rare they are, and the documents that share most with it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from memindex.errors import QueryError
from memindex.index.describing import Answer, add_sources, covered, span_answers
from memindex.index.index import Index
from memindex.server import models
from memindex.server.answering import check_rows
from memindex.server.indexes import Served

#: What a document is told by.
PLACE = ("shard", "document", "domain", "path", "line")


def trace(served: Served, asked: models.TraceRequest) -> Answer:
    """Spans of a text, as `memindex trace` finds them, with their rarity, and documents ranked by what they share."""
    tokens, characters = _tokens(served, asked.query)
    found = served.index.spans([tokens], min_tokens=asked.min_tokens, max_count=asked.max_count)
    check_rows(served, len(found.start) * max(asked.sources, 1), "spans and sources")
    spans = span_answers(served.index, found, tokens, characters)
    costs = bits(served.index, tokens)
    for span in spans:
        span["rarity"] = float(costs[span["start"] : span["start"] + span["length"]].sum())
        span["sources"] = []
    if asked.sources:
        add_sources(served.index, spans, asked.sources)
    inside = covered(found)
    return {
        "index": served.name,
        "tokens": tokens,
        "covered": inside,
        "coverage": inside / len(tokens),
        "spans": spans,
        "documents": ranked_documents(spans, costs, asked.documents),
    }


def _tokens(served: Served, query: str | list[int]) -> tuple[list[int], list[tuple[int, int]] | None]:
    if not isinstance(query, str) or not served.index.has_tokenizer:
        return served.tokens(query), None
    served.check_characters(len(query))
    tokens, characters = served.index.tokenizer.encode_with_offsets(query)
    if not tokens:
        raise QueryError("an empty text has no spans: give at least one token")
    return served.tokens(tokens), characters


def bits(index: Index, tokens: list[int]) -> npt.NDArray[np.float64]:
    """-log2 of each token's share of the corpus, float64 of shape (tokens,); one that never occurs counts as once."""
    distinct, places = np.unique(np.array(tokens, dtype=np.uint32), return_inverse=True)
    counts = np.maximum(index.count(distinct.reshape(-1, 1)).astype(np.float64), 1.0)
    costs: npt.NDArray[np.float64] = (np.log2(max(index.manifest.tokens, 1)) - np.log2(counts))[places]
    return costs


def ranked_documents(spans: list[Answer], costs: npt.NDArray[np.float64], limit: int) -> list[Answer]:
    """Documents among the sources of spans, those first whose spans together are the rarest."""
    places: dict[tuple[int, int], Answer] = {}
    for number, span in enumerate(spans):
        for source in span["sources"]:
            place = places.setdefault(
                (source["shard"], source["document"]), {name: source[name] for name in PLACE} | {"spans": []}
            )
            if number not in place["spans"][-1:]:
                place["spans"].append(number)
    for place in places.values():
        inside = np.zeros(len(costs), dtype=bool)
        for number in place["spans"]:
            inside[spans[number]["start"] : spans[number]["start"] + spans[number]["length"]] = True
        place |= {"covered": int(inside.sum()), "rarity": float(costs[inside].sum())}
    ranked = sorted(places.values(), key=lambda place: (-place["rarity"], place["shard"], place["document"]))
    return ranked[:limit]
