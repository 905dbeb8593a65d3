"""Statistics of an index as what JSON knows."""

from __future__ import annotations

from typing import Any

from memindex.index.index import Index
from memindex.index.statistics import FrequentNgrams, IndexStatistics, RepeatedWindows
from memindex.index.statistics_documents import QUANTILES, Duplicates


def as_object(index: Index, found: IndexStatistics) -> dict[str, Any]:
    """The statistics as a dictionary of numbers, texts, lists and dictionaries."""
    lengths, documents = found.lengths, int(found.documents.sum())
    return {
        "index": index.name,
        "documents": documents,
        "tokens": int(found.tokens.sum()),
        "bytes": None if found.bytes is None else int(found.bytes.sum()),
        "domains": {name: _domain(found, d) for d, name in enumerate(found.domains)},
        "lengths": {
            "mean": lengths.mean if documents else None,
            "quantiles": _quantiles(lengths.quantiles.tolist()),
            "histogram": {"from": lengths.starts.tolist(), "documents": lengths.histogram.sum(axis=0).tolist()},
        },
        "duplicates": _duplicates(found.duplicates),
        "windows": [_window(found, window) for window in found.windows],
        "ngrams": [_ngrams(index, ngrams) for ngrams in found.ngrams],
    }


def _quantiles(lengths: list[int]) -> list[dict[str, float]]:
    """The lengths that the shares of the documents do not exceed."""
    return [{"share": share, "tokens": tokens} for share, tokens in zip(QUANTILES, lengths, strict=True)]


def domain_rows(found: IndexStatistics) -> list[dict[str, Any]]:
    """One row per domain: sizes, median length, copies, and tokens in windows that occur again."""
    rows = []
    for d, name in enumerate(found.domains):
        facts = _domain(found, d)
        del facts["length_histogram"]
        quantiles = {quantile["share"]: quantile["tokens"] for quantile in facts.pop("length_quantiles")}
        repeated = {
            f"{kind}_{window.length}": int(part[d])
            for window in found.windows
            for kind, part in (("repeated", window.tokens), ("elsewhere", window.in_other_domains))
        }
        rows.append({"domain": name, **facts, "median_tokens": quantiles[0.5], **repeated})
    return rows


def _domain(found: IndexStatistics, domain: int) -> dict[str, Any]:
    lengths, copies = found.lengths, found.duplicates
    return {
        "documents": int(found.documents[domain]),
        "tokens": int(found.tokens[domain]),
        "bytes": None if found.bytes is None else int(found.bytes[domain]),
        "length_quantiles": _quantiles(lengths.by_domain[domain].tolist()),
        "length_histogram": lengths.histogram[domain].tolist(),
        "duplicate_documents": int(copies.documents[domain]),
        "duplicate_tokens": int(copies.tokens[domain]),
        "duplicates_in_other_domains": int(copies.in_other_domains[domain]),
    }


def _duplicates(copies: Duplicates) -> dict[str, Any]:
    return {
        "empty_documents": copies.empty,
        "texts": copies.texts,
        "documents": int(copies.documents.sum()),
        "tokens": int(copies.tokens.sum()),
        "redundant_documents": copies.redundant_documents,
        "redundant_tokens": copies.redundant_tokens,
        "largest": [copy._asdict() for copy in copies.largest],
    }


def _window(found: IndexStatistics, window: RepeatedWindows) -> dict[str, Any]:
    def of_domain(domain: int) -> dict[str, Any]:
        tokens, whole = int(window.tokens[domain]), int(found.tokens[domain])
        also_in = zip(window.columns, window.matrix[domain].tolist(), strict=True)
        return {
            "tokens": tokens,
            "share": tokens / whole if whole else None,
            "in_other_domains": int(window.in_other_domains[domain]),
            "also_in": {found.domains[column]: number for column, number in also_in if number},
        }

    return {
        "length": window.length,
        "tokens": int(window.tokens.sum()),
        "in_other_domains": int(window.in_other_domains.sum()),
        "domains": {name: of_domain(d) for d, name in enumerate(found.domains)},
    }


def _ngrams(index: Index, ngrams: FrequentNgrams) -> dict[str, Any]:
    most = [
        {"tokens": ids, "count": count, **({} if text is None else {"text": text})}
        for ids, count, text in listed(index, ngrams)
    ]
    facts = {"n": ngrams.n, "total": ngrams.total, "distinct": ngrams.distinct, "once": ngrams.once}
    return facts | {"most_frequent": most}


def listed(index: Index, ngrams: FrequentNgrams) -> list[tuple[list[int], int, str | None]]:
    """The most frequent n-grams: ids, count and, where the tokenizer is known, text."""
    ids = ngrams.ids.tolist()
    texts = index.tokenizer.decode_batch(ids) if index.has_tokenizer else [None] * len(ids)
    return list(zip(ids, ngrams.counts.tolist(), texts, strict=True))
