"""The OpenAPI is valid, and what it promises is kept for requests that a machine makes up from it."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

from served_index import Asker, build

from memindex.index import Index
from memindex.server import models


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    return build(tmp_path_factory.mktemp("world"))


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere(index):
    schema = Asker(index.path)("GET", "/openapi.json").json()
    schemas = schema["components"]["schemas"]
    for reference in references(schema):
        assert reference.removeprefix("#/components/schemas/") in schemas
    for model in models.REQUESTS:
        assert f"#/components/schemas/{model.__name__}" in references(schema["paths"])
    assert {"/", "/health", "/metrics", "/v1/indexes", "/{index}/attribution"} <= set(schema["paths"])
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (path, method)
            if method == "post":
                assert operation["requestBody"]["content"]


def test_requests_made_up_from_the_openapi(index):
    schemathesis = pytest.importorskip("schemathesis", reason="made-up requests need schemathesis")
    ask = Asker(index.path)
    schema = ask("GET", "/openapi.json").json()
    # Streams of Arrow are no text that could be made up; damaged ones have a test of their own.
    del schema["paths"]["/v1/indexes/{index}/count.arrow"]
    names = {"in": "path", "name": "index", "required": True, "schema": {"enum": ["served", "other"]}}
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            operation["parameters"] = [names] if "{index}" in path else []
    for result in schemathesis.openapi.from_dict(schema).get_all_operations():
        keep_promises(ask, result.ok())


def keep_promises(ask: Asker, operation) -> None:
    """Every answer has a status that the OpenAPI names, and none is an error that nobody expected."""
    from hypothesis import HealthCheck, Phase, given, settings

    how = {"deadline": None, "derandomize": True, "database": None, "phases": [Phase.generate]}
    promised = {int(status) for status in operation.definition.raw["responses"]}

    @settings(max_examples=12, suppress_health_check=list(HealthCheck), **how)
    @given(case=operation.as_strategy())
    def check(case):
        body = json.dumps(case.body).encode() if operation.method == "post" and _is_json(case.body) else None
        answer = ask(case.method, case.formatted_path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in promised, (case.path, answer.text)
        # infini-gram's API tells an unknown argument with 500, and so must ours.
        assert answer.status_code != 500 or "[Flask] Internal server error: Processor." in answer.text, answer.text

    check()


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def test_answers_of_models_are_what_fastapi_would_check(index):
    ask = Asker(index.path)
    schema = ask("GET", "/openapi.json").json()
    answer = schema["paths"]["/v1/indexes/{index}/trace"]["post"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/TraceAnswer"}
