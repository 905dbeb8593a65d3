"""The forms of an answer's rows, and which one a request asks for."""

from __future__ import annotations

from memindex.server.accept import preferred

#: Form -> what HTTP calls it.
MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
}
_FORMS = {kind: form for form, kind in MEDIA_TYPES.items()}


def form_of(accept: str) -> str:
    """The form that an Accept header prefers; JSON where it prefers none."""
    return _FORMS[preferred(accept, tuple(_FORMS))]
