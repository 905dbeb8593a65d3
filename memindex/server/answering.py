"""The answers of our own API, computed in a thread: parsed requests in, plain objects out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from pydantic_core import to_json

from memindex.index.describing import Answer, excerpt_pieces, next_answers, parsed_metadata
from memindex.index.domain_counts import domain_counts
from memindex.ragged import Ragged
from memindex.server import models
from memindex.server.indexes import Served
from memindex.server.problems import ProblemError, too_much

#: Queries whose answers are objects at a time.
PART = 1000


def count(served: Served, batch: Ragged, by_domain: bool) -> bytes:
    """Counts of n-grams, as JSON: objects for all of them at a time would take ten times its memory."""
    if by_domain:
        return _count_by_domain(served, batch)
    counts = served.index.count(batch)
    rows = (
        [
            {"tokens": tokens, "count": number}
            for tokens, number in zip(
                tokens_of(batch.slice(start, start + PART)), counts[start : start + PART].tolist(), strict=True
            )
        ]
        for start in range(0, batch.rows, PART)
    )
    return _in_parts(served, "counts", rows)


def _count_by_domain(served: Served, batch: Ragged) -> bytes:
    """The same with the domains that have any occurrences."""
    served.check_domains()
    names = served.index.domains
    check_numbers(served, batch.rows * len(names), "counts by domain")
    counts = domain_counts(served.index, batch)
    rows = (
        [
            {"tokens": tokens, "count": sum(domains.values()), "domains": domains}
            for tokens, domains in zip(
                tokens_of(batch.slice(start, start + PART)),
                counts.by_name(names, start, min(start + PART, batch.rows)),
                strict=True,
            )
        ]
        for start in range(0, batch.rows, PART)
    )
    return _in_parts(served, "counts", rows)


def _in_parts(served: Served, name: str, parts: Iterator[list[Answer]]) -> bytes:
    """An answer whose entries are made and written some at a time."""
    written = b",".join([to_json(part)[1:-1] for part in parts])
    return b"".join([b'{"index":', to_json(served.name), b',"', name.encode(), b'":[', written, b"]}"])


def counted(served: Served, tokens: list[list[int]], counts: list[int]) -> Answer:
    """The answer to a count without domains."""
    rows = [{"tokens": ids, "count": number} for ids, number in zip(tokens, counts, strict=True)]
    return {"index": served.name, "counts": rows}


def longest_match(served: Served, batch: Ragged) -> bytes:
    """Matching statistics, as JSON."""
    check_numbers(served, len(batch.values), "tokens")
    found = served.index.longest_match(batch)
    columns = [batch, Ragged(found.lengths, batch.offsets), Ragged(found.counts, batch.offsets)]
    parts = (
        [
            {"tokens": ids, "lengths": lengths, "counts": counts}
            for ids, lengths, counts in zip(*(tokens_of(c.slice(at, at + PART)) for c in columns), strict=True)
        ]
        for at in range(0, batch.rows, PART)
    )
    return _in_parts(served, "matches", parts)


def documents(served: Served, asked: models.DocumentsRequest) -> Answer:
    """Documents around occurrences."""
    tokens = served.tokens(asked.query)
    check_rows(served, asked.limit, "documents")
    check_numbers(served, asked.limit * max(asked.max_tokens, len(tokens)), "tokens of excerpts")
    index = served.index
    within = index.document_count([tokens])
    table = index.documents([tokens], asked.limit, max_tokens=asked.max_tokens, text=False, seed=asked.seed)
    rows = table.to_pylist()
    pieces = excerpt_pieces(index, rows, [len(tokens)])
    return {
        "index": served.name,
        "tokens": tokens,
        "count": int(index.count([tokens])[0]),
        "documents_at_least": int(within.low[0]),
        "documents_at_most": int(within.high[0]),
        "documents": [_document(row, texts) for row, texts in zip(rows, pieces, strict=True)],
    }


def _document(row: Answer, pieces: list[str]) -> Answer:
    before, match, _ = pieces
    first = len(before)
    del row["query"]
    return row | {
        "text": "".join(pieces),
        "match_characters": [first, first + len(match)],
        "metadata": parsed_metadata(row["metadata"]),
    }


def next_tokens(served: Served, asked: models.NextRequest) -> Answer:
    """What follows a query."""
    tokens = served.tokens(asked.query)
    check_rows(served, asked.top, "next tokens")
    if asked.by_domain:
        served.check_domains()
        check_numbers(served, asked.top * len(served.index.domains), "counts by domain")
    (answer,) = next_answers(served.index, [""], [tokens], asked.top, asked.by_domain)
    del answer["query"]
    return {"index": served.name} | answer


def tokenize(served: Served, asked: models.TokenizeRequest) -> Answer:
    """Ids of texts, and the text of each id."""
    check_queries(served, len(asked.texts))
    if not served.index.has_tokenizer:
        raise ProblemError(400, f"{served.name} has no tokenizer")
    check_numbers(served, sum(map(len, asked.texts)), "characters or token ids")
    return {"index": served.name, "texts": [_tokenized(served, text) for text in asked.texts]}


def _tokenized(served: Served, text: str | list[int]) -> Answer:
    characters = None
    if isinstance(text, str):
        tokens, characters = served.index.tokenizer.encode_with_offsets(text)
    else:
        tokens = served.tokens(text) if text else []
        text = served.index.tokenizer.decode(tokens)
    return {"tokens": tokens, "text": text, "pieces": _pieces(served, tokens), "characters": characters}


def _pieces(served: Served, tokens: list[int]) -> list[str]:
    """What each token adds to the text of the token before it: heads of the whole text would be quadratic."""
    pairs = [[tokens[i - 1 : i], [token]] for i, token in enumerate(tokens)]
    return [pieces[1] for pieces in served.index.tokenizer.decode_pieces(pairs)]


def index_info(served: Served, studies: list[str]) -> Answer:
    """What an index holds, and the studies whose SQL can query it."""
    manifest = served.index.manifest
    return {
        "name": served.name,
        "tokenizer": manifest.tokenizer or None,
        "tokenizer_checksum": manifest.tokenizer_checksum or None,
        "vocabulary": manifest.vocabulary,
        "token_width": manifest.token_width,
        "shards": manifest.shards,
        "documents": manifest.documents,
        "tokens": manifest.tokens,
        "created": manifest.created or None,
        "domains": [{"name": d.name, "documents": d.documents, "tokens": d.tokens} for d in manifest.domains],
        "studies": studies,
    }


def tokens_of(batch: Ragged) -> list[list[Any]]:
    """Rows of a ragged array as lists."""
    values, offsets = batch.values.tolist(), batch.offsets.tolist()
    return [values[start:end] for start, end in itertools.pairwise(offsets)]


def check_queries(served: Served, queries: int) -> None:
    """Raise ProblemError 413 for too many queries."""
    most = served.limits.max_queries
    if queries > most:
        raise too_much(f"{queries:,} queries are too many", most, "max_queries")


def check_rows(served: Served, rows: int, what: str) -> None:
    """Raise ProblemError 413 for an answer of too many rows."""
    most = served.limits.max_rows
    if rows > most:
        raise too_much(f"{rows:,} {what} are too many", most, "max_rows")


def check_numbers(served: Served, numbers: int, what: str) -> None:
    """Raise ProblemError 413 for an answer of too many numbers."""
    most = served.limits.max_numbers
    if numbers > most:
        raise too_much(f"{numbers:,} {what} are too many", most, "max_numbers")
