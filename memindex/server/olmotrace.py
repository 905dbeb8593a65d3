"""`POST /{index}/attribution`, shaped as OLMoTrace's service: the rare spans of a model's response, with documents.

A span is the longest match from a token on, cut behind the first delimiter and, unless partial words are allowed,
before the word in whose middle it would end. A token begins a word unless there are letters, digits or combining marks
on both sides of its beginning, or it begins inside a character.
"""

from __future__ import annotations

import math
import unicodedata
from itertools import pairwise
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from memindex.errors import QueryError
from memindex.index.describing import Answer, parsed_metadata
from memindex.ragged import from_lists
from memindex.server.answering import check_numbers, check_rows
from memindex.server.indexes import Served
from memindex.server.olmotrace_models import AttributionRequest, AttributionResponse, SpanRankingMethod
from memindex.server.problems import ProblemError
from memindex.server.routes import PROBLEMS, body_of
from memindex.server.service import Service

#: By this type that service's clients know that they should come again later.
OVERLOADED = "server-overloaded"

#: First and end token of a span, and how often it occurs.
Found = tuple[int, int, int]


def attribution_router(service: Service) -> APIRouter:
    """That service's routes; its health is in `memindex.server.routes`."""
    router = APIRouter(tags=["OLMoTrace"], responses=PROBLEMS)

    @router.get("/indexes", response_model=list[str])
    async def indexes() -> Any:
        """Names of the indexes."""
        return service.indexes.names()

    @router.post("/{index}/attribution", response_model=AttributionResponse, openapi_extra=body_of(AttributionRequest))
    async def attribution(index: str, request: Request) -> Response:
        """The rare verbatim spans of a model's response, and documents that hold them."""
        try:
            return await service.answer(request, index, "attribution", AttributionRequest, attribute)
        except ProblemError as problem:
            if problem.status == 503 and problem.limit:
                problem.type = OVERLOADED
            raise

    return router


def attribute(served: Served, asked: AttributionRequest) -> Answer:
    """Answer one request."""
    index = served.index
    if not index.has_tokenizer:
        raise ProblemError(400, f"{served.name} has no tokenizer")
    served.check_characters(len(asked.response))
    tokens, characters = index.tokenizer.encode_with_offsets(asked.response)
    if not tokens:
        raise QueryError("an empty response has no spans")
    served.tokens(tokens)
    texts = _pieces(asked.response, characters)
    costs = _logprobs(served, tokens)
    most = math.ceil(len(tokens) * min(asked.maximum_span_density, 1.0))
    spans = _capped(_spans(served, asked, tokens, texts, characters), asked, costs, most)
    check_rows(served, len(spans) * asked.maximum_documents_per_span, "documents")
    context = 2 * asked.maximum_context_length + max((end - start for start, end, _ in spans), default=0)
    check_numbers(served, len(spans) * asked.maximum_documents_per_span * context, "tokens of excerpts")
    rows = [tokens[start:end] for start, end, _ in spans]
    documents = _documents(served, asked, rows)
    return {
        "index": served.name,
        "inputTokens": texts,
        "spans": [
            {
                "left": start,
                "right": end,
                "length": end - start,
                "count": count,
                "unigramLogprobSum": float(costs[start:end].sum()),
                "text": index.tokenizer.decode(row),
                "tokenIds": row,
                "documents": found,
            }
            for (start, end, count), row, found in zip(spans, rows, documents, strict=True)
        ],
    }


def _logprobs(served: Served, tokens: list[int]) -> Any:
    """Logarithm of each token's share of the corpus, separators counted; float64 of shape (tokens,)."""
    distinct, places = np.unique(np.array(tokens, dtype=np.uint32), return_inverse=True)
    counts = np.maximum(served.index.count(distinct.reshape(-1, 1)).astype(np.float64), 1.0)
    return (np.log(counts) - math.log(sum(map(len, served.index.shards))))[places]


def _spans(
    served: Served, asked: AttributionRequest, tokens: list[int], texts: list[str], characters: list[tuple[int, int]]
) -> list[Found]:
    """Spans that no earlier one covers, rare and long enough."""
    starts_word = [True] * (len(tokens) + 1)
    if not asked.allow_spans_with_partial_words:
        starts_word[:-1] = _word_starts(asked.response, characters)
    delimiters = set(asked.delimiters)
    ends_here = [text in delimiters or text.strip(" ") in delimiters for text in texts]
    candidates = []
    for start, length in enumerate(served.index.longest_match([tokens]).lengths.tolist()):
        if not starts_word[start]:
            continue
        end = start + length
        end = next((at + 1 for at in range(start, end) if ends_here[at]), end)
        while end > start and not starts_word[end]:
            end -= 1
        if end - start >= asked.minimum_span_length:
            candidates.append((start, end))
    if not candidates:
        return []
    counts = served.index.count(from_lists([tokens[start:end] for start, end in candidates])).tolist()
    kept: list[Found] = []
    for (start, end), count in zip(candidates, counts, strict=True):
        if count <= asked.maximum_frequency and (not kept or end > kept[-1][1]):
            kept.append((start, end, count))
    return kept


def _pieces(text: str, characters: list[tuple[int, int]]) -> list[str]:
    """The text cut into its tokens; joined they are the text, so a character of several tokens is in the last one.

    Clients join the pieces of a span to show it.
    """
    places = [0, *(first for first, _ in characters[1:]), len(text)]
    return [text[first:end] for first, end in pairwise(places)]


def _word_starts(text: str, characters: list[tuple[int, int]]) -> list[bool]:
    """Whether a word may begin with each token: neither inside a character nor between two letters, digits or marks."""
    inside = [False, *(first < end for (_, end), (first, _) in pairwise(characters))]
    return [
        not part and not (first and _is_of_word(text[first - 1]) and _is_of_word(text[first : first + 1]))
        for part, (first, _) in zip(inside, characters, strict=True)
    ]


def _is_of_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character or " ").startswith("M")


def _capped(spans: list[Found], asked: AttributionRequest, costs: Any, most: int) -> list[Found]:
    """The longest or the rarest spans, in the order of the response."""
    if asked.span_ranking_method is SpanRankingMethod.LENGTH:
        ranked = sorted(spans, key=lambda span: span[0] - span[1])
    else:
        ranked = sorted(spans, key=lambda span: float(costs[span[0] : span[1]].sum()))
    return sorted(ranked[:most])


def _documents(served: Served, asked: AttributionRequest, rows: list[list[int]]) -> list[list[Answer]]:
    """Documents of each span."""
    documents: list[list[Answer]] = [[] for _ in rows]
    if not rows:
        return documents
    index, context = served.index, asked.maximum_context_length
    found = index.positions(rows, asked.maximum_documents_per_span)
    before = index.documents_before()
    for query, shard, position in zip(*(c.tolist() for c in (found.query, found.shard, found.position)), strict=True):
        opened, length = index.shards[shard], len(rows[query])
        document, first, end = opened.locate(np.array([position], dtype=np.int64)).tolist()
        start, stop = max(first, position - context), min(end, position + length + context)
        values, _ = opened.tokens(np.array([start], dtype=np.int64), np.array([stop], dtype=np.int64))
        line, _ = opened.metadata(np.array([document], dtype=np.int64))
        metadata = parsed_metadata(line.tobytes().decode("utf-8", errors="replace") or None)
        shown = _shown(served, asked, values.tolist(), position - start, length)
        documents[query].append(
            {
                "documentIndex": int(before[shard]) + document,
                "documentLength": end - first,
                "metadata": metadata if isinstance(metadata, dict) else {},
                "blocked": False,
            }
            | shown
        )
    return documents


def _shown(served: Served, asked: AttributionRequest, ids: list[int], offset: int, length: int) -> Answer:
    """The excerpt, and shorter ones for a window and for a card."""
    shown: Answer = {"tokenIds": ids, "displayLength": len(ids), "needleOffset": offset}
    long_start = max(0, offset - asked.maximum_context_length_long)
    short_start = max(0, offset - asked.maximum_context_length_snippet)
    long_ids = ids[long_start : offset + length + asked.maximum_context_length_long]
    short_ids = ids[short_start : offset + length + asked.maximum_context_length_snippet]
    text, text_long, text_short = served.index.tokenizer.decode_batch([ids, long_ids, short_ids])
    return shown | {
        "text": text,
        "displayLengthLong": len(long_ids),
        "needleOffsetLong": offset - long_start,
        "textLong": text_long,
        # That service calls the snippet's length so.
        "displayOffsetSnippet": len(short_ids),
        "needleOffsetSnippet": offset - short_start,
        "textSnippet": text_short,
    }
