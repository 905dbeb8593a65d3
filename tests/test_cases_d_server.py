"""Cases of odd requests: long errors, AI2's client, removed files, Accept and HEAD, the OpenAPI of studies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

import httpx
from served_index import Asker, build
from served_study import make_served
from starlette.testclient import TestClient

from memindex.errors import MemindexError, shortened
from memindex.index import Index
from memindex.server.accept import preferred
from memindex.server.app import make_app
from memindex.server.config import Limits, ServerConfig
from memindex.server.problems import ProblemAnswer, ProblemError
from memindex.server.refusals import RefusalError
from memindex.server.sql_forms import form_of
from memindex.sql.functions import readable
from memindex.sql.statements import ask as ask_sql

SQL = "/v1/studies/reading/sql"
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    make_served(folder)
    return folder


@pytest.fixture(scope="module")
def client(world: Path) -> Iterator[TestClient]:
    with TestClient(served(world)) as client:
        yield client


def served(world: Path, **config: object):
    limits = Limits(max_sql_seconds=30, max_sql_memory_mb=512, max_sql_rows=1000)
    return make_app(ServerConfig((world / "library",), (world / "reading",), limits, **config))  # type: ignore[arg-type]


def problem(answer: httpx.Response, status: int) -> dict:
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text[:500]
    told: dict = answer.json()
    assert told["status"] == status
    return told


# D3


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT error(repeat('x', 40000000))",
        "SELECT repeat('y', 4000000)::INT",
        "SELECT error(repeat(chr(10) || 'z', 1000000))",
        f"SELECT text_count('{'n' * 40000}', 'a')",
        f"SELECT {'c' * 40000}",
    ],
)
def test_d3_errors_of_sql_are_short(client, sql):
    answer = client.post(SQL, json={"sql": sql})
    assert len(problem(answer, 400)["detail"]) < 1100
    assert len(answer.content) < 2500


def test_d3_what_is_cut_says_how_long_it_was(client):
    detail = problem(client.post(SQL, json={"sql": "SELECT error(repeat('é', 5000))"}), 400)["detail"]
    assert detail.count("é") < 1000
    assert detail.endswith("é… (5,021 characters)")


def test_d3_lines_are_cut_between_characters():
    assert shortened("a" * 1000) == "a" * 1000
    assert shortened("😀" * 1001) == "😀" * 1000 + "… (1,001 characters)"
    for error in (RefusalError(400, "b" * 5000), ProblemError(400, "b" * 5000)):
        assert len(str(error)) < 1100
    wrapped = duckdb.InvalidInputException(f"executing the UDF: QueryError: {'u' * 5000}\n\nAt: x")
    assert str(readable(wrapped)).startswith("uuu")
    assert len(str(readable(wrapped))) < 1100


def test_d3_python_and_the_command_line_cut_them_too():
    con = duckdb.connect()
    with pytest.raises(MemindexError) as raised:
        ask_sql(con, "SELECT error(repeat('x', 4000000))")
    assert len(str(raised.value)) < 1100
    assert "(4,000,0" in str(raised.value)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/indexes/served/count", {"queries": ["a"], "k" * 100_000: 1}),
        ("/v1/indexes/served/count", {"queries": ["a"]} | {f"k{i}": i for i in range(5000)}),
        ("/served/attribution", {"response": "a", "spanRankingMethod": "m" * 100_000}),
        ("/", {"index": "served", "query_type": "q" * 100_000, "query": "a"}),
        ("/", {"index": ["i"] * 50_000, "query_type": "count", "query": "a"}),
        ("/", {"index": "served", "query_type": "ntd", "query": "a", "k" * 100_000: 1}),
    ],
)
def test_d3_refusals_of_bodies_are_short(index, path, body):
    answer = Asker(index.path).post(path, body)
    assert answer.status_code >= 400
    assert len(answer.content) < 10_000


# D6: the shapes that AI2's generated client parses.


def attribution(index: Index, limits: Limits | None = None, **fields: object) -> httpx.Response:
    return Asker(index.path, limits=limits).post("/served/attribution", {"response": " the quick brown"} | fields)


@pytest.mark.parametrize(
    ("fields", "places"),
    [
        ({"maximumSpanDensity": 0}, [["body", "maximumSpanDensity"]]),
        ({"response": None}, [["body", "response"]]),
        (
            {"minimumSpanLength": -1, "spanRankingMethod": "x"},
            [["body", "minimumSpanLength"], ["body", "spanRankingMethod"]],
        ),
    ],
)
def test_d6_what_is_wrong_is_listed(index, fields, places):
    told = problem(attribution(index, **fields), 422)
    assert [error["loc"] for error in told["errors"]] == places
    for error in told["errors"]:
        assert isinstance(error["msg"], str)
        assert isinstance(error["type"], str)
    assert {"title", "type", "status", "detail"} <= told.keys()


def test_d6_every_422_lists_what_is_wrong(index, client):
    ask = Asker(index.path)
    answers = [
        ask("POST", "/served/attribution", content=b"{", headers={"Content-Type": "application/json"}),
        ask.post("/v1/indexes/served/count", {}),
        ask.post("/v1/indexes/served/count", {"queries": [["x"] * 20_000]}),
        client.get("/v1/studies/reading/sequences?limit=0"),
        client.get("/v1/studies/reading/sequences?outcome=half"),
        client.get("/v1/studies/reading/questions/rate_by_size?sample=a&sample=b"),
    ]
    for answer in answers:
        errors = problem(answer, 422)["errors"]
        assert errors
        assert all(set(error) == {"loc", "msg", "type"} for error in errors)


def test_d6_a_density_above_one_keeps_all_spans(index):
    every = attribution(index, maximumSpanDensity=1, maximumFrequency=1000).json()["spans"]
    assert every
    for density in (1.5, 40, 1e308):
        assert attribution(index, maximumSpanDensity=density, maximumFrequency=1000).json()["spans"] == every


def test_d6_indexes_and_health(index):
    ask = Asker(index.path, api_keys=("key",))
    health = ask("GET", "/health/")
    assert (health.status_code, health.content) == (204, b"")
    assert ask("GET", "/indexes").status_code == 401
    assert ask("GET", "/indexes", headers={"X-API-Key": "key"}).json() == ["served"]
    ask.app.state.service.workers.closing = True
    assert ask("GET", "/health/").status_code == 503


def test_d6_an_overload_has_the_type_that_the_client_knows(index):
    told = problem(attribution(index, Limits(max_buffered_bytes=1)), 503)
    assert told["type"] == "server-overloaded"


# D13


@pytest.mark.parametrize("warm", [False, True])
def test_d13_a_removed_index_is_said_to_be_gone(tmp_path, warm, capsys):
    path = build(tmp_path).path
    ask = Asker(path)
    document = {"index": "served", "query_type": "get_doc_by_rank", "query": "the quick", "s": 0, "rank": 0}
    asked = [
        ("/v1/indexes/served/documents", {"query": " the"}),
        ("/served/attribution", {"response": " the quick brown", "maximumFrequency": 1000}),
        ("/", document),
        ("/", {"index": "served", "query_type": "search_docs", "query": "the quick"}),
    ]
    for route, body in asked if warm else []:
        assert ask.post(route, body).status_code == 200
    shutil.rmtree(path)
    answers = [ask.post(route, body) for route, body in asked]
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert [answer.status_code for answer in answers].count(503) >= 3 if not warm else 2
    for answer in answers:
        assert str(tmp_path) not in answer.text
        assert answer.status_code == 200 or "the folder of served was replaced or removed" in answer.text
    assert "Traceback" not in capsys.readouterr().err


def in_study(client: TestClient) -> dict[str, httpx.Response]:
    study = "/v1/studies/reading"
    answers = {
        path: client.get(study + path)
        for path in ("/questions/rate_by_size", "/sequences?run=tiny", "/sequences/3?run=tiny", "")
    }
    return answers | {"sql": client.post(f"{study}/sql", json={"sql": "FROM memorization"})}


def spoiled(file: Path, how: str) -> None:
    size = file.stat().st_size
    with file.open("r+b") as stream:
        if how == "cut":
            stream.truncate(size // 2)
        else:
            stream.seek(4)
            stream.write(b"\xff" * (size - 200))


@pytest.mark.parametrize("how", ["cut", "noise"])
def test_d13_a_damaged_table_is_503(world, tmp_path, how):
    folder = Path(shutil.copytree(world, tmp_path / "w"))
    with TestClient(served(folder)) as client:
        assert {answer.status_code for answer in in_study(client).values()} == {200}
        for file in (folder / "reading" / "tables" / "continuations").glob("*.parquet"):
            spoiled(file, how)
        # The description is remembered while no file comes or goes.
        for name, answer in in_study(client).items():
            assert answer.status_code == (503 if name else 200), (name, answer.text)
            assert str(tmp_path) not in answer.text


def test_d13_a_study_and_an_index_of_it_that_are_gone(world, tmp_path):
    folder = Path(shutil.copytree(world, tmp_path / "w"))
    with TestClient(served(folder)) as client:
        count = {"sql": "SELECT text_count('library', 'The river')"}
        assert client.post(SQL, json=count).status_code == 200
        shutil.rmtree(folder / "library")
        for sql in (count["sql"], "FROM documents", "FROM documents_with('library', 'The river', 2)"):
            told = problem(client.post(SQL, json={"sql": sql}), 503)
            assert "library" in told["detail"]
            assert str(tmp_path) not in told["detail"]
        assert client.post(SQL, json={"sql": "SELECT nothing"}).status_code == 400
        shutil.rmtree(folder / "reading")
        problem(client.post(SQL, json={"sql": "SELECT 1"}), 503)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/html", "json"),
        ("text/csv", "csv"),
        ("text/csv;q=0.1, application/json", "json"),
        ("application/json;q=0.1, text/csv", "csv"),
        ("text/csv;q=0.1, */*", "json"),
        ("text/csv, */*", "csv"),
        ("*/*, text/csv", "csv"),
        ("text/*", "csv"),
        ("text/csv;q=0, */*", "json"),
        ("application/json;q=0, */*;q=0.5", "csv"),
        ("text/csv; charset=utf-8; Q=0.4, application/vnd.apache.arrow.stream ;q=0.5", "arrow"),
        ("application/vnd.apache.arrow.stream;q=0.1, application/json", "json"),
        ("application/*;q=0.9, application/json;q=0.1", "arrow"),
        ("TEXT/CSV, application/json;q=high", "csv"),
        (",,;q=1,", "json"),
    ],
)
def test_d13_accept_is_weighed(accept, form):
    assert form_of(accept) == form


def test_d13_accept_decides_between_page_and_list(index):
    ask = Asker(index.path)
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    assert ask("GET", "/", headers={"Accept": browser}).headers["content-type"].startswith("text/html")
    for accept in ("*/*", "application/json", "text/html;q=0.1, application/json"):
        assert ask("GET", "/", headers={"Accept": accept}).json() == ["served"]
    assert preferred("a/b;q=0.5", ("c/d", "a/b")) == "a/b"


def test_d13_head_is_get_without_a_body(client):
    schema = client.get("/openapi.json").json()
    paths = {
        path.replace("{index}", "library")
        .replace("{study}", "reading")
        .replace("{number}", "3")
        .replace("{name}", "rate_by_size")
        for path, methods in schema["paths"].items()
        if "get" in methods
    }
    assert len(paths) > 10
    for path in {*paths, "/openapi.json", "/page/main.js", "/nothing", "/v1/studies/nothing"}:
        get, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        if path != "/metrics":
            assert head.headers == get.headers, path
    assert client.head("/v1/indexes/library/count").status_code == 405
    assert 'method="HEAD",route="/v1/studies/{study}"' in client.get("/metrics").text


# D14


def test_d14_study_routes_describe_every_status(client):
    paths = client.get("/openapi.json").json()["paths"]
    studies = {path: methods for path, methods in paths.items() if path.startswith("/v1/studies")}
    lookups = paths["/v1/indexes/{index}/count"]["post"]["responses"]
    assert len(studies) == 8
    for path, methods in studies.items():
        for operation in methods.values():
            assert operation["responses"].keys() >= lookups.keys(), path
            for status in lookups.keys() - {"200"}:
                content = operation["responses"][status]["content"]
                assert content == {PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}, (path, status)


def test_d14_what_is_answered_is_described(world, client):
    paths = client.get("/openapi.json").json()["paths"]
    study, as_json = "/v1/studies/{study}", {"Content-Type": "application/json"}
    observed = [
        (f"{study}/sql", "post", client.post(SQL, json={"sql": "SELECT nothing"})),
        (f"{study}/sql", "post", client.post(SQL, json={"sql": ""})),
        (f"{study}/sql", "post", client.post(SQL, content=b"x")),
        (f"{study}/sql", "post", client.post(SQL, json={"sql": "SELECT '" + "a" * 60_000 + "'"})),
        (f"{study}/sql", "post", client.post("/v1/studies/other/sql", json={"sql": "SELECT 1"})),
        (f"{study}/sql", "post", client.post(SQL, content=b"{", headers=as_json | {"Content-Encoding": "gzip"})),
        (study, "get", client.get("/v1/studies/other")),
        (f"{study}/sequences", "get", client.get("/v1/studies/reading/sequences?cursor=x")),
        (f"{study}/sequences/{{number}}", "get", client.get("/v1/studies/reading/sequences/x")),
        (f"{study}/sequences/{{number}}", "get", client.get("/v1/studies/reading/sequences/999999")),
        (f"{study}/questions/{{name}}", "get", client.get("/v1/studies/reading/questions/rate_by_size?x=1")),
        (f"{study}/questions/{{name}}/figure.svg", "get", client.get("/v1/studies/reading/questions/x/figure.svg")),
    ]
    with TestClient(served(world, api_keys=("key",), allowed_hosts=("localhost",))) as guarded:
        observed += [
            (study, "get", guarded.get("/v1/studies/reading")),
            (study, "get", guarded.get("http://localhost/v1/studies/reading")),
        ]
    assert {answer.status_code for _, _, answer in observed} >= {400, 401, 404, 413, 415, 421, 422}
    for path, method, answer in observed:
        described = paths[path][method]["responses"].get(str(answer.status_code))
        assert described, (path, answer.status_code)
        assert answer.headers["content-type"] in described["content"]
        ProblemAnswer.model_validate_json(answer.content)


def test_d14_every_reference_of_a_problem_is_there(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert {"ProblemAnswer", "FaultyField"} <= schemas.keys()
    assert "#/components/schemas/" in json.dumps(schemas["ProblemAnswer"])
