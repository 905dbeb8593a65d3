"""The forms of an answer's rows, and which one a request asks for."""

from __future__ import annotations

#: Form -> what HTTP calls it.
MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
}


def form_of(accept: str) -> str:
    """The first form that an Accept header names; JSON where it names none."""
    wanted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    known = {kind.partition(";")[0]: form for form, kind in MEDIA_TYPES.items()}
    return next((known[kind] for kind in wanted if kind in known), "json")
