"""What an index holds: sizes by domain, lengths, duplicate documents, repeated text, frequent n-grams; all exact.

Everything comes from walks over the suffix arrays of all shards in one order (`core/src/walk.rs`), in which equal
n-grams and equal windows stand together, whatever shard they are in. A walk takes time linear in the tokens; what it
waits for is one random read of the text for each token. Memory is that of the documents (some 60 bytes each) and of the
masks of repeated windows: 4 bytes a token and window length, for as many documents at a time as `memory` allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from memindex import _core
from memindex.errors import QueryError
from memindex.index.index import Index
from memindex.index.statistics_documents import Documents, Duplicates, Lengths, read_documents
from memindex.progress import Progress

Integers = npt.NDArray[np.int64]

#: Domains whose share of other domains' text is told, in a row each: those with the most tokens.
MOST_COLUMNS = 120

#: Tokens of an n-gram or a window, and n-grams of one length, at most.
LONGEST, MOST_NGRAMS = 1 << 16, 100_000

#: What the last two of the core's numbers for a window are; the others are of single domains.
_ANYWHERE, _OTHER = -2, -1


class RepeatedWindows(NamedTuple):
    """Tokens that lie in at least one window of `length` tokens that occurs more than once in the index.

    Windows end where their document ends. Occurrences may overlap, as in a run of one token.

    Attributes:
        length: Tokens of a window.
        tokens: Tokens under such windows, int64 of shape (domains,).
        in_other_domains: Those under windows that occur in another domain, int64 of shape (domains,).
        columns: Domains that `matrix` tells of, as places in the list of domains: all, or those with most tokens.
        matrix: Tokens of each domain under windows that also occur, elsewhere, in the domain of the column: int64 of
            shape (domains, columns). On the diagonal: a second time in the same domain.
    """

    length: int
    tokens: Integers
    in_other_domains: Integers
    columns: list[int]
    matrix: Integers


class FrequentNgrams(NamedTuple):
    """The n-grams of one length.

    Attributes:
        n: Tokens of each.
        total: Places where one stands: no n-gram crosses the end of a document.
        distinct: Distinct ones.
        once: Those that occur once.
        counts: Occurrences of the most frequent ones, uint64, descending; equal ones in the order of their ids.
        ids: Their ids, uint32 of shape (len(counts), n).
    """

    n: int
    total: int
    distinct: int
    once: int
    counts: npt.NDArray[np.uint64]
    ids: npt.NDArray[np.uint32]


class IndexStatistics(NamedTuple):
    """What an index holds.

    Attributes:
        domains: Names of the domains; the index's own where it has none.
        documents: Documents, int64 of shape (domains,).
        tokens: Tokens, separators not counted, int64 of shape (domains,).
        bytes: UTF-8 bytes of the text that the tokens spell, int64 of shape (domains,); after the tokenizer's
            normalization, if it has one. None where the tokenizer is not known or its decoder is of an unknown kind.
        lengths: How many tokens the documents have.
        duplicates: Documents of which the index holds exact copies.
        windows: Repeated text, for each length that was asked for.
        ngrams: N-grams of 1, 2, … tokens.
    """

    domains: list[str]
    documents: Integers
    tokens: Integers
    bytes: Integers | None
    lengths: Lengths
    duplicates: Duplicates
    windows: list[RepeatedWindows]
    ngrams: list[FrequentNgrams]


def index_statistics(
    index: Index,
    *,
    windows: Sequence[int] = (32, 64),
    longest_ngram: int = 3,
    most_ngrams: int = 10,
    most_duplicates: int = 10,
    memory: int = 1 << 29,
    progress: Progress | None = None,
) -> IndexStatistics:
    """Exact statistics of an index, over all its shards together.

    Args:
        index: The index.
        windows: Lengths of the windows, in tokens, whose repetition is measured.
        longest_ngram: N-grams of 1 to so many tokens are counted.
        most_ngrams: How many of the most frequent ones of each length to give.
        most_duplicates: How many of the documents with the most copies to give.
        memory: Bytes that repeated windows are marked in. Half as much takes twice as many walks, where a walk does not
            hold the whole corpus; the largest document must fit.
        progress: Told about every stage.

    Raises:
        QueryError: A number is out of range.
        CorruptIndexError: A file is damaged or changed since it was opened.
    """
    _check(windows, longest_ngram, most_ngrams, most_duplicates)
    progress = progress or (lambda *_: None)
    progress("documents", 0, 2)
    documents = read_documents(index)
    sizes = documents.bytes(index)
    progress("documents", 1, 2)
    duplicates = documents.duplicates(index, most_duplicates)
    progress("documents", 2, 2)
    progress("n-grams", 0, 1)
    ngrams = _frequent_ngrams(index, documents, longest_ngram, most_ngrams)
    progress("n-grams", 1, 1)
    return IndexStatistics(
        domains=documents.domains,
        documents=documents.by_domain(),
        tokens=documents.by_domain(documents.lengths),
        bytes=None if sizes is None else documents.by_domain(sizes),
        lengths=documents.length_distribution(),
        duplicates=duplicates,
        windows=_repeated_windows(index, documents, sorted(set(windows)), memory, progress),
        ngrams=ngrams,
    )


def _check(windows: Sequence[int], longest_ngram: int, most_ngrams: int, most_duplicates: int) -> None:
    for length in (*windows, longest_ngram):
        if not 1 <= length <= LONGEST:
            raise QueryError(f"windows and n-grams have 1 to {LONGEST} tokens, not {length}")
    for most in (most_ngrams, most_duplicates):
        if not 1 <= most <= MOST_NGRAMS:
            raise QueryError(f"give 1 to {MOST_NGRAMS} n-grams and documents, not {most}")


def _frequent_ngrams(index: Index, documents: Documents, longest: int, most: int) -> list[FrequentNgrams]:
    found = _core.frequent_ngrams(index.shards, longest, most)
    return [
        FrequentNgrams(
            n, int(np.maximum(documents.lengths - n + 1, 0).sum()), distinct, once, counts, ids.reshape(-1, n)
        )
        for n, (distinct, once, counts, ids) in enumerate(found, start=1)
    ]


def _repeated_windows(
    index: Index, documents: Documents, lengths: list[int], memory: int, progress: Progress
) -> list[RepeatedWindows]:
    if not lengths:
        return []
    domains = len(documents.domains)
    tokens = documents.by_domain(documents.lengths)
    columns = sorted(np.argsort(-tokens, kind="stable")[:MOST_COLUMNS].tolist())
    numbered = _core.WINDOW_NUMBERS - 2
    firsts = sorted({column // numbered * numbered for column in columns}) if domains > 1 else [0]
    parts = list(documents.parts(max(1, memory // (4 * len(lengths)))))
    counts = np.zeros((len(lengths), domains, len(firsts), _core.WINDOW_NUMBERS), dtype=np.int64)
    walks = len(parts) * len(firsts)
    for walk in range(walks):
        progress("repeated text", walk, walks)
        number, place = divmod(walk, len(firsts))
        bounds, labels = parts[number]
        found = _core.repeated_windows(index.shards, bounds, labels, lengths, domains, firsts[place])
        counts[:, :, place] += found.reshape(len(lengths), domains, -1).astype(np.int64)
    progress("repeated text", walks, walks)
    by_domain = counts[..., :numbered].reshape(len(lengths), domains, -1)
    places = [firsts.index(column // numbered * numbered) * numbered + column % numbered for column in columns]
    return [
        RepeatedWindows(length, of_length[:, 0, _ANYWHERE], of_length[:, 0, _OTHER], columns, matrix[:, places])
        for length, of_length, matrix in zip(lengths, counts, by_domain, strict=True)
    ]
