"""The routes under /v1/studies, through the whole application: typed answers, refusals with their status, no 500."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

import httpx
from served_study import MODELS, make_served
from starlette.testclient import TestClient

from memindex.index import Index
from memindex.server.app import make_app
from memindex.server.config import Limits, ServerConfig
from memindex.sql.connection import connect
from memindex.sql.queries import list_queries, load_query, run_query


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    make_served(folder)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    limits = Limits(max_sql_seconds=5, max_sql_memory_mb=256, max_sql_rows=1000)
    with TestClient(make_app(ServerConfig((folder / "library",), (folder / "reading",), limits))) as client:
        yield client


def refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert (problem["status"], words in problem["detail"]) == (status, True), problem


def test_studies_are_listed(client: TestClient) -> None:
    assert client.get("/v1/studies").json() == {"studies": [{"name": "reading", "title": "What three readers kept"}]}


def test_a_study_is_described(client: TestClient, folder: Path) -> None:
    told = client.get("/v1/studies/reading").json()
    assert (told["name"], told["index"], told["indexes"]) == ("reading", "library", ["library"])
    assert [model["model_id"] for model in told["models"]] == [name for name, _, _ in MODELS]
    con = connect(folder / "reading")
    for key, sql in {
        "samples": "SELECT sample, count(*) AS sequences FROM sequences GROUP BY 1 ORDER BY 1",
        "domains": "SELECT domain, count(*) AS sequences FROM sequences GROUP BY 1 ORDER BY 1",
    }.items():
        assert told[key] == con.sql(sql).to_arrow_table().to_pylist()
    rates = {(rate["run_label"], rate["sample"]): rate["rate"] for rate in told["rates"]}
    wanted = con.sql("SELECT run_label, sample, avg(memorized::INT) FROM memorization GROUP BY ALL").fetchall()
    assert rates == {(run, sample): pytest.approx(rate) for run, sample, rate in wanted}
    assert sum(bucket["sequences"] for bucket in told["buckets"]) == con.sql("FROM sequences").shape[0]
    assert set(told["questions"]) == set(list_queries())


def test_sql_is_answered_in_three_forms(client: TestClient) -> None:
    body = {"sql": "SELECT model_id, $a + 1 AS a FROM models ORDER BY 1", "parameters": {"a": 1}}
    told = client.post("/v1/studies/reading/sql", json=body)
    assert told.json() == {
        "columns": [{"name": "model_id", "type": "VARCHAR"}, {"name": "a", "type": "INTEGER"}],
        "rows": [["large", 2], ["small", 2], ["tiny", 2]],
        "truncated": False,
    }
    csv = client.post("/v1/studies/reading/sql", json=body, headers={"Accept": "text/csv, */*;q=0.9"})
    assert csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert csv.text.split() == ["model_id,a", "large,2", "small,2", "tiny,2"]
    kind = "application/vnd.apache.arrow.stream"
    arrow = client.post("/v1/studies/reading/sql", json=body | {"limit": 1}, headers={"Accept": kind})
    assert (arrow.headers["content-type"], arrow.headers["x-truncated"]) == (kind, "true")
    assert pa.ipc.open_stream(io.BytesIO(arrow.content)).read_all().to_pydict() == {"model_id": ["large"], "a": [2]}


def test_sql_is_refused_with_its_status(client: TestClient) -> None:
    def ask(sql: str) -> httpx.Response:
        return client.post("/v1/studies/reading/sql", json={"sql": sql})

    refused(ask("SELECT a FROM models"), 400, 'Referenced column "a" not found')
    refused(ask("COPY models TO 'a.csv'"), 400, "only SELECT")
    refused(ask("FROM modells"), 400, "did you mean models?")
    refused(ask("SELECT length(repeat('x', 3000000000))"), 413, "more memory")
    refused(ask("SELECT count(*) FROM range(1000000000000000)"), 408, "stopped after 5 seconds")
    refused(ask(""), 422, "sql")
    refused(client.post("/v1/studies/reading/sql", json={"sql": "SELECT 1", "rows": 1}), 422, "rows")
    refused(
        client.post("/v1/studies/reading/sql", content=b"{", headers={"Content-Type": "application/json"}), 422, "JSON"
    )
    refused(client.post("/v1/studies/other/sql", json={"sql": "SELECT 1"}), 404, "no study 'other' here")


def test_questions_are_listed_in_reading_order(client: TestClient) -> None:
    told = client.get("/v1/studies/reading/questions").json()["questions"]
    assert [one["name"] for one in told][:2] == ["rate_by_size", "rate_by_frequency"]
    assert {one["name"] for one in told} == set(list_queries())
    assert told[0]["parameters"] == {"sample": "uniform"}


@pytest.mark.parametrize("name", list_queries())
def test_every_question_is_answered(client: TestClient, folder: Path, name: str) -> None:
    told = client.get(f"/v1/studies/reading/questions/{name}", headers={"Accept": "text/csv"})
    assert told.status_code == 200, told.text
    wanted = run_query(connect(folder / "reading"), name)
    assert len(told.text.splitlines()) >= min(wanted.num_rows, 1000)
    figure = client.get(f"/v1/studies/reading/questions/{name}/figure.svg", params={"width": "narrow"})
    if figure.status_code == 404:
        assert "nothing to draw" in figure.json()["detail"]
        return
    assert figure.headers["content-type"] == "image/svg+xml"
    svg = ET.fromstring(figure.text)
    assert svg.get("width") == "350"
    assert "prefers-color-scheme: dark" in figure.text
    assert load_query(name).title in "".join(svg.itertext())


def test_questions_take_parameters(client: TestClient) -> None:
    path = "/v1/studies/reading/questions/rate_by_size"
    shares = "/v1/studies/reading/questions/domain_shares"
    few = client.get(shares, params={"domains": 1}).json()["rows"]
    assert 0 < len(few) < len(client.get(shares).json()["rows"])
    refused(client.get(path, params={"sample": "bucket"}), 400, "or the query rate_by_frequency")
    refused(client.get(path, params={"sample": "planted"}), 404, "no sequences of the sample 'planted'")
    refused(client.get(path, params={"a": "b"}), 400, "has no parameter 'a'")
    refused(client.get("/v1/studies/reading/questions/score_histogram", params={"bins": "x"}), 400, "whole number")
    refused(client.get(path, params=[("sample", "heldout"), ("sample", "uniform")]), 422, "twice")
    refused(client.get("/v1/studies/reading/questions/nothing"), 404, "there is no question nothing")
    refused(client.get("/v1/studies/reading/questions/..%2F..%2Fpyproject"), 404, "")


def pages(client: TestClient, **filters: object) -> list[dict]:
    found, cursor = [], None
    while True:
        answer = client.get(
            "/v1/studies/reading/sequences",
            params={"limit": 37, **filters} | ({"cursor": cursor} if cursor else {}),
        )
        assert answer.status_code == 200, answer.text
        found += answer.json()["sequences"]
        cursor = answer.json()["next"]
        if cursor is None:
            return found


@pytest.mark.parametrize("order", ["id", "frequency", "score"])
def test_pages_hold_every_sequence_once_in_order(client: TestClient, folder: Path, order: str) -> None:
    found = pages(client, order=order, run="small")
    keys = {"id": lambda row: row["sequence_id"], "frequency": lambda row: (-row["sequence_count"], row["sequence_id"])}
    keys["score"] = lambda row: (-row["score"], row["sequence_id"])
    assert found == sorted(found, key=keys[order])
    assert len(found) == connect(folder / "reading").sql("FROM sequences").shape[0]
    assert len({row["sequence_id"] for row in found}) == len(found)


def test_filters_choose_what_sql_would(client: TestClient, folder: Path) -> None:
    con = connect(folder / "reading")
    for filters, where in (
        ({"outcome": "memorized", "run": "small-run"}, "run_id = 'small-run' AND memorized"),
        ({"outcome": "half", "run": "large"}, "run_id = 'large-run' AND score > 0 AND score < 1"),
        ({"outcome": "unmemorized", "run": "tiny"}, "run_id = 'tiny-run' AND score = 0"),
        (
            {"sample": "bucket", "domain": "Code", "run": "tiny"},
            "run_id = 'tiny-run' AND sample = 'bucket' AND domain = 'Code'",
        ),
        ({"bucket": 2, "run": "tiny"}, "run_id = 'tiny-run' AND frequency_bucket = 2"),
        ({"bucket": 0}, "run_id = 'tiny-run' AND frequency_bucket = 0"),
        ({"domain": "Law' OR true --"}, "false"),
    ):
        wanted = con.sql(f"SELECT sequence_id FROM memorization WHERE {where} ORDER BY 1").fetchall()
        assert [row["sequence_id"] for row in pages(client, **filters)] == [number for (number,) in wanted]


def test_bad_filters_are_told(client: TestClient) -> None:
    def ask(**filters: object) -> httpx.Response:
        return client.get("/v1/studies/reading/sequences", params=filters)

    refused(ask(outcome="memorized"), 422, "with run or model")
    refused(ask(outcome="some", run="tiny"), 422, "outcome")
    refused(ask(run="nobody"), 404, "there is no run or model nobody")
    refused(ask(cursor="nonsense"), 422, "cursor")
    refused(ask(limit=0), 422, "limit")
    refused(ask(limit=10_000), 422, "limit")
    refused(ask(bucket=99), 422, "bucket")


def test_a_sequence_is_told_token_by_token(client: TestClient, folder: Path) -> None:
    index = Index.open(folder / "library")
    for row in pages(client, run="small", outcome="half")[:3] + pages(client, run="small", outcome="memorized")[:3]:
        number = row["sequence_id"]
        told = client.get(f"/v1/studies/reading/sequences/{number}", params={"run": "small"}).json()
        prefix, suffix, continuation = (told[part] for part in ("prefix", "suffix", "continuation"))
        assert "".join(prefix["pieces"]) == row["prefix"].rstrip("\ufffd")
        assert told["right"] == [a == b for a, b in zip(suffix["tokens"], continuation["tokens"], strict=True)]
        assert told["outcome"]["score"] == pytest.approx(sum(told["right"]) / len(told["right"]))
        assert len(told["outcome"]["token_logprobs"]) == len(suffix["pieces"]) == 12
        whole = prefix["tokens"] + suffix["tokens"]
        assert told["sequence_count"] == index.count_one(whole) == sum(told["domains"].values())
        assert told["domains"][told["document"]["domain"]] > 0
        assert told["document"]["path"] == "library.jsonl"
        assert {run["model_id"] for run in told["runs"]} == {"tiny", "small", "large"}
    alone = client.get(f"/v1/studies/reading/sequences/{number}").json()
    assert (alone["outcome"], alone["continuation"], alone["prefix"]) == (None, None, prefix)
    refused(client.get("/v1/studies/reading/sequences/999999"), 404, "there is no sequence 999999")
    refused(client.get("/v1/studies/reading/sequences/a"), 422, "number")
    refused(client.get(f"/v1/studies/reading/sequences/{10**30}"), 422, "number")


def test_pieces_of_characters_come_with_their_last_byte() -> None:
    from memindex.server.alignment import pieces

    assert pieces(["a", "a\ufffd", "aé", "aé\ufffd", "aé\ufffd\ufffd", "aé東"]) == ["a", "", "é", "", "", "東"]


def test_a_study_without_its_index_is_still_shown(folder: Path, tmp_path: Path) -> None:
    study = tmp_path / "moved"
    study.mkdir()
    (study / "study.toml").write_text('index = "library"\n', encoding="utf-8")
    (study / "tables").symlink_to(folder / "reading" / "tables")
    with TestClient(make_app(ServerConfig((), (study,)))) as client:
        told = client.get("/v1/studies/moved/sequences/3", params={"run": "tiny"}).json()
        assert (told["prefix"]["pieces"], len(told["prefix"]["tokens"])) == (None, 12)
        assert client.get("/v1/studies/moved/sequences").json()["sequences"][0]["prefix"] is None
        asked = client.post("/v1/studies/moved/sql", json={"sql": "SELECT text_count('library', 'a')"})
        refused(asked, 400, "library")
        assert str(tmp_path) not in asked.text


def test_answers_are_of_the_tables_as_they_are_now(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder / "reading", tmp_path / "reading")
    with TestClient(make_app(ServerConfig((), (tmp_path / "reading",)))) as client:
        assert len(client.get("/v1/studies/reading").json()["runs"]) == 3
        (tmp_path / "reading" / "tables" / "runs" / "tiny-run.parquet").unlink()
        assert len(client.get("/v1/studies/reading").json()["runs"]) == 2


def test_a_damaged_study_is_told_of_without_its_place(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder / "reading", tmp_path / "reading")
    [file] = (tmp_path / "reading" / "tables" / "sequences").glob("*.parquet")
    file.write_bytes(file.read_bytes()[:500])
    with TestClient(make_app(ServerConfig((), (tmp_path / "reading",)))) as client:
        answer = client.get("/v1/studies/reading")
        assert answer.status_code == 503
        assert str(tmp_path) not in answer.text


def test_the_openapi_describes_all(client: TestClient) -> None:
    told = client.get("/openapi.json").json()
    assert {path for path in told["paths"] if path.startswith("/v1/studies")} == {
        "/v1/studies",
        "/v1/studies/{study}",
        "/v1/studies/{study}/sql",
        "/v1/studies/{study}/questions",
        "/v1/studies/{study}/questions/{name}",
        "/v1/studies/{study}/questions/{name}/figure.svg",
        "/v1/studies/{study}/sequences",
        "/v1/studies/{study}/sequences/{number}",
    }
    assert "Sequence" in told["components"]["schemas"]
    json.dumps(told)


def test_keys_guard_studies_but_not_the_page(folder: Path) -> None:
    config = ServerConfig((), (folder / "reading",), api_keys=("abc",))
    with TestClient(make_app(config)) as client:
        refused(client.get("/v1/studies"), 401, "API key")
        assert client.get("/v1/studies", headers={"Authorization": "Bearer abc"}).status_code == 200
        assert client.get("/", headers={"Accept": "text/html"}).status_code == 200
        assert client.get("/page/page.css").status_code == 200
        refused(client.get("/page/__init__.py"), 404, "no such file")
        refused(client.get("/page/..%2Fapp.py"), 404, "")
        assert client.get("/").status_code == 401
