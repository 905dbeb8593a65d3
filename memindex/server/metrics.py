"""What a server has done, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

TEXT = "text/plain; version=0.0.4; charset=utf-8"

#: Seconds, from a lookup in memory to the longest that is allowed by default.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one application; a process may hold several."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._known: dict[tuple[Any, ...], Any] = {}
        registry = self._registry
        self._requests = Counter(
            "memindex_requests", "Answered requests.", ("route", "method", "status"), registry=registry
        )
        self._seconds = Histogram(
            "memindex_request_seconds", "Time to the answer.", ("route",), registry=registry, buckets=SECONDS
        )
        self._queries = Counter("memindex_queries", "Queries asked of an index.", ("index", "kind"), registry=registry)
        self._batches = Histogram(
            "memindex_count_batch_queries",
            "Counts of several requests that shared one lookup.",
            registry=registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
        )
        self._waiting = Gauge("memindex_queue_length", "Requests that wait for a thread.", registry=registry)
        self._held = Gauge("memindex_body_bytes", "Bytes of bodies that are held.", registry=registry)

    def watch(self, waiting: Callable[[], float], held: Callable[[], float]) -> None:
        """Where the gauges are read."""
        self._waiting.set_function(waiting)
        self._held.set_function(held)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._of((self._requests, route, method, str(status))).inc()
        self._of((self._seconds, route)).observe(seconds)

    def asked(self, index: str, kind: str, queries: int) -> None:
        """Queries were asked of an index."""
        self._of((self._queries, index, kind)).inc(queries)

    def _of(self, key: tuple[Any, ...]) -> Any:
        """The counter of these labels; looking it up in the library takes ten times as long."""
        found = self._known.get(key)
        if found is None:
            metric, *labels = key
            found = self._known[key] = metric.labels(*labels)
        return found

    def counted(self, index: str, queries: int) -> None:
        """One lookup of counts that several requests may have shared."""
        self._batches.observe(queries)
        self.asked(index, "count", queries)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
