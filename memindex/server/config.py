"""What a server serves and how much of it one request may take. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memindex.errors import MemindexError


@dataclass(frozen=True)
class Limits:
    """How much one request may take, and all of them together; each is an option of `memindex serve`.

    Attributes:
        max_queries: Queries in a request.
        max_query_tokens: Tokens of one query or text.
        max_rows: Rows of one kind in an answer: documents, next tokens, spans, pointers.
        max_numbers: Counts by domain in an answer, and tokens of all excerpts in one.
        max_matches: Places of the rarest clause that an AND looks at; where it has more, the answer is a bound.
        max_body_bytes: Bytes of a request's body.
        max_json_bytes: Bytes of a JSON body, but of those that count or match many queries.
        max_buffered_bytes: Bytes of all bodies that are held at a time.
        max_seconds: Time until a request is answered, and before that until its body is there.
        max_head_seconds: Time until a request's line and headers are there, from the connection or the answer before.
        max_stop_seconds: Time that requests under way have when the server is stopped; then they are answered 503.
        max_waiting: Requests that wait for their turn; with more, new ones are refused.
        max_concurrent: Requests worked on at a time, counts of few n-grams not included: those share batches.
        max_sql_memory_mb: Memory of one SQL query, in MB (10^6 bytes).
        max_sql_threads: Threads of one SQL query.
        max_sql_rows: Rows that an SQL query answers.
        max_sql_seconds: Time until an SQL query is stopped.
    """

    max_queries: int = 1_000_000
    max_query_tokens: int = 10_000
    max_rows: int = 10_000
    max_numbers: int = 4_000_000
    max_matches: int = 1_000_000
    max_body_bytes: int = 16 << 20
    max_json_bytes: int = 1 << 20
    max_buffered_bytes: int = 128 << 20
    max_seconds: float = 30.0
    max_head_seconds: float = 30.0
    max_stop_seconds: float = 10.0
    max_waiting: int = 1000
    max_concurrent: int = max(2, os.cpu_count() or 2)
    max_sql_memory_mb: int = 1000
    max_sql_threads: int = 2
    max_sql_rows: int = 10_000
    max_sql_seconds: float = 20.0


#: What each limit means, as the help of its option says it.
ABOUT = {
    "max_queries": "Queries in a request.",
    "max_query_tokens": "Tokens of a query or text.",
    "max_rows": "Documents, spans or next tokens in an answer.",
    "max_numbers": "Counts by domain, or tokens of excerpts, in an answer.",
    "max_matches": "Places of the rarest clause that an AND looks at.",
    "max_body_bytes": "Bytes of a request's body.",
    "max_json_bytes": "Bytes of a JSON body, but of many queries.",
    "max_buffered_bytes": "Bytes of all bodies held at a time.",
    "max_seconds": "Seconds until a request is answered, and for its body.",
    "max_head_seconds": "Seconds for a request's line and headers; an idle connection is closed after them.",
    "max_stop_seconds": "Seconds that requests under way have when the server is stopped.",
    "max_waiting": "Requests that wait for their turn.",
    "max_concurrent": "Requests worked on at a time.",
    "max_sql_memory_mb": "Memory of an SQL query, in MB.",
    "max_sql_threads": "Threads of an SQL query.",
    "max_sql_rows": "Rows that an SQL query answers.",
    "max_sql_seconds": "Seconds until an SQL query is stopped.",
}


@dataclass(frozen=True)
class ServerConfig:
    """What `make_app` makes an application of.

    Attributes:
        indexes: Directories of indexes; each is served under the name of its directory.
        studies: Directories of studies, likewise.
        limits: How much a request may take.
        api_keys: A request must carry one of them; empty: no request needs one.
        cors_origins: Origins whose pages may ask; none by default.
        allowed_hosts: Names that requests may ask under, those of loopback always; empty: any name.
    """

    indexes: tuple[Path, ...] = ()
    studies: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()


def by_name(kind: str, paths: Sequence[Path]) -> dict[str, Path]:
    """Directories by their names, in order.

    Raises:
        MemindexError: Two directories have the same name, so requests could not tell them apart.
    """
    named: dict[str, Path] = {}
    for path in paths:
        name = path.resolve().name
        if name in named:
            raise MemindexError(f"two {kind} are called {name}: rename the directory of one of them")
        named[name] = path
    return named


def read_api_keys(file: Path) -> tuple[str, ...]:
    """The keys in a file, one a line; empty lines and lines from `#` on are none.

    Raises:
        MemindexError: The file holds no key, or one that no header can carry.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise MemindexError(f"{file}: not UTF-8 text") from None
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise MemindexError(f"{file} holds no API key: write one key a line")
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise MemindexError(f"{file}: API keys are printable ASCII without spaces")
    return keys
