"""The documents of an index as its tokens tell them: where they stand, their domains, lengths, sizes, and copies."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from memindex import _core
from memindex.errors import CorruptIndexError
from memindex.index.answers import Occurrences
from memindex.index.index import Index
from memindex.index.token_bytes import bytes_of_tokens

Integers = npt.NDArray[np.int64]

#: Shares of the documents that are at most as long as what `Lengths.quantiles` says.
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


class Lengths(NamedTuple):
    """How many tokens documents have.

    Attributes:
        mean: Mean, over all documents; NaN without documents.
        quantiles: Of all documents, the least length that the shares in `QUANTILES` of them do not exceed, int64.
        by_domain: The same for each domain, int64 of shape (domains, len(QUANTILES)).
        starts: The shortest length of each bin of the histogram: 0, 1, 2, 4, 8, …, int64.
        histogram: Documents in each bin, int64 of shape (domains, bins).
    """

    mean: float
    quantiles: Integers
    by_domain: Integers
    starts: Integers
    histogram: Integers


class Copies(NamedTuple):
    """One text that several documents have: how many, their tokens, how many in each domain, and where one stands."""

    documents: int
    tokens: int
    domains: dict[str, int]
    shard: int
    document: int
    path: str | None
    line: int | None


class Duplicates(NamedTuple):
    """Documents of which the index holds another one with the same tokens (by 128 bits of BLAKE3).

    Documents without tokens are not counted as copies of each other.

    Attributes:
        empty: Documents without tokens.
        texts: Distinct texts that several documents have.
        documents: Documents that have a copy, int64 of shape (domains,).
        tokens: Their tokens, int64 of shape (domains,).
        in_other_domains: Those that have a copy in another domain, int64 of shape (domains,).
        redundant_documents: Documents that would go if one of each text were kept.
        redundant_tokens: Their tokens.
        largest: The texts with the most copies, of equally many the longer ones first.
    """

    empty: int
    texts: int
    documents: Integers
    tokens: Integers
    in_other_domains: Integers
    redundant_documents: int
    redundant_tokens: int
    largest: list[Copies]


class Documents:
    """All documents of an index, shard by shard.

    Attributes:
        domains: Names of the domains; the index's name where it has none.
        bounds: For each shard the token positions of the separators and last the end of its text, int64.
        codes: The domain of each document, uint16 of shape (documents,).
        lengths: Tokens of each document, int64 of shape (documents,).
    """

    def __init__(self, domains: list[str], bounds: list[Integers], codes: npt.NDArray[np.uint16]) -> None:
        self.domains = domains
        self.bounds = bounds
        self.codes = codes
        self.lengths: Integers = np.concatenate([np.diff(of_shard) - 1 for of_shard in bounds])
        self._ends = np.cumsum([len(of_shard) - 1 for of_shard in bounds])

    def by_domain(
        self, numbers: npt.NDArray[Any] | None = None, where: npt.NDArray[np.bool_] | None = None
    ) -> Integers:
        """Sums of `numbers` (by default: how many) over the documents of each domain, of some documents or all."""
        codes, size = self.codes, len(self.domains)
        if where is not None:
            codes, numbers = codes[where], None if numbers is None else numbers[where]
        # Whole numbers below 2^53 are exact in float64, and so are their sums.
        return np.bincount(codes, weights=numbers, minlength=size).astype(np.int64)

    def parts(self, tokens: int) -> Iterator[tuple[list[Integers], list[npt.NDArray[np.uint16]]]]:
        """Bounds and domains, for each shard, of documents of about `tokens` tokens at a time."""
        sizes = np.cumsum(self.lengths + 1)
        cuts = [0]
        while cuts[-1] < len(sizes):
            before = int(sizes[cuts[-1] - 1]) if cuts[-1] else 0
            cuts.append(max(cuts[-1] + 1, int(np.searchsorted(sizes, before + tokens, side="right"))))
        for first, end in itertools.pairwise(cuts):
            bounds, codes, before = [], [], 0
            for of_shard, behind in zip(self.bounds, self._ends.tolist(), strict=True):
                low, high = np.clip((first, end), before, behind)
                bounds.append(np.ascontiguousarray(of_shard[low - before : high - before + 1]))
                codes.append(np.ascontiguousarray(self.codes[low:high]))
                before = behind
            yield bounds, codes

    def bytes(self, index: Index) -> npt.NDArray[np.uint64] | None:
        """UTF-8 bytes of each document's text, uint64; None where the tokens alone do not tell."""
        known = bytes_of_tokens(index.tokenizer) if index.has_tokenizer else None
        if known is None:
            return None
        sums = [_core.weigh_documents(*pair, known.of_token) for pair in zip(index.shards, self.bounds, strict=True)]
        total = np.concatenate(sums)
        if known.has_space_before:
            total -= (self.lengths > 0).astype(np.uint64)
        return total

    def length_distribution(self) -> Lengths:
        """Quantiles and a histogram of the documents' lengths."""
        order = np.lexsort((self.lengths, self.codes))
        ends = np.searchsorted(self.codes[order], np.arange(len(self.domains) + 1))
        sorted_lengths = self.lengths[order]
        of_domains = [_quantiles(sorted_lengths[low:high]) for low, high in itertools.pairwise(ends.tolist())]
        # 0 in the first bin, 1 in the second, then 2 and 3, 4 to 7, …; frexp's exponent is exact where log2 rounds.
        bins = np.frexp(self.lengths.astype(np.float64))[1].astype(np.int64)
        number = int(bins.max(initial=0)) + 1
        histogram = np.bincount(self.codes.astype(np.int64) * number + bins, minlength=len(self.domains) * number)
        return Lengths(
            mean=float(self.lengths.mean()) if len(self.lengths) else float("nan"),
            quantiles=_quantiles(np.sort(self.lengths)),
            by_domain=np.array(of_domains, dtype=np.int64).reshape(-1, len(QUANTILES)),
            starts=np.array([0, *(1 << i for i in range(number - 1))], dtype=np.int64),
            histogram=histogram.reshape(-1, number),
        )

    def duplicates(self, index: Index, most: int) -> Duplicates:
        """Documents that have exact copies, and the `most` texts with the most copies."""
        sums = [_core.document_checksums(*pair) for pair in zip(index.shards, self.bounds, strict=True)]
        checksums = np.concatenate(sums).reshape(-1, 2)
        # Texts one after the other, the documents of each in their order.
        order = np.lexsort((checksums[:, 1], checksums[:, 0]))
        order = order[self.lengths[order] > 0]
        ordered = checksums[order]
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        firsts = np.flatnonzero(is_first)
        sizes = np.diff(firsts, append=len(order))
        has_copy = np.zeros(len(self.lengths), dtype=bool)
        has_copy[order] = np.repeat(sizes, sizes) > 1
        abroad = np.zeros(len(self.lengths), dtype=bool)
        if len(firsts):
            codes = self.codes[order]
            differ = np.minimum.reduceat(codes, firsts) != np.maximum.reduceat(codes, firsts)
            abroad[order] = np.repeat(differ, sizes)
        several = np.flatnonzero(sizes > 1)
        lengths = self.lengths[order[firsts[several]]]
        largest = several[np.lexsort((order[firsts[several]], -lengths, -sizes[several]))[:most]]
        return Duplicates(
            empty=int(np.count_nonzero(self.lengths == 0)),
            texts=len(several),
            documents=self.by_domain(where=has_copy),
            tokens=self.by_domain(self.lengths, where=has_copy),
            in_other_domains=self.by_domain(where=abroad),
            redundant_documents=int((sizes[several] - 1).sum()),
            redundant_tokens=int(((sizes[several] - 1) * lengths).sum()),
            largest=[self._copies(index, order[firsts[text] : firsts[text] + sizes[text]]) for text in largest],
        )

    def _copies(self, index: Index, documents: Integers) -> Copies:
        """What is told of the documents of one text."""
        counts = np.bincount(self.codes[documents], minlength=len(self.domains))
        by_count = sorted(np.flatnonzero(counts).tolist(), key=lambda domain: -counts[domain])
        first = int(documents[0])
        shard = int(np.searchsorted(self._ends, first, side="right"))
        number = first - (int(self._ends[shard - 1]) if shard else 0)
        path, line = _source(index, shard, int(self.bounds[shard][number]) + 1)
        return Copies(
            documents=len(documents),
            tokens=int(self.lengths[first]),
            domains={self.domains[domain]: int(counts[domain]) for domain in by_count},
            shard=shard,
            document=number,
            path=path,
            line=line,
        )


def read_documents(index: Index) -> Documents:
    """All documents of an index; CorruptIndexError where they are not those of its manifest."""
    starts, codes = zip(*(_core.documents_of_shard(shard) for shard in index.shards), strict=True)
    if sum(map(len, starts)) != index.manifest.documents:
        raise CorruptIndexError(
            f"{index.path}: {sum(map(len, starts))} documents start in its shards, not {index.manifest.documents}"
        )
    bounds = [np.append(of_shard, len(shard)) for of_shard, shard in zip(starts, index.shards, strict=True)]
    return Documents(index.domains or [index.name], bounds, np.concatenate(codes))


def _quantiles(ascending: Integers) -> Integers:
    if not len(ascending):
        return np.zeros(len(QUANTILES), dtype=np.int64)
    places = np.ceil(np.array(QUANTILES) * len(ascending)).astype(np.int64) - 1
    found: Integers = ascending[np.maximum(places, 0)]
    return found


def _source(index: Index, shard: int, position: int) -> tuple[str | None, int | None]:
    """Path and line of the document that holds a token position."""
    from memindex.index.excerpts import documents_around

    # The rank tells no more than the domain, which is known.
    found = Occurrences(
        np.zeros(1, dtype=np.int64),
        np.array([shard], dtype=np.int32),
        np.zeros(1, dtype=np.uint64),
        np.array([position]),
    )
    row = documents_around(index, found, np.array([1]), 1, text=False)
    return row["path"][0].as_py(), row["line"][0].as_py()
