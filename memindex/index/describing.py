"""Answers of an index as plain objects with texts, as the command line and the server give them in JSON."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from memindex.index.answers import NextTokens, Spans
    from memindex.index.index import Index

#: A JSON object.
Answer: TypeAlias = dict[str, Any]

#: Tokens of the query that are decoded with a next token: enough to tell whether a space stands before it.
CONTEXT = 8

#: What is told of a document that holds a span.
SOURCE = ("shard", "document", "position", "match", "domain", "path", "line")


def next_answers(index: Index, texts: list[str], tokens: list[list[int]], top: int, by_domain: bool) -> list[Answer]:
    """What follows each query: the `top` most frequent tokens with counts and shares, and the ends of documents.

    Args:
        index: The index.
        texts: What stands as `query` in each answer.
        tokens: The ids of each query, at least one.
        top: Next tokens told of each query at most.
        by_domain: Whether to count in every domain too.

    Raises:
        QueryError: As `Index.next_tokens`.
    """
    found = index.next_tokens(tokens, by_domain=by_domain)
    totals = index.count_by_domain(tokens) if by_domain else index.count(tokens)[:, None]
    names = index.domains
    answers = [
        {"query": text, "tokens": tokens[i]} | _next_answer(found, i, totals[i], names, top)
        for i, text in enumerate(texts)
    ]
    _add_texts(index, answers)
    return answers


def _next_answer(found: NextTokens, query: int, totals: npt.NDArray[np.uint64], names: list[str], top: int) -> Answer:
    """What follows one query; `totals`: its occurrences in each domain, or in all when domains were not asked for."""
    total = int(totals.sum())
    first, end = found.offsets[query : query + 2].tolist()
    last = min(end, first + top)
    table = found.domains
    rows = [None] * (last - first) if table is None else table[first:last]
    listed = zip(found.ids[first:last].tolist(), found.counts[first:last].tolist(), rows, strict=True)
    ends = None if table is None else totals - table[first:end].sum(axis=0, dtype=totals.dtype)
    return {
        **_counted(total, total, names, None if table is None else totals),
        "distinct": end - first,
        "next": [{"token": token, "text": None} | _counted(count, total, names, row) for token, count, row in listed],
        "end_of_document": _counted(int(found.ends[query]), total, names, ends),
    }


def _counted(count: int, total: int, names: list[str], domains: npt.NDArray[np.uint64] | None) -> Answer:
    """Count and share; with counts by domain also those that are not zero."""
    counted: Answer = {"count": count, "share": count / total if total else None}
    if domains is None:
        return counted
    places = domains.nonzero()[0]
    listed = zip([names[place] for place in places.tolist()], domains[places].tolist(), strict=True)
    return counted | {"domains": dict(listed)}


def _add_texts(index: Index, answers: list[Answer]) -> None:
    """Decode all next tokens at once, each after the end of its query."""
    if not index.has_tokenizer:
        return
    listed = [(answer["tokens"][-CONTEXT:], entry) for answer in answers for entry in answer["next"]]
    pieces = index.tokenizer.decode_pieces([[context, [entry["token"]]] for context, entry in listed])
    for (_, entry), (_, text) in zip(listed, pieces, strict=True):
        entry["text"] = text


def span_answers(
    index: Index, found: Spans, tokens: list[int], characters: list[tuple[int, int]] | None
) -> list[Answer]:
    """The spans of one text; `characters`: first and end of what each token was made from, when it was a text."""
    starts, ends = found.start.tolist(), (found.start + found.length).tolist()
    rows = [tokens[start:end] for start, end in zip(starts, ends, strict=True)]
    texts = index.tokenizer.decode_batch(rows) if index.has_tokenizer else [None] * len(rows)
    return [
        {
            "start": start,
            "length": end - start,
            "tokens": row,
            "text": text,
            "count": count,
            "characters": characters and [characters[start][0], characters[end - 1][1]],
        }
        for start, end, row, text, count in zip(starts, ends, rows, texts, found.counts.tolist(), strict=True)
    ]


def add_sources(index: Index, spans: list[Answer], limit: int) -> None:
    """Add `sources` to each span: where it stands, at most `limit` of its occurrences."""
    for span in spans:
        span["sources"] = []
    if not spans:
        return
    table = index.documents([span["tokens"] for span in spans], limit, max_tokens=1, text=False)
    for row in table.select(["query", *SOURCE]).to_pylist():
        spans[row.pop("query")]["sources"].append(row)


def covered(found: Spans) -> int:
    """Tokens inside any span of one text; starts and ends of maximal spans both ascend."""
    ends = (found.start + found.length).tolist()
    bounds = pairwise([0, *ends])
    return sum(end - max(start, before) for start, (before, end) in zip(found.start.tolist(), bounds, strict=True))


def excerpt_pieces(index: Index, rows: list[Answer], lengths: list[int]) -> list[list[str]]:
    """Text before the match, of the match, and after it, for every row of `Index.documents`.

    Args:
        index: The index; without a tokenizer the texts are ids.
        rows: Rows of the table.
        lengths: Tokens of each query of the batch.
    """
    cut = []
    for row in rows:
        first = row["match"] - row["start"]
        end = first + lengths[row["query"]]
        cut.append([row["tokens"][:first], row["tokens"][first:end], row["tokens"][end:]])
    if index.has_tokenizer:
        return index.tokenizer.decode_pieces(cut)
    return [["".join(f"{token} " for token in piece) for piece in pieces] for pieces in cut]


def parsed_metadata(metadata: str | None) -> Any:
    """The value that metadata says in JSON; the text itself where it is none, as with NaN, which Python would read."""
    if metadata is None:
        return None
    try:
        return json.loads(metadata, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return metadata


def _refuse(constant: str) -> None:
    raise ValueError(constant)
