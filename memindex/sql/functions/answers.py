"""How one index answers a batch of rows, for each SQL function: Arrow in, Arrow out, no NULL on either side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.errors import QueryError
from memindex.index.domain_counts import domain_counts
from memindex.ragged import Ragged, from_arrow, to_arrow
from memindex.sql.functions.batches import once
from memindex.sql.functions.indexes import Lookups

MATCHES = pa.list_(pa.struct([("length", pa.int32()), ("count", pa.int64())]))

BY_DOMAIN = pa.map_(pa.string(), pa.int64())

#: A row of documents_with; the names are those of the tables.
DOCUMENT = pa.struct(
    [
        ("shard", pa.int32()),
        ("position", pa.int64()),
        ("document", pa.int64()),
        ("document_offset", pa.int64()),
        ("domain", pa.string()),
        ("path", pa.string()),
        ("line", pa.int64()),
        ("metadata", pa.string()),
        ("text", pa.string()),
    ]
)


def count(index: Lookups, tokens: pa.Array) -> pa.Array:
    """Occurrences of n-grams."""
    return _whole(index.count(_ngrams(tokens)))


@once
def count_of_text(index: Lookups, texts: pa.Array) -> pa.Array:
    """Occurrences of texts."""
    return count(index, to_arrow(index.tokenize(texts.to_pylist())))


def count_by_domain(index: Lookups, tokens: pa.Array) -> pa.Array:
    """Occurrences of n-grams in the domains that have any, in the index's order of domains."""
    queries, domains = _ngrams(tokens), index.domains
    if not domains:
        raise QueryError(f"{index.name} has no domain column: ask ngram_count, or build it with domains")
    found = domain_counts(index, queries)
    names = pa.array(domains, type=pa.string()).take(pa.array(found.domain))
    per_query = np.bincount(found.row, minlength=queries.rows)
    return pa.MapArray.from_arrays(_offsets(per_query), names, pa.array(found.counts))


@once
def longest_match(index: Lookups, tokens: pa.Array) -> pa.Array:
    """Tokens of the longest run of each n-gram that occurs in the corpus."""
    found = index.longest_match(_ngrams(tokens))
    return pa.array(np.maximum.reduceat(found.lengths, found.offsets[:-1]).astype(np.int32))


@once
def longest_matches(index: Lookups, tokens: pa.Array) -> pa.Array:
    """For each token of each n-gram, the longest match that starts there."""
    found = index.longest_match(_ngrams(tokens))
    columns = [pa.array(found.lengths.astype(np.int32)), _whole(found.counts)]
    matches = pa.StructArray.from_arrays(columns, fields=list(MATCHES.value_type))
    return pa.ListArray.from_arrays(pa.array(found.offsets.astype(np.int32)), matches)


@once
def tokenize(index: Lookups, texts: pa.Array) -> pa.Array:
    """Ids of texts."""
    return to_arrow(index.tokenize(texts.to_pylist()))


@once
def detokenize(index: Lookups, tokens: pa.Array) -> pa.Array:
    """Texts of ids; an id that the tokenizer does not have would vanish from the text, so it is an error."""
    ids, tokenizer = _ids(tokens), index.tokenizer
    vocabulary = tokenizer.vocabulary
    if ids.values.size and (largest := int(ids.values.max())) >= vocabulary:
        raise QueryError(
            f"token id {largest} has no text: the tokenizer's ids are 0 to {vocabulary - 1}; "
            f"leave others out with list_filter(tokens, lambda t: t < {vocabulary})"
        )
    rows = np.split(ids.values, ids.offsets[1:-1])
    return pa.array(tokenizer.decode_batch([row.tolist() for row in rows]), type=pa.string())


@once
def documents_with(index: Lookups, tokens: pa.Array, limit: int, max_tokens: int) -> pa.Array:
    """The documents around at most `limit` occurrences of n-grams, `max_tokens` of each as text."""
    queries = _ngrams(tokens)
    found = index.documents(queries, limit, max_tokens=max_tokens).rename_columns({"match": "document_offset"})
    rows = found.select([field.name for field in DOCUMENT]).cast(pa.schema(list(DOCUMENT))).combine_chunks()
    columns = [column.combine_chunks() for column in rows.columns]
    documents = pa.StructArray.from_arrays(columns, fields=list(DOCUMENT))
    per_query = np.bincount(found["query"].to_numpy(), minlength=queries.rows)
    return pa.ListArray.from_arrays(_offsets(per_query), documents)


def _ids(tokens: pa.Array) -> Ragged:
    """Lists of ids, uint32."""
    ids = from_arrow(tokens)
    if ids.values.size and (least := int(ids.values.min())) < 0:
        raise QueryError(f"token id {least} is negative: ids start at 0")
    return Ragged(ids.values.view(np.uint32), ids.offsets)


def _ngrams(tokens: pa.Array) -> Ragged:
    """Lists of ids of which none is empty."""
    ids = _ids(tokens)
    if not ids.lengths().all():
        raise QueryError("a list of tokens is empty: an n-gram has at least one token")
    return ids


def _offsets(lengths: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _whole(counts: npt.NDArray[np.uint64]) -> pa.Array:
    """Counts as the type that SQL has for them; none reaches 2^63."""
    return pa.array(counts.view(np.int64))
