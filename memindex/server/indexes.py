"""The open indexes of a server, by name; one whose files were replaced by a revision is opened anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from memindex.errors import MemindexError, QueryError
from memindex.index.index import Index
from memindex.index.names import identity_of
from memindex.ragged import Ragged, from_arrow, from_lists
from memindex.server.batching import Batcher
from memindex.server.config import Limits, by_name
from memindex.server.infini_gram_tokens import InfiniGramTokens
from memindex.server.log import log
from memindex.server.problems import ProblemError, too_much

#: Up to so many texts are tokenized one by one: a batch starts with a millisecond of its own.
FEW_TEXTS = 32

#: Characters per token above which a text is refused before it is tokenized.
MOST_PER_TOKEN = 64

#: Seconds between two looks at whether an index was revised.
LOOK_AGAIN = 1.0


class Served:
    """One open index: its ids, its texts, its counts in batches, and its errors without paths."""

    def __init__(self, name: str, index: Index, limits: Limits, asked: Callable[[str, int], None]) -> None:
        self.name = name
        self.index = index
        self._identity = identity_of(index.path)
        self.limits = limits
        self.batcher = Batcher(index, lambda queries: asked(name, queries))
        manifest = index.manifest
        #: The largest id that documents may hold: the all-ones separator is none, though vocabularies count to it.
        self.largest_id = min(manifest.vocabulary, (1 << 8 * manifest.token_width) - 1) - 1
        #: How infini-gram's server would tokenize here.
        self.infini_gram = InfiniGramTokens(index)
        self._paths = sorted({str(index.path), str(index.data), str(index.data.resolve())}, key=len, reverse=True)

    def tokens(self, query: str | Sequence[int]) -> list[int]:
        """Ids of one query; raises ProblemError where it is too long, QueryError where it has no answer."""
        if isinstance(query, str):
            self._check_texts()
            self.check_characters(len(query))
            ids = self.index.tokenizer.encode_query(query)
        else:
            ids = list(query)
            if ids and not 0 <= min(ids) <= max(ids) <= self.largest_id:
                raise QueryError(f"a token id is out of range: the ids of this index run from 0 to {self.largest_id}")
        if not ids:
            raise QueryError("an empty query has no answer: give at least one token")
        self._check_length(len(ids))
        return ids

    def batch(self, queries: Sequence[str] | Sequence[Sequence[int]]) -> Ragged:
        """Ids of many queries; errors as `tokens`."""
        texts = [query for query in queries if isinstance(query, str)]
        if not texts or len(queries) <= FEW_TEXTS:
            return from_lists([self.tokens(query) for query in queries])
        self._check_texts()
        self.check_characters(max(map(len, texts)))
        return self.checked(self.index.tokenize(texts))

    def column_batch(self, column: pa.Array) -> Ragged:
        """Ids of an Arrow array of texts, or of lists of ids; errors as `tokens`."""
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            return self.checked(from_arrow(column))
        self._check_texts()
        self.check_characters(pc.max(pc.binary_length(column)).as_py() or 0)
        tokenizer = self.index.tokenizer
        return self.checked(tokenizer.as_queries(tokenizer.encode_batch(column.cast(pa.large_binary()))))

    def checked(self, batch: Ragged) -> Ragged:
        """The batch, when it can be asked; errors as `tokens`."""
        lengths = batch.lengths()
        if batch.rows and not lengths.all():
            raise QueryError(f"query {int(lengths.argmin())} is empty: give at least one token")
        if batch.rows:
            self._check_length(int(lengths.max()))
        if len(batch.values) and int(batch.values.max()) > self.largest_id:
            raise QueryError(f"a token id is out of range: the ids of this index run from 0 to {self.largest_id}")
        return batch

    def check_characters(self, characters: int) -> None:
        """Raise ProblemError where a text is too long to be tokenized: no text has so many characters per token."""
        if characters > MOST_PER_TOKEN * self.limits.max_query_tokens:
            raise too_much(f"a text of {characters:,} is too long", self.limits.max_query_tokens, "max_query_tokens")

    def check_domains(self) -> None:
        """Raise QueryError where there are no domains to count by."""
        if not self.index.domains:
            raise QueryError(f"{self.name} has no domains: ask without by_domain")

    def is_replaced(self) -> bool:
        """Whether another version of the index took its place, or nothing did, since it was opened."""
        return identity_of(self.index.path) != self._identity

    def clean(self, error: Exception) -> str:
        """What an error says, in one line and without the directories of this machine."""
        message = " ".join(str(error).split())
        for path in self._paths:
            message = message.replace(path, self.name)
        return message

    def _check_texts(self) -> None:
        if not self.index.has_tokenizer:
            raise QueryError(f"{self.name} has no tokenizer: ask with token ids")

    def _check_length(self, tokens: int) -> None:
        most = self.limits.max_query_tokens
        if tokens > most:
            raise too_much(f"a query of {tokens:,} tokens is too long", most, "max_query_tokens")


class Indexes:
    """The indexes of a server."""

    def __init__(
        self, paths: Iterable[Path], limits: Limits, asked: Callable[[str, int], None] = lambda name, queries: None
    ) -> None:
        """Open all indexes and load their tokenizers; errors as `Index.open` and `by_name`."""
        self._limits, self._asked = limits, asked
        self._paths = by_name("indexes", list(paths))
        self._identities = {name: identity_of(path.resolve()) for name, path in self._paths.items()}
        self._served = {name: self._open(name) for name in self._paths}
        self._looked = time.monotonic()
        self._opening = threading.Lock()

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def names(self) -> list[str]:
        """Names, in the order in which the indexes were given."""
        return list(self._served)

    def find(self, name: str) -> Served | None:
        """The index of that name, if there is one."""
        if time.monotonic() - self._looked > LOOK_AGAIN:
            self._looked = time.monotonic()
            threading.Thread(target=self._reopen, name="memindex-reopen", daemon=True).start()
        return self._served.get(name)

    def get(self, name: str) -> Served:
        """The index of that name; raises ProblemError 404."""
        served = self.find(name)
        if served is None:
            raise ProblemError(404, f"no index {name[:80]!r} here: GET /v1/indexes lists them")
        return served

    def close(self) -> None:
        """Ask no more."""
        for served in self:
            served.batcher.close()

    def drop(self) -> None:
        """Let go of the files; no index is found any more."""
        self._served = {}

    def _open(self, name: str) -> Served:
        index = Index.open(self._paths[name])
        if index.has_tokenizer:
            # Loaded now, or the first request would wait a second for it.
            index.tokenizer.encode("a")
            index.tokenize(["a"])
        return Served(name, index, self._limits, self._asked)

    def _reopen(self) -> None:
        """Open those indexes anew that were revised; requests under way end on the files they began with."""
        if not self._opening.acquire(blocking=False):
            return
        try:
            for name, path in self._paths.items():
                identity = identity_of(path.resolve())
                if identity is None or identity == self._identities[name]:
                    continue
                try:
                    self._served[name] = self._open(name)
                    self._identities[name] = identity
                except (MemindexError, OSError) as error:
                    log(f"{name} was replaced, but does not open: {error}")
        finally:
            self._opening.release()
