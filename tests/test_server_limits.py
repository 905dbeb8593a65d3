"""Nothing that is asked may take more than it may: every limit is met, named, and leaves the server as it was."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import fields

import pyarrow as pa
import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

from served_index import Asker, build, nested, raw

from memindex.index import Index
from memindex.server import answering
from memindex.server.config import Limits

COUNT = "/v1/indexes/served/count"
NEXT = "/v1/indexes/served/next"


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    return build(tmp_path_factory.mktemp("world"))


def refused(answer, status: int, limit: str) -> None:
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert problem["limit"] == limit
    assert limit in problem["detail"]


@pytest.mark.parametrize(
    ("limit", "most", "what", "body", "status"),
    [
        ("max_queries", 2, "count", {"queries": ["a", "b", "c"]}, 413),
        ("max_queries", 2, "count", {"queries": ["a"] * 40, "by_domain": True}, 413),
        ("max_queries", 2, "longest-match", {"queries": [[1], [2], [3]]}, 413),
        ("max_queries", 2, "tokenize", {"texts": ["a", "b", "c"]}, 413),
        ("max_query_tokens", 3, "count", {"queries": [[1, 2, 3, 4]]}, 413),
        ("max_query_tokens", 3, "count", {"queries": ["the quick brown fox jumps"]}, 413),
        ("max_query_tokens", 3, "count", {"queries": [[1, 2, 3, 4]] * 40}, 413),
        ("max_query_tokens", 3, "trace", {"query": "the quick brown fox jumps"}, 413),
        ("max_rows", 5, "documents", {"query": "a", "limit": 6}, 413),
        ("max_rows", 5, "next", {"query": "a", "top": 6}, 413),
        ("max_rows", 5, "trace", {"query": " the quick brown fox jumps", "min_tokens": 1, "sources": 6}, 413),
        ("max_numbers", 5, "count", {"queries": ["a", "b"], "by_domain": True}, 413),
        ("max_numbers", 50, "documents", {"query": "a", "limit": 6}, 413),
        ("max_numbers", 4, "longest-match", {"queries": ["the quick brown fox jumps"]}, 413),
        ("max_body_bytes", 30, "count", {"queries": ["a", "b", "c", "d", "e", "f", "g"]}, 413),
        ("max_buffered_bytes", 30, "count", {"queries": ["a", "b", "c", "d", "e", "f", "g"]}, 503),
    ],
)
def test_limits_are_named(index, limit, most, what, body, status):
    ask = Asker(index.path, limits=Limits(**{limit: most}))
    refused(ask.post(f"/v1/indexes/served/{what}", body), status, limit)
    assert ask.app.state.service.bodies.held == 0
    assert ask.app.state.service.workers.inside == 0


def test_every_limit_has_an_option_and_a_line():
    from memindex.cli.serve import serve
    from memindex.server.config import ABOUT

    options = {option.name for option in serve.params}
    assert [limit.name for limit in fields(Limits)] == list(ABOUT)
    assert set(ABOUT) <= options


def test_arrow_streams_meet_limits_too(index):
    ask = Asker(index.path, limits=Limits(max_queries=2, max_numbers=5))
    for rows, limit in ((3, "max_queries"), (2, "max_numbers")):
        sink = pa.BufferOutputStream()
        table = pa.table({"ids": pa.array([[1]] * rows)})
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
        body = sink.getvalue().to_pybytes()
        refused(ask("POST", f"{COUNT}.arrow?by_domain=true", content=body, headers=headers), 413, limit)


def test_a_body_without_a_length_is_cut_off(index):
    ask = Asker(index.path, limits=Limits(max_body_bytes=1000))

    async def endless():
        while True:
            yield b" " * 100

    async def send():
        headers = {"Content-Type": "application/json"}
        return await ask.ask("POST", COUNT, content=endless(), headers=headers)

    refused(asyncio.run(send()), 413, "max_body_bytes")
    assert ask.app.state.service.bodies.held == 0


def test_a_body_that_does_not_come_is_given_up(index):
    ask = Asker(index.path, limits=Limits(max_seconds=0.1))

    async def never():
        yield b"{"
        await asyncio.sleep(60)

    answer = asyncio.run(ask.ask("POST", COUNT, content=never(), headers={"Content-Type": "application/json"}))
    refused(answer, 408, "max_seconds")


@pytest.mark.parametrize("depth", [300, 100_000])
def test_nesting_has_an_end(index, depth):
    ask = Asker(index.path)
    for path, status in ((COUNT, 422), (NEXT, 422), ("/", 400), ("/served/attribution", 422)):
        answer = ask("POST", path, **raw(nested(depth)))
        assert answer.status_code == status, answer.text
    inside = f'{{"query": "a", "limit": {nested(depth)}}}'
    assert ask("POST", "/v1/indexes/served/documents", **raw(inside)).status_code == 422


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Content-Type": "text/plain"}, "application/json"),
        ({}, "application/json"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "Content-Encoding"),
    ],
)
def test_other_bodies_are_refused(index, headers, says):
    ask = Asker(index.path)
    for path, key in ((COUNT, "detail"), ("/", "error")):
        answer = ask("POST", path, content=b"{}", headers=headers)
        assert answer.status_code == 415
        assert says in answer.json()[key]


class Slow:
    """Work that does not end before it is told to."""

    def __init__(self, monkeypatch) -> None:
        self.end, self.begun = threading.Event(), threading.Semaphore(0)
        real = answering.next_tokens

        def slow(served, asked):
            self.begun.release()
            assert self.end.wait(20)
            return real(served, asked)

        monkeypatch.setattr(answering, "next_tokens", slow)


@pytest.fixture
def slow(monkeypatch):
    made = Slow(monkeypatch)
    yield made
    made.end.set()


async def begun(slow: Slow, number: int) -> None:
    for _ in range(number):
        while not slow.begun.acquire(blocking=False):
            await asyncio.sleep(0.005)


def test_too_many_requests_are_refused_and_the_rest_answered(index, slow):
    ask = Asker(index.path, limits=Limits(max_concurrent=1, max_waiting=2))
    body = {"query": " the"}

    async def run():
        waiting = [asyncio.create_task(ask.ask("POST", NEXT, json=body)) for _ in range(3)]
        await begun(slow, 1)
        while ask.app.state.service.workers.inside < 3:
            await asyncio.sleep(0.005)
        assert "memindex_queue_length 2.0" in (await ask.ask("GET", "/metrics")).text
        health = await ask.ask("GET", "/health")
        refusals = [
            await ask.ask("POST", NEXT, json=body),
            await ask.ask("POST", COUNT, json={"queries": ["a"]}),
        ]
        theirs = await ask.ask("POST", "/", json={"index": "served", "query_type": "count", "query": "a"})
        slow.end.set()
        return health, refusals, theirs, await asyncio.gather(*waiting)

    health, refusals, theirs, answers = asyncio.run(run())
    assert (health.status_code, health.json()) == (503, {"live": True, "ready": False, "waiting": 2})
    for answer in refusals:
        refused(answer, 503, "max_waiting")
        assert int(answer.headers["retry-after"]) >= 1
    assert (theirs.status_code, theirs.headers["retry-after"]) == (503, "1")
    assert "max_waiting" in theirs.json()["error"]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert ask("GET", "/health").json() == {"live": True, "ready": True, "waiting": 0}


def test_a_request_has_its_time(index, slow):
    ask = Asker(index.path, limits=Limits(max_seconds=0.2, max_concurrent=1))
    # Nothing ends the slow lookup before the answer: without a limit there would be none.
    refused(ask.post(NEXT, {"query": " the"}), 504, "max_seconds")
    # The thread is still taken: what waits for it is given up without being begun.
    refused(ask.post(NEXT, {"query": " the"}), 504, "max_seconds")
    slow.end.set()
    assert ask.v1("next", query=" the")["count"] > 0
    assert slow.begun.acquire(blocking=False)
    assert slow.begun.acquire(blocking=False)
    assert not slow.begun.acquire(blocking=False)


def test_counts_go_on_while_threads_are_taken(index, slow):
    ask = Asker(index.path, limits=Limits(max_concurrent=1))

    async def run():
        taken = asyncio.create_task(ask.ask("POST", NEXT, json={"query": " the"}))
        await begun(slow, 1)
        counted = await ask.ask("POST", COUNT, json={"queries": [" the"]})
        slow.end.set()
        return counted, await taken

    counted, other = asyncio.run(run())
    assert (counted.status_code, other.status_code) == (200, 200)


def test_others_are_answered_while_a_large_body_is_parsed(index):
    ask = Asker(index.path)
    body = {"queries": [[1, 2, 3]] * 200_000}

    async def run():
        large = asyncio.create_task(ask.ask("POST", COUNT, json=body))
        # It has begun, and gets a thread.
        await asyncio.sleep(0.01)
        small = await ask.ask("GET", "/health")
        before = large.done()
        return await large, small, before

    answer, small, before = asyncio.run(run())
    assert small.status_code == 200
    assert not before
    assert len(answer.json()["counts"]) == 200_000


def test_bodies_for_one_query_have_a_limit_of_their_own(index):
    ask = Asker(index.path, limits=Limits(max_json_bytes=50, max_query_tokens=5))
    for what in ("next", "trace", "documents"):
        refused(ask.post(f"/v1/indexes/served/{what}", {"query": "a" * 50}), 413, "max_json_bytes")
    refused(ask.post("/v1/indexes/served/tokenize", {"texts": ["a" * 50]}), 413, "max_json_bytes")
    # Told before it is tokenized.
    for queries in (["a" * 321], ["a" * 321] * 100):
        for what in ("count", "longest-match"):
            refused(ask.post(f"/v1/indexes/served/{what}", {"queries": queries}), 413, "max_query_tokens")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"queries": ["ab", 1] * 9000}, 422),
        ({"queries": [[1, "a"]] * 9000}, 422),
        ({"queries": [[1], None] * 9000}, 422),
        ({"queries": [[1, None]] * 9000}, 422),
        ({"queries": [[-1]] * 9000}, 422),
        ({"queries": [[1.5]] * 9000}, 422),
        ({"queries": [[True]] * 9000}, 422),
        ({"queries": [[1 << 32]] * 9000}, 422),
        ({"queries": [["a"]] * 9000}, 422),
        ({"queries": {"a": "b" * 20_000}}, 422),
        ({"queries": "b" * 20_000}, 422),
        ({"query": [[1]] * 9000}, 422),
        ({"queries": [[1]] * 9000, "more": 1}, 422),
        ({"queries": [[1]] * 9000, "by_domain": 1}, 422),
        ({"queries": [[1]] * 9000 + [[]]}, 400),
        ({"queries": ["a"] * 9000 + [""]}, 400),
        ({"queries": [[70_000]] * 9000}, 400),
    ],
)
def test_large_bodies_are_refused_like_small_ones(index, body, status):
    ask = Asker(index.path)
    answer = ask.post(COUNT, body)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("queries", "detail"),
    [
        ([[1, 2.5]], "queries.0.1: Input should be a valid integer"),
        ([[1], [-1]], "queries.1.0: Input should be greater than or equal to 0"),
        ("the", "queries: Input should be a valid array"),
        (["the", 3], "queries.1: Input should be a valid string"),
    ],
)
def test_what_is_wrong_with_queries_is_told_of_the_kind_that_was_meant(index, queries, detail):
    answer = Asker(index.path).post(COUNT, {"queries": queries})
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)


def test_large_bodies_are_one_object(index):
    ask = Asker(index.path)
    whole = '{"queries":[' + ",".join(["[1]"] * 9000) + "]}"
    assert ask("POST", COUNT, **raw(whole)).status_code == 200
    for body in (whole * 2, whole[:-1], " " * 20_000, whole + "x", whole.replace("[1]", "[01]", 1)):
        assert ask("POST", COUNT, **raw(body)).status_code == 422


def test_a_client_that_goes_away_is_not_waited_for(index, slow):
    ask = Asker(index.path, limits=Limits(max_concurrent=1))
    workers = ask.app.state.service.workers

    async def gone(after: float) -> list[dict]:
        """Ask as a server would, whose client hangs up."""
        messages = [{"type": "http.request", "body": b'{"query": " the"}', "more_body": False}]
        sent: list[dict] = []

        async def receive():
            if messages:
                return messages.pop()
            await asyncio.sleep(after)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": NEXT,
            "raw_path": NEXT.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await ask.app(scope, receive, send)
        return sent

    async def run():
        first = asyncio.create_task(gone(0.1))
        await begun(slow, 1)
        others = await asyncio.gather(*(gone(0.05) for _ in range(20)))
        return [await first, *others]

    for sent in asyncio.run(run()):
        assert sent[0]["status"] == 499
    assert workers.inside == 0
    slow.end.set()
    assert ask.v1("next", query=" the")["count"] > 0
    # Of the twenty that waited none was begun.
    assert slow.begun.acquire(blocking=False)
    assert not slow.begun.acquire(blocking=False)


def test_a_server_that_stops_takes_no_more(index):
    ask = Asker(index.path)
    ask.app.state.service.close()
    refused(ask.post(NEXT, {"query": " the"}), 503, "max_waiting")
    assert ask("GET", "/health").status_code == 503
