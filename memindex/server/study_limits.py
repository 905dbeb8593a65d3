"""How much one request on a study may take."""

from __future__ import annotations

from dataclasses import dataclass

from memindex.server.config import Limits


@dataclass(frozen=True)
class StudyLimits:
    """Bounds of requests on studies.

    Attributes:
        seconds: Time of one request; then its query is stopped (408).
        rows: Rows of one answer; more are cut off, and the answer says so.
        bytes: Bytes of one answer (413).
        memory: Bytes that DuckDB may use for one query; the whole process gets that and `beside` (413).
        beside: Bytes for everything else in the process: Python, Arrow, tokenizers, long texts.
        threads: Threads of one query.
        workers: Queries of one kind (`memindex.server.places`) that run on one study at the same time.
        waiting: Seconds that a request waits for one of them to end (503).
    """

    seconds: float = 10.0
    rows: int = 10_000
    bytes: int = 16 << 20
    memory: int = 1 << 30
    beside: int = 1 << 30
    threads: int = 2
    workers: int = 2
    waiting: float = 10.0

    @classmethod
    def of(cls, limits: Limits) -> StudyLimits:
        """Those that a server was given."""
        return cls(
            seconds=limits.max_sql_seconds,
            rows=limits.max_sql_rows,
            memory=limits.max_sql_memory_mb * 1_000_000,
            threads=limits.max_sql_threads,
        )
