"""The OpenAPI is valid, and what it promises is kept for requests that a machine makes up from it."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

from served_index import Asker, build

from memindex.index import Index
from memindex.server import models
from memindex.server.arrow import ARROW_STREAM


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
    schemathesis.openapi.media_type(ARROW_STREAM, arrow_streams())
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
    responses = operation.definition.raw["responses"]
    promised = {
        int(status): [kind.partition(";")[0] for kind in r.get("content", {})] for status, r in responses.items()
    }
    statuses: set[int] = set()

    @settings(max_examples=12, suppress_health_check=list(HealthCheck), **how)
    @given(case=operation.as_strategy())
    def check(case):
        kind = ARROW_STREAM if isinstance(case.body, bytes) else "application/json"
        body = case.body if isinstance(case.body, bytes) else _as_json(case.body)
        answer = ask(case.method, case.formatted_path, content=body, headers={"Content-Type": kind})
        assert answer.status_code in promised, (case.path, answer.text)
        told = promised[answer.status_code]
        assert not told or answer.headers["content-type"].partition(";")[0] in told, (case.path, answer.headers)
        statuses.add(answer.status_code)
        # infini-gram's API tells an unknown argument with 500, and so must ours.
        assert answer.status_code != 500 or "[Flask] Internal server error: Processor." in answer.text, answer.text

    check()
    # What reads streams must have read some.
    assert 200 in statuses or not operation.path.endswith("count.arrow")


def arrow_streams():
    """Streams of a column of queries, good and bad, or of two; some are cut off."""
    from hypothesis import strategies as st

    columns = st.one_of(
        st.lists(st.text(max_size=9)).map(pa.array),
        st.lists(st.lists(st.integers(0, 399), min_size=1, max_size=5), min_size=1).map(pa.array),
        st.lists(st.lists(st.integers(-1, 1 << 40), max_size=3)).map(lambda rows: pa.array(rows, pa.list_(pa.int64()))),
        st.lists(st.none() | st.floats()).map(pa.array),
    )
    streams = st.lists(columns, min_size=1, max_size=2).map(arrow_stream)
    return streams | st.tuples(streams, st.integers(0, 300)).map(lambda cut: cut[0][: cut[1]])


def arrow_stream(columns: list[pa.Array]) -> bytes:
    sink = pa.BufferOutputStream()
    rows = min(map(len, columns))
    table = pa.table([column[:rows] for column in columns], names=[f"c{place}" for place in range(len(columns))])
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _as_json(value: object) -> bytes | None:
    """A body as JSON; None where the operation has none."""
    try:
        return json.dumps(value).encode()
    except TypeError:
        return None


def test_answers_of_models_are_what_fastapi_would_check(index):
    ask = Asker(index.path)
    schema = ask("GET", "/openapi.json").json()
    answer = schema["paths"]["/v1/indexes/{index}/trace"]["post"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/TraceAnswer"}
