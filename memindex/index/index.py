"""An open index: counts, places, documents, matches and continuations of n-grams, in batches.

Every query becomes a ragged batch of ids; every shard answers the whole batch; counts of shards add up. A single
lookup goes through `count_one`, which needs neither NumPy nor Arrow: that is what the command line uses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from memindex import _core
from memindex.errors import CorruptIndexError, MemindexError, QueryError, ReplacedIndexError
from memindex.index.manifest import DOCUMENTS_FILE, FILE, TOKENIZER_FILE, Manifest
from memindex.index.names import check_known, identity_of, index_directory
from memindex.index.opening import check_files, check_shards, read_at_rest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from memindex.corpus.tokenizer import Tokenizer
    from memindex.index.answers import (
        CnfCount,
        CnfMatches,
        DocumentCounts,
        InfinigramNextTokens,
        LongestMatches,
        Matches,
        NextTokens,
        Occurrences,
        Probabilities,
        Spans,
    )
    from memindex.index.cooccurrence import Clauses
    from memindex.index.infini_gram_engine import InfiniGramEngine
    from memindex.ragged import Ragged

    Queries: TypeAlias = (
        str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]] | npt.NDArray[Any] | pa.Array | Ragged
    )
    Texts: TypeAlias = str | Sequence[str] | npt.NDArray[Any] | pa.Array

#: Who answers: the compiled core, or the package infini-gram behind checks.
Engine: TypeAlias = Literal["memindex", "infini-gram"]


def _known(engine: str) -> str:
    if engine not in ("memindex", "infini-gram"):
        raise QueryError(f"no engine {engine!r}: it is memindex or infini-gram")
    return engine


class Index:
    """An index opened for lookups; `Index.open(path)` makes one.

    `queries` everywhere: a text, ids, a list of either, an array of texts or of ids (rows, length), an Arrow array of
    texts or lists, or a `Ragged`. Texts are tokenized with the index's own tokenizer, without special tokens.
    """

    def __init__(self, path: Path, manifest: Manifest, shards: list[_core.Shard]) -> None:
        self.path = path
        self.data = manifest.folder_of_data(path)
        self.manifest = manifest
        self.shards = shards
        self._folder = identity_of(path)
        # A single lookup is so short that walking a list of one shard would show.
        self._only = shards[0] if len(shards) == 1 else None

    @classmethod
    def open(cls, path: str | Path, *, tokenizer: str | Path | Tokenizer | None = None) -> Self:
        """Open the index in a directory: reads index.json, maps the files, checks every size and a few entries.

        A folder of infini-gram files (v4) opens without index.json: token width, shards and documents are told from the
        files. It counts ids; for texts it needs a tokenizer, which must be the one that it was built with.

        Args:
            path: Directory of the index, or its name where it lies in $MEMINDEX_INDEXES or in `indexes`.
            tokenizer: As for `load_tokenizer`; only for an index that has none of its own.

        Raises:
            MemindexError: The directory holds no index, or the tokenizer does not fit it.
            CorruptIndexError: A file is missing, has not the size it should have, or belongs to another shard.
            OSError: A file may not be read.
        """
        directory = index_directory(path).resolve()
        check_known(directory)
        folder, (manifest, shards) = read_at_rest(directory, _open_files)
        opened = cls(directory, manifest, shards)
        opened._folder = folder
        if tokenizer is not None:
            opened._take_tokenizer(tokenizer)
        return opened

    def _take_tokenizer(self, tokenizer: str | Path | Tokenizer) -> None:
        from dataclasses import replace

        from memindex.index.layout import tokenizer_for

        manifest = self.manifest
        if manifest.tokenizer:
            raise MemindexError(f"{self.path} has its own tokenizer, {manifest.tokenizer}: open it without another one")
        self.tokenizer = tokenizer_for(tokenizer, manifest.token_width)
        self.manifest = replace(
            manifest,
            tokenizer=self.tokenizer.name,
            tokenizer_checksum=self.tokenizer.checksum,
            vocabulary=self.tokenizer.vocabulary,
        )

    def file(self, name: str) -> Path:
        """Where a file of the index lies: infini-gram's own may lie elsewhere than the manifest and the sidecars.

        Raises:
            CorruptIndexError: Another version of the index took its place since it was opened.
        """
        if identity_of(self.path) != self._folder:
            raise ReplacedIndexError(self.path)
        return self.manifest.file(self.path, name)

    def __repr__(self) -> str:
        return f"Index({self.name!r}, tokens={self.manifest.tokens:,}, documents={self.manifest.documents:,})"

    @property
    def name(self) -> str:
        """Name of the index: that of its directory."""
        return self.path.name

    @property
    def domains(self) -> list[str]:
        """Names of the domains, in the order of `count_by_domain`'s columns."""
        return self.manifest.domain_names()

    @property
    def has_tokenizer(self) -> bool:
        """Whether texts can be asked for and decoded."""
        return bool(self.manifest.tokenizer)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer the index was built with."""
        from memindex.corpus.shared_tokenizers import shared_tokenizer
        from memindex.corpus.tokenizer import BYTES, Tokenizer

        if not self.manifest.tokenizer:
            raise QueryError(
                f"{self.path} has no tokenizer: count ids (--ids), or give it the one it was built with: "
                f"memindex index open {self.path} --tokenizer NAME"
            )
        if self.manifest.tokenizer == BYTES:
            return Tokenizer(BYTES, None)
        loaded = shared_tokenizer(self.manifest.tokenizer, (self.path / TOKENIZER_FILE).read_bytes())
        if loaded.checksum != self.manifest.tokenizer_checksum:
            raise CorruptIndexError(f"{self.path / TOKENIZER_FILE}: its SHA-256 is not the one in {FILE}")
        return loaded

    def tokenize(self, texts: Texts) -> Ragged:
        """Ids of texts as they occur inside documents, one row per text; a single text is a batch of one.

        They are those of `tokenizer`, without a "▁" that SentencePiece puts in front (`Tokenizer.as_queries`).

        Args:
            texts: A text, a list of texts, or an array of texts (NumPy, Arrow).

        Raises:
            QueryError: It is anything else, or a text is not Unicode.
        """
        from memindex.index.queries import as_texts

        return self._tokenize(as_texts(texts))

    def _tokenize(self, texts: Sequence[str]) -> Ragged:
        tokenizer = self.tokenizer
        try:
            return tokenizer.as_queries(tokenizer.encode_texts(texts))
        except UnicodeEncodeError as error:
            raise QueryError(f"a text can't be written as UTF-8: {error.reason} (half of a surrogate pair?)") from None

    def count_one(self, ids: Sequence[int]) -> int:
        """Occurrences of one n-gram in the corpus."""
        if self._only is not None:
            return self._only.count_one(ids)
        return sum([shard.count_one(ids) for shard in self.shards])

    def count_by_domain_one(self, ids: Sequence[int]) -> list[int]:
        """Occurrences of one n-gram in each domain, in the order of `domains`."""
        return [sum(counts) for counts in zip(*(s.count_by_domain_one(ids) for s in self.shards), strict=True)]

    def count(self, queries: Queries) -> npt.NDArray[np.uint64]:
        """Occurrences of every query in the corpus, exact.

        Returns:
            uint64 of shape (queries,).

        Raises:
            QueryError: A query is empty, an id is out of range, or the batch is none.
            CorruptIndexError: A file was damaged or changed since it was opened.
        """
        from memindex.index.lookups import sum_over_shards

        return sum_over_shards(self.shards, _core.Shard.count, self._batch(queries))

    def count_with_prefix(self, queries: Queries, tokens: int) -> npt.NDArray[np.uint64]:
        """Occurrences of the first `tokens` tokens of every query, and of the whole query; errors as `count`.

        One search for both: a query can only stand where its prefix does. A shorter query is its own prefix.

        Returns:
            uint64 of shape (queries, 2): the prefix's count, the query's.
        """
        from functools import partial

        from memindex.index.lookups import at_least_one, sum_over_shards

        batch = self._batch(queries)
        # No query is longer than all of them; a number that the core can't multiply would end in a panic.
        tokens = min(at_least_one("tokens", tokens), max(len(batch.values), 1))
        lookup = partial(_core.Shard.count_with_prefix, tokens=tokens)
        return sum_over_shards(self.shards, lookup, batch).reshape(batch.rows, 2)

    def count_by_domain(self, queries: Queries) -> npt.NDArray[np.uint64]:
        """Occurrences of every query in each domain, exact at any frequency; errors as `count`.

        Returns:
            uint64 of shape (queries, domains); rows sum to `count`.
        """
        from memindex.index.lookups import sum_over_shards

        batch = self._batch(queries)
        return sum_over_shards(self.shards, _core.Shard.count_by_domain, batch).reshape(batch.rows, len(self.domains))

    def find(self, queries: Queries) -> Matches:
        """Ranks of the suffixes that start with every query, in each shard's suffix array; errors as `count`."""
        from memindex.index.lookups import find

        return find(self.shards, self._batch(queries))

    def positions(self, queries: Queries, limit: int | None = 10, *, seed: int | None = None) -> Occurrences:
        """Where every query stands: at most `limit` of its occurrences (None: all), evenly spaced in suffix order.

        Suffix order is that of the tokens that follow, so the occurrences taken show different continuations. With a
        `seed` the spacing starts at a random place, and every occurrence is equally likely to be taken. Errors as
        `count`.
        """
        from memindex.index.lookups import find, occurrences

        return occurrences(self.shards, find(self.shards, self._batch(queries)), limit, seed)

    def documents(
        self,
        queries: Queries,
        limit: int | None = 10,
        *,
        max_tokens: int = 1000,
        text: bool = True,
        seed: int | None = None,
    ) -> pa.Table:
        """The documents around occurrences of every query, chosen as `positions` does; errors as `count`.

        Args:
            queries: The queries.
            limit: Occurrences per query at most.
            max_tokens: Tokens of a document at most; the match stands in the middle of the excerpt.
            text: Whether to decode the excerpts.
            seed: See `positions`.

        Returns:
            One row per occurrence, with the columns of `memindex.index.excerpts.SCHEMA`: the document, the tokens and
            the text of an excerpt, where the match starts, and the document's domain, path, line and metadata.
        """
        from memindex.index.excerpts import documents_around
        from memindex.index.lookups import find, occurrences

        batch = self._batch(queries)
        found = occurrences(self.shards, find(self.shards, batch), limit, seed)
        return documents_around(self, found, batch.lengths(), max_tokens, text)

    def longest_match(self, queries: Queries) -> LongestMatches:
        """For every token of every query, the longest match that starts there, and its count (matching statistics).

        A match ends at the end of its query and never crosses the end of a document. Errors as `count`.
        """
        from memindex.index.lookups import longest_match

        return longest_match(self.shards, self._batch(queries))

    def spans(self, queries: Queries, *, min_tokens: int = 1, max_count: int | None = None) -> Spans:
        """The maximal spans of every query that stand in the corpus word for word, of at least `min_tokens` tokens.

        A span is maximal when no longer span of the query that holds it occurs. `max_count` leaves out what occurs more
        often. Errors as `count`.
        """
        from memindex.index.lookups import spans

        return spans(self.longest_match(queries), min_tokens, max_count)

    def next_tokens(self, queries: Queries, *, by_domain: bool = False) -> NextTokens:
        """Every token that follows every query, with its exact count; with `by_domain` also in each domain.

        Errors as `count`.
        """
        from memindex.index.lookups import next_tokens

        if by_domain and not self.domains:
            raise QueryError(f"{self.path} has no domain column: ask without by_domain")
        return next_tokens(self.shards, self._batch(queries), len(self.domains) if by_domain else 0)

    def document_count(self, queries: Queries, *, cap: int = 1_000_000) -> DocumentCounts:
        """In how many documents every query stands: exact for up to `cap` occurrences in each shard, else bounds.

        Of a query with more, `cap` occurrences are looked at: it stands in at least as many documents as those, and in
        at most one more for every occurrence that was not looked at. Errors as `count`.
        """
        from memindex.index.lookups import document_count

        return document_count(self.shards, self._batch(queries), cap)

    def count_cnf(
        self,
        clauses: Clauses,
        *,
        max_distance: int = 100,
        max_matches: int = 10_000_000,
        engine: Engine = "memindex",
    ) -> CnfCount:
        """Count where n-grams of several clauses stand near each other in one document: AND of clauses, each an OR.

        What is counted are places where an n-gram of the rarest clause starts and all other clauses have one nearby:
        the meaning of infini-gram's count_cnf (see `memindex.index.cooccurrence`), without its errors.

        Args:
            clauses: A text with ` AND ` and ` OR ` (OR binds tighter), or a list of clauses: each a text, ids, or a
                list of either.
            max_distance: Tokens between the starts of neighbouring matches at most.
            max_matches: Places of the rarest clause to look at, in all shards together; when it has more, the answer is
                a bound. A million take about 0.4 s and 70 MB.
            engine: `infini-gram` asks the package of that name, whose answers may be bounds.

        Returns:
            The count, as two equal bounds when it is exact.

        Raises:
            QueryError: A clause or an n-gram is empty, an id or an argument is out of range, or the package would
                answer something else.
            CorruptIndexError: A file was damaged or changed since it was opened.
            MissingExtraError: The package infini-gram is asked for and not installed.
        """
        from memindex.index.cooccurrence import check_numbers, count_cnf, find_clauses

        check_numbers(max_distance=max_distance, max_matches=max_matches)
        package = _known(engine) == "infini-gram"
        found = find_clauses(self, clauses)
        if package:
            return self.infini_gram.count_cnf(found, max_distance)
        return count_cnf(self, found, max_distance, max_matches)

    def find_cnf(
        self,
        clauses: Clauses,
        *,
        max_distance: int = 100,
        max_matches: int = 10_000_000,
        limit: int | None = None,
    ) -> CnfMatches:
        """Places of what `count_cnf` counts, the first `limit` of them by shard and position; arguments as there."""
        from memindex.index.cooccurrence import check_numbers, find_clauses, find_cnf

        check_numbers(max_distance=max_distance, max_matches=max_matches, limit=1 if limit is None else limit)
        return find_cnf(self, find_clauses(self, clauses), max_distance, max_matches, limit)

    def prob(self, prompts: Queries, tokens: Any, *, engine: Engine = "memindex") -> Probabilities:
        """The n-gram probability of a token after each prompt: its count there, by the prompt's count.

        Args:
            prompts: Contexts; an empty one stands before every token.
            tokens: Ids, integers of shape (prompts,), or one for all.
            engine: `infini-gram` asks the package of that name, one prompt at a time.

        Returns:
            Counts and probabilities of shape (prompts,); NaN where the prompt never occurs.

        Raises:
            QueryError: An id is out of range, or the shapes do not fit.
            CorruptIndexError: A file was damaged or changed since it was opened.
            MissingExtraError: The package infini-gram is asked for and not installed.
        """
        from memindex.index.probability import as_prompts, token_probabilities

        batch = as_prompts(self, prompts)
        return token_probabilities(self, batch, tokens, back_off=False, engine=_known(engine))

    def infinigram_prob(self, prompts: Queries, tokens: Any, *, engine: Engine = "memindex") -> Probabilities:
        """The infinite-gram probability of a token after each prompt (Liu et al. 2024, arXiv 2401.17377).

        The context is the longest suffix of the prompt that occurs in the corpus, possibly the empty one; arguments,
        answer and errors are those of `prob`.
        """
        from memindex.index.probability import as_prompts, token_probabilities

        batch = as_prompts(self, prompts)
        return token_probabilities(self, batch, tokens, back_off=True, engine=_known(engine))

    def infinigram_next_tokens(self, prompts: Queries) -> InfinigramNextTokens:
        """All tokens that follow the longest suffix of each prompt that occurs in the corpus, with exact counts.

        Returns:
            What `next_tokens` says of these suffixes, and their lengths; of the empty one all tokens of the corpus.

        Raises:
            QueryError: An id is out of range, or the batch is none.
            CorruptIndexError: A file was damaged or changed since it was opened.
        """
        from memindex.index.probability import as_prompts, next_tokens

        return next_tokens(self, as_prompts(self, prompts))

    @cached_property
    def infini_gram(self) -> InfiniGramEngine:
        """The infini-gram package's engine on this index, behind checks; opening it reads all pointers once."""
        from memindex.index.infini_gram_engine import InfiniGramEngine

        return InfiniGramEngine(self)

    def _batch(self, queries: Queries) -> Ragged:
        from memindex.index.queries import as_batch

        return as_batch(queries, self._tokenize)

    def tokens_of_shard(self, shard: int) -> npt.NDArray[Any]:
        """The ids of a shard, separators (all ones) included, mapped from disk: uint8, uint16 or uint32."""
        import numpy as np

        file = self.file(f"tokenized.{shard}")
        kind = np.dtype(f"<u{self.manifest.token_width}")
        size = len(self.shards[shard]) * kind.itemsize
        if file.stat().st_size != size:
            raise CorruptIndexError(f"{file}: the file changed: it had {size} bytes at open")
        return np.memmap(file, dtype=kind, mode="r") if size else np.empty(0, dtype=kind)

    def document_starts(self, shard: int) -> npt.NDArray[np.int64]:
        """Token position of each document's separator in a shard, int64, ascending."""
        import numpy as np

        offsets = np.fromfile(self.file(f"offset.{shard}"), dtype="<u8")
        return (offsets // self.manifest.token_width).astype(np.int64)

    def documents_before(self) -> npt.NDArray[np.int64]:
        """Documents in the shards before each one, and at the end in all of them; int64 of shape (shards + 1,)."""
        import numpy as np

        files = [self.file(f"offset.{shard}") for shard in range(self.manifest.shards)]
        return np.cumsum([0, *(file.stat().st_size // 8 for file in files)], dtype=np.int64)

    def verify(self, progress: Callable[[str], None] | None = None) -> None:
        """Read every file and prove it undamaged: checksums, then all that the tokens determine.

        The second part serves indexes without checksums too. It needs 4 bytes of memory per token of the largest shard.

        Raises:
            CorruptIndexError: Naming the file, the bytes of the first damaged block of 64 KiB, and the first wrong
                entry where the tokens tell.
            ReplacedIndexError: Another version took the index's place since it was opened.
            CorpusError: A shard has 2^32 tokens or more: too many for the second part.
        """
        from memindex.index import verifying

        try:
            verifying.verify(self.path, self.manifest, self.shards, progress)
        except (MemindexError, OSError):
            if identity_of(self.path) != self._folder:
                # What was read was of two versions.
                raise ReplacedIndexError(self.path) from None
            raise


def _open_files(directory: Path) -> tuple[Manifest, list[_core.Shard]]:
    """The manifest of an index and its shards, checked against each other."""
    manifest = _manifest_of(directory)
    check_files(directory, manifest)
    data, columns = manifest.folder_of_data(directory), len(manifest.domains)
    shards = []
    for shard in range(manifest.shards):
        domains, block = manifest.domains_of_shard(shard)
        keys = f"keys.{shard}" in manifest.files
        shards.append(_core.Shard(data, shard, manifest.token_width, domains, block, keys, directory, columns))
    check_shards(directory, manifest, shards)
    return manifest, shards


def _manifest_of(directory: Path) -> Manifest:
    """The manifest in a directory, or one made up for a folder of infini-gram files that has none."""
    if not os.path.lexists(directory / FILE):
        _refuse_lost_manifest(directory)
        from memindex.index.layout import plain_manifest, read_layout

        layout = read_layout(directory)
        if layout is not None:
            return plain_manifest(directory, layout)
    return Manifest.read(directory)


def _refuse_lost_manifest(directory: Path) -> None:
    """An index whose manifest is missing would open as a folder of infini-gram files, without domains and checksums."""
    from memindex.work.folders import INSIDE

    if (directory / DOCUMENTS_FILE).exists() and not (directory / INSIDE).exists():
        raise CorruptIndexError(
            f"{directory / FILE}: missing, beside {DOCUMENTS_FILE}: take it from a copy of the index, "
            "or give infini-gram's files a folder of their own"
        )
