"""The OpenAPI of the application, with the bodies that its routes read themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from memindex import __version__
from memindex.server import models
from memindex.server.olmotrace_models import AttributionRequest
from memindex.server.problems import ProblemAnswer
from memindex.server.study_models import SqlRequest

ABOUT = """\
Lookups in indexes of pretraining corpora. Texts are tokenized with the index's own tokenizer, without special tokens;
the ids that were asked for are always told. `POST /` answers as infini-gram's API does."""

#: How a request carries a key, where the server asks for one.
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def described(app: FastAPI, keys: bool) -> dict[str, Any]:
    """The document at /openapi.json; `keys`: whether requests need a key."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(title=app.title, version=__version__, description=ABOUT, routes=app.routes)
    asked = [(model, "validation") for model in (*models.REQUESTS, SqlRequest, AttributionRequest, ProblemAnswer)]
    _, found = models_json_schema(asked, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    components = schema.setdefault("components", {})
    components["schemas"] = dict(sorted((components.get("schemas", {}) | found["$defs"]).items()))
    if keys:
        components["securitySchemes"] = SCHEMES
        schema["security"] = [{name: []} for name in SCHEMES]
    app.openapi_schema = schema
    return schema
