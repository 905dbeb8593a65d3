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
    ) -> None: ...
    def __len__(self) -> int: ...
    def count(self, values: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]: ...
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
    def verify_order(self) -> None: ...

class DocumentWriter:
    """Appends documents to `tokenized.S` and `offset.S` of `shards` shards, dealt in turn."""

    def __init__(self, directory: _Path, shards: int, token_width: int) -> None: ...
    def append(self, values: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
    def close(self) -> None: ...

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
def checksum(path: _Path) -> str: ...
def parse_jsonl(
    block: bytes, text_field: str, domain_field: str | None = None, first_line: int = 1
) -> tuple[_Strings, _Strings, _Strings, npt.NDArray[np.int64], list[tuple[int, str]]]: ...
def sample_windows(
    shards: Sequence[Shard], length: int, per_bucket: int, seed: int
) -> tuple[
    tuple[npt.NDArray[np.int32], npt.NDArray[np.uint64], npt.NDArray[np.int32], npt.NDArray[np.int64]],
    list[tuple[int, int, int]],
]: ...
