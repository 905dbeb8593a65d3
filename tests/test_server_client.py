"""What programs written for infini-gram's API do with it, over sockets: they get the answers of index and engine."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

import httpx
from served_app import running
from served_index import TEXT, build, package_engine

from memindex.index import Index
from memindex.server.config import Limits, ServerConfig
from memindex.server.work import Workers

#: Clients at a time, and what makes one ask again, as published ones have it.
CLIENTS = 25
RETRIED = {403, 408, 429, 500, 502, 503, 504}


class Client:
    """A program's session: it asks again where the server is busy, and checks that its ids came back."""

    def __init__(self, url: str) -> None:
        self.url, self.session = url, httpx.Client(timeout=30)
        self.statuses: Counter[int] = Counter()

    def ask(self, query_type: str, **fields: Any) -> dict:
        for _ in range(50):
            answer = self.session.post(self.url, json={"index": "served", "query_type": query_type, **fields})
            self.statuses[answer.status_code] += 1
            if answer.status_code not in RETRIED:
                break
            assert float(answer.headers["retry-after"]) > 0
            assert "error" in answer.json()
        told = answer.json()
        assert answer.status_code == 200, told
        assert "error" not in told
        assert told["latency"] >= 0
        if "query_ids" in fields:
            assert told["token_ids"] == fields["query_ids"]
        return told

    def documents(self, **query: Any) -> list[dict]:
        """Every document that holds a query, by its ranks in all segments."""
        found = self.ask("find", **query)
        ranks = [(s, r) for s, (start, end) in enumerate(found["segment_by_shard"]) for r in range(start, end)]
        assert len(ranks) == found["cnt"]
        return [self.ask("get_doc_by_rank", **query, s=s, rank=rank, max_disp_len=30) for s, rank in ranks]


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def engine(index):
    return package_engine(index)


@pytest.fixture(scope="module")
def address(index):
    with running(ServerConfig((index.path,), limits=Limits(max_concurrent=2))) as url:
        yield url


@pytest.fixture
def client(address):
    made = Client(address)
    with made.session:
        yield made


def in_threads(address: str, do: Callable[[Client, int], Any]) -> tuple[list[Any], Counter[int]]:
    """What `do` returns for the number of each client, all beginning together; and the statuses they saw."""
    together = threading.Barrier(CLIENTS)

    def work(number: int) -> tuple[Any, Counter[int]]:
        client = Client(address)
        with client.session:
            together.wait(30)
            return do(client, number), client.statuses

    with ThreadPoolExecutor(CLIENTS) as threads:
        done = list(threads.map(work, range(CLIENTS)))
    return [answer for answer, _ in done], sum((statuses for _, statuses in done), Counter())


def test_every_document_of_a_query_by_rank(client, index, engine):
    ids = index.tokenizer.encode(" brown fox")
    documents = client.documents(query_ids=ids)
    assert len(documents) == engine.count(ids)["count"] == index.count_one(ids) > 10
    rows = index.documents([ids], limit=len(documents), text=False).to_pylist()
    expected = Counter(json.loads(row["metadata"])["n"] for row in rows)
    assert Counter(json.loads(document["metadata"])["metadata"]["n"] for document in documents) == expected
    for document in documents:
        assert {"doc_len", "disp_len", "needle_offset", "metadata", "spans", "blocked"} <= set(document)
        assert " brown fox" in [text for text, label in document["spans"] if label == "0"]


def test_every_rank_is_the_engines(client, index, engine):
    ids = index.tokenizer.encode(" quick brown fox")
    for shard, (start, end) in enumerate(engine.find(ids)["segment_by_shard"]):
        for rank in range(start, end):
            asked = {"s": shard, "rank": rank, "max_disp_len": 20}
            answer, expected = client.ask("get_doc_by_rank", query_ids=ids, **asked), engine.get_doc_by_rank(**asked)
            for key in ("doc_ix", "doc_len", "disp_len", "needle_offset", "metadata"):
                assert answer[key] == expected[key], key


def test_documents_of_a_cnf_query_by_place(client, index, engine):
    cnf = [[index.tokenizer.encode(text) for text in texts] for texts in ([" quick", " lazy"], [" dog"])]
    found = client.ask("find_cnf", query_ids=cnf)
    assert found["cnt"] == sum(map(len, found["ptrs_by_shard"])) > 10
    for shard, ptrs in enumerate(found["ptrs_by_shard"]):
        for ptr in ptrs[:10]:
            asked = {"s": shard, "ptr": ptr, "max_disp_len": 1000}
            answer, expected = client.ask("get_doc_by_ptr", query_ids=cnf, **asked), engine.get_doc_by_ptr(**asked)
            for key in ("doc_ix", "doc_len", "metadata"):
                assert answer[key] == expected[key], key
            assert {"0", "1"} <= {label for _, label in answer["spans"]}


def test_texts_are_looked_for_by_hundreds_of_counts(address, index):
    tokens = index.tokenizer.encode(TEXT)
    pieces = [tokens[start : start + n] for n in (1, 2, 4) for start in range(len(tokens) - n + 1)]
    expected = index.count(pieces).tolist()

    def existing(client: Client, number: int) -> list[int]:
        return [client.ask("count", query_ids=piece)["count"] for piece in pieces[number::CLIENTS]]

    answers, statuses = in_threads(address, existing)
    assert answers == [expected[number::CLIENTS] for number in range(CLIENTS)]
    assert set(statuses) == {200}


def test_clients_that_are_sent_away_come_again(address, index, monkeypatch):
    """For its first requests the server is full."""
    refusals = iter([False] * 40)
    monkeypatch.setattr(Workers, "ready", property(lambda workers: next(refusals, True)))
    queries = [" fox", " brown fox", " lazy dog", " nothing of it"]
    expected = [index.count_one(index.tokenizer.encode(query)) for query in queries]

    def look(client: Client, number: int) -> tuple[int, int]:
        query = queries[number % len(queries)]
        documents = client.documents(query=query.strip()) if number < 2 else []
        assert len(documents) == (expected[number] if documents else 0)
        return client.ask("count", query=query.strip())["count"], client.ask("ntd", query=query.strip())["prompt_cnt"]

    answers, statuses = in_threads(address, look)
    assert answers == [(expected[number % len(queries)],) * 2 for number in range(CLIENTS)]
    assert statuses[503] == 40
    assert set(statuses) == {200, 503}
