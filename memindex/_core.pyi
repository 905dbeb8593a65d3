"""Types of the compiled core; see core/src/python.rs."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
import numpy.typing as npt

_Strings = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
_Path = str | PathLike[str]

class Shard:
    """One open shard. Every lookup checks that the files still have the sizes they had at open."""

    def __init__(
        self,
        directory: _Path,
        shard: int,
        token_width: int,
        domains: int = 0,
        domain_block: int = 1,
        keys: bool = False,
        sidecars: _Path | None = None,
        columns: int = 0,
    ) -> None: ...
    def __len__(self) -> int: ...
    def count(self, values: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]: ...
    def count_with_prefix(
        self, values: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64], tokens: int
    ) -> npt.NDArray[np.uint64]: ...
    def count_by_domain(
        self, values: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.uint64]: ...
    def find(self, values: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]: ...
    def positions(self, ranks: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]: ...
    def count_ranges(self, starts: npt.NDArray[np.uint64], ends: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]: ...
    def longest_match(
        self, values: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64]]: ...
    def next_tokens(
        self, starts: npt.NDArray[np.uint64], ends: npt.NDArray[np.uint64], tokens: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32], npt.NDArray[np.uint64], npt.NDArray[np.uint64]]: ...
    def locate(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
    def metadata(self, documents: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]: ...
    def tokens(
        self, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]: ...
    def count_documents(
        self, starts: npt.NDArray[np.uint64], ends: npt.NDArray[np.uint64], most: int
    ) -> npt.NDArray[np.uint64]: ...
    def count_one(self, query: Sequence[int]) -> int: ...
    def count_by_domain_one(self, query: Sequence[int]) -> list[int]: ...
    def domains_at(self, ranks: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def check(self) -> None: ...
    def probe(self) -> None: ...
    def domain_totals(self) -> list[int]: ...
    def verify_documents(self) -> None: ...
    def verify_suffixes(self, domain_of_document: bytes | None = None) -> None: ...
    def verify_order(self) -> None: ...

class DocumentWriter:
    """Appends documents to `tokenized.S` and `offset.S` of `shards` shards, dealt in turn."""

    def __init__(self, directory: _Path, shards: int, token_width: int) -> None: ...
    def append(self, values: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
    def close(self) -> None: ...

class RecordDealer:
    """Appends records to files: `targets` are (data, offsets) of each; offsets are u64, where records start."""

    def __init__(self, targets: Sequence[tuple[_Path, _Path]]) -> None: ...
    def deal(self, data: _Path, offsets: _Path, targets: npt.NDArray[np.int32]) -> None:
        """Append each record of `data` to the target of its number; those of number -1 are left out."""

    def close(self) -> None: ...

def watch_reads() -> None:
    """Let index files that shrink while they are read be errors again, after a library took SIGBUS over."""

def exchange(one: _Path, other: _Path) -> None:
    """Give two folders of one file system each other's name in one step; OSError where the system can't."""

def sort_shard(
    directory: _Path,
    shard: int,
    token_width: int,
    domain_of_document: bytes | None = None,
    domains: int = 0,
    domain_block: int = 1,
    key_stride: int = 8,
) -> tuple[int, float, float]: ...
def write_sidecars(
    directory: _Path,
    out: _Path,
    shard: int,
    token_width: int,
    largest: int,
    domain_of_document: bytes | None = None,
    domains: int = 0,
    domain_block: int = 1,
) -> None: ...
def parse_metadata(
    block: bytes, label_path: str
) -> tuple[_Strings, _Strings, npt.NDArray[np.uint8], _Strings, npt.NDArray[np.int64]]: ...

#: Bytes of a block of `block_checksums`.
BLOCK: int

def block_checksums(path: _Path) -> tuple[str, bytes]: ...
def checksum(path: _Path) -> str: ...
def checksum_bytes(bytes: bytes) -> str: ...
def parse_jsonl(
    block: bytes,
    text_field: str,
    domain_field: str | None = None,
    first_line: int = 1,
    tokenized: bool | None = None,
) -> tuple[
    _Strings,
    tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]],
    bool | None,
    _Strings,
    _Strings,
    npt.NDArray[np.int64],
    list[tuple[int, str]],
]: ...
def sample_windows(
    shards: Sequence[Shard], length: int, per_bucket: int, seed: int
) -> tuple[
    tuple[npt.NDArray[np.int32], npt.NDArray[np.uint64], npt.NDArray[np.int32], npt.NDArray[np.int64]],
    list[tuple[int, int, int]],
]: ...

#: Numbers of a domain that `repeated_windows` gives: tokens under windows that occur elsewhere in each of the domains
#: from `first_domain` on, then anywhere, then in another domain.
WINDOW_NUMBERS: int

def documents_of_shard(shard: Shard) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]]: ...
def document_checksums(shard: Shard, bounds: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]: ...
def weigh_documents(
    shard: Shard, bounds: npt.NDArray[np.int64], weights: npt.NDArray[np.uint32]
) -> npt.NDArray[np.uint64]: ...
def frequent_ngrams(
    shards: Sequence[Shard], longest: int, most: int
) -> list[tuple[int, int, npt.NDArray[np.uint64], npt.NDArray[np.uint32]]]: ...
def repeated_windows(
    shards: Sequence[Shard],
    bounds: Sequence[npt.NDArray[np.int64]],
    domain_of_document: Sequence[npt.NDArray[np.uint16]],
    lengths: Sequence[int],
    domains: int,
    first_domain: int,
) -> npt.NDArray[np.uint64]: ...
