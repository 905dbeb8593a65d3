"""Keys, headers, origins, and what no answer may tell: this machine's paths."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

from served_index import Asker, as_json, build

from memindex.errors import CorruptIndexError, MemindexError
from memindex.index import Index
from memindex.server import answering
from memindex.server.config import by_name, read_api_keys
from memindex.server.hosts import allowed_at

COUNT = {"index": "served", "query_type": "count", "query": "a"}


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    return build(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(
    "path", ["/", "/health", "/metrics", "/v1/indexes", "/openapi.json", "/nothing", "/v1/indexes/x"]
)
def test_every_answer_has_the_headers(index, path):
    headers = Asker(index.path)("GET", path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer nope"},
        {"Authorization": "Basic one"},
        {"X-API-Key": "on"},
        {"X-API-Key": "é".encode()},
    ],
)
def test_without_a_key_nothing_is_answered(index, headers):
    ask = Asker(index.path, api_keys=("one", "two"))
    for method, path in (("GET", "/v1/indexes"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/nothing")):
        answer = ask(method, path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-content-type-options"] == "nosniff"
    answer = ask("POST", "/", json=COUNT, headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"error": "this server asks for an API key"})
    assert ask("GET", "/health", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer two"}, {"authorization": "bearer  one"}, {"X-API-Key": "two"}]
)
def test_each_key_opens(index, headers):
    ask = Asker(index.path, api_keys=("one", "two"))
    assert ask("POST", "/", json=COUNT, headers=headers).status_code == 200
    assert "securitySchemes" in ask("GET", "/openapi.json", headers=headers).json()["components"]


def test_key_files(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# who\n one \n\ntwo\n")
    assert read_api_keys(file) == ("one", "two")
    for content, says in (
        (b"#\n", "no API key"),
        (b"a b\n", "without spaces"),
        ("ü".encode(), "ASCII"),
        (b"\xff", "UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(MemindexError, match=says):
            read_api_keys(file)


def test_keys_are_not_shown(index):
    from memindex.server.config import ServerConfig

    assert "secret" not in repr(ServerConfig(api_keys=("secret",)))


def test_other_origins_may_ask_only_when_they_are_named(index):
    preflight = {
        "Origin": "https://x.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    closed = Asker(index.path)("OPTIONS", "/", headers=preflight)
    assert closed.status_code == 405
    assert "access-control-allow-origin" not in closed.headers
    ask = Asker(index.path, cors_origins=("https://x.org",), api_keys=("k",))
    opened = ask("OPTIONS", "/", headers=preflight)
    assert (opened.status_code, opened.headers["access-control-allow-origin"]) == (200, "https://x.org")
    other = ask("OPTIONS", "/", headers=preflight | {"Origin": "https://y.org"})
    assert "access-control-allow-origin" not in other.headers
    answer = ask("POST", "/", json=COUNT, headers={"Origin": "https://x.org", "X-API-Key": "k"})
    assert answer.headers["access-control-allow-origin"] == "https://x.org"


LOOPBACK = [
    "localhost",
    "LocalHost:8080",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:8080",
    "[::1]",
    "[::1]:9000",
    "127.1.2.3",
]
OTHERS = [
    "evil.org",
    "evil.org:8080",
    "127.0.0.1.evil.org",
    "localhost.evil.org",
    "8.8.8.8",
    "[::2]",
    "[::1]evil",
    "",
    "a b",
    "é",
]


@pytest.mark.parametrize(
    ("host", "given"), [("127.0.0.1", ()), ("::1", ()), ("localhost", ()), ("0.0.0.0", ("x.org",))]
)
def test_only_known_names_are_answered(index, host, given):
    ask = Asker(index.path, allowed_hosts=allowed_at(host, given))
    for name in (*LOOPBACK, *given):
        assert ask("POST", "/", json=COUNT, headers={"Host": name}).status_code == 200, name
    for name in OTHERS:
        headers = {"Host": name.encode()}
        for path in ("/v1/indexes", "/page/main.js", "/openapi.json", "/nothing"):
            answer = ask("GET", path, headers=headers)
            assert answer.status_code == answer.json()["status"] == 421, name
            assert "--allowed-host" in answer.json()["detail"]
            assert answer.headers["content-type"] == "application/problem+json"
        answer = ask("POST", "/", json=COUNT, headers=headers)
        assert (answer.status_code, list(answer.json())) == (421, ["error"])
        assert ask("GET", "/health", headers=headers).status_code == 200


def test_a_second_host_does_not_hide_the_first(index):
    ask = Asker(index.path, allowed_hosts=allowed_at("127.0.0.1", ()))
    for names in (("evil.org", "localhost"), ("localhost", "evil.org")):
        assert ask("GET", "/v1/indexes", headers=[("Host", name) for name in names]).status_code == 421


@pytest.mark.parametrize(
    ("host", "given"),
    [("0.0.0.0", ()), ("10.0.0.7", ()), ("::", ()), ("127.0.0.1", ("*",)), ("0.0.0.0", ("x.org", "*"))],
)
def test_every_name_is_answered_where_that_is_meant(index, host, given):
    ask = Asker(index.path, allowed_hosts=allowed_at(host, given))
    for name in ("evil.org", "localhost"):
        assert ask("GET", "/v1/indexes", headers={"Host": name}).status_code == 200


def test_names_that_are_allowed():
    assert allowed_at("127.0.0.1", ("X.org", "y.org.", "::2", "[::3]")) == ("x.org", "y.org", "::2", "::3", "127.0.0.1")
    for wrong in ("http://x.org", "x.org:80", "", "a b", "x.org/"):
        with pytest.raises(MemindexError, match="--allowed-host"):
            allowed_at("127.0.0.1", (wrong,))


def asked_badly(ask: Asker) -> list:
    bodies = [{}, {"queries": []}, {"query": "a", "limit": 10**9}, {"query": [99_999_999]}, {"queries": [[99_999_999]]}]
    routes = ["count", "documents", "next", "trace", "tokenize", "longest-match", "count.arrow"]
    answers = [
        ask.post(f"/v1/indexes/{name}/{r}", b) for name in ("served", "%2e%2e", "a b") for r in routes for b in bodies
    ]
    answers += [
        ask.post("/", {"index": "served", "query_type": kind} | body)
        for kind in ("count", "find_cnf")
        for body in bodies
    ]
    return [
        *answers,
        ask("GET", "/v1/indexes"),
        ask("GET", "/openapi.json"),
        ask("GET", "/metrics"),
        ask("GET", "/%00"),
    ]


def test_no_answer_tells_a_path_of_this_machine(index):
    ask = Asker(index.path)
    ask.v1("documents", query=" the")
    for answer in asked_badly(ask):
        assert answer.status_code < 500 or "got an unexpected keyword argument" in answer.text, answer.text
        assert str(index.path) not in as_json(answer)
        assert str(index.path.parent) not in as_json(answer)
        assert "Traceback" not in answer.text


def test_errors_of_the_index_are_told_without_paths(index, monkeypatch, capsys):
    ask = Asker(index.path)
    told = f"{index.path}/table.0: byte 5 is wrong; {index.path}"

    def fails(error):
        def fail(served, asked):
            raise error

        monkeypatch.setattr(answering, "next_tokens", fail)
        return ask.post("/v1/indexes/served/next", {"query": "a"})

    answer = fails(MemindexError(told))
    assert (answer.status_code, answer.json()["detail"]) == (400, "served/table.0: byte 5 is wrong; served")
    answer = fails(CorruptIndexError(told))
    assert answer.status_code == 500
    assert str(index.path) not in answer.text
    assert told in capsys.readouterr().err
    answer = fails(ZeroDivisionError(told))
    assert (answer.status_code, answer.json()["status"]) == (500, 500)
    assert str(index.path) not in as_json(answer)
    assert answer.headers["x-content-type-options"] == "nosniff"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("memindex: POST '/v1/indexes/served/next' failed: ")
    assert "ZeroDivisionError" in line


def test_damage_is_answered_as_such(tmp_path_factory, capsys):
    index = build(tmp_path_factory.mktemp("damaged"))
    ask = Asker(index.path)
    table = index.path / "table.0"
    with table.open("r+b") as file:
        file.truncate(100)
    answers = [
        ask.post("/v1/indexes/served/count", {"queries": [" the"]}),
        ask.post("/v1/indexes/served/documents", {"query": " the"}),
        ask.post("/", COUNT),
        ask.post("/", {"index": "served", "query_type": "find", "query_ids": [1]}),
    ]
    assert [answer.status_code for answer in answers] == [500] * 4
    for answer in answers:
        assert "damaged" in answer.text
        assert str(index.path) not in answer.text
    assert "table.0" in capsys.readouterr().err
    assert ask("GET", "/health").status_code == 200


def test_two_indexes_of_one_name_are_refused(tmp_path):
    (tmp_path / "a" / "x").mkdir(parents=True)
    (tmp_path / "b" / "x").mkdir(parents=True)
    with pytest.raises(MemindexError, match="two indexes are called x"):
        by_name("indexes", [tmp_path / "a" / "x", tmp_path / "b" / "x"])


def test_several_indexes_are_served_by_name(index, tmp_path_factory):
    from infini_gram_folder import write_folder

    other = write_folder(tmp_path_factory.mktemp("plain") / "other one", [[[1, 2]]], 2)
    ask = Asker(index.path, other)
    assert ask("GET", "/").json() == ["served", "other one"]
    assert ask.post("/v1/indexes/other%20one/count", {"queries": [[1]]}).json()["index"] == "other one"
    assert ask.post("/", COUNT | {"index": "other one", "query_type": "find"}).status_code == 200


def test_metrics_have_a_bounded_number_of_labels(index):
    ask = Asker(index.path)
    for i in range(20):
        ask("GET", f"/{i}")
        ask("POST", f"/v1/indexes/{i}/count", json={})
        asyncio.run(ask.ask(f"M{i}", "/"))
    lines = [line for line in ask("GET", "/metrics").text.splitlines() if line.startswith("memindex_requests_total")]
    assert len(lines) < 10
    assert all("/19" not in line and "M19" not in line for line in lines)
