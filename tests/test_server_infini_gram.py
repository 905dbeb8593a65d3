"""`POST /` against infini-gram's own engine on the same files, and against what its server says of bad requests."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

from served_index import Asker, build, nested, package_engine, raw

from memindex.index import Index
from memindex.server import batching

SEPARATOR = 65_535


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def ask(index) -> Asker:
    return Asker(index.path)


@pytest.fixture(scope="module")
def engine(index):
    return package_engine(index)


@pytest.fixture(scope="module")
def ngrams(index) -> list[list[int]]:
    """Pieces of the corpus, some across the start of a document, some that never occur, and the empty one."""
    random = np.random.default_rng(4)
    tokens = index.tokens_of_shard(0)
    pieces = [tokens[s : s + n].tolist() for n in (1, 2, 3, 5, 9) for s in random.integers(0, len(tokens) - 9, 12)]
    return [[], [SEPARATOR], [7, 7, 7, 7], *pieces, *([300, *piece] for piece in pieces[:12])]


def without_frame(answer: dict) -> dict:
    return {key: value for key, value in answer.items() if key not in ("latency", "token_ids", "tokens")}


def test_counts_are_the_engines(ask, engine, ngrams):
    for ids in ngrams:
        answer = ask.infini_gram(query_type="count", query_ids=ids)
        assert without_frame(answer) == engine.count(ids)
        assert answer["token_ids"] == ids
        assert len(answer["tokens"]) == len(ids)
        assert answer["latency"] >= 0


def test_find_is_the_engines(ask, engine, ngrams):
    for ids in ngrams:
        found = json.loads(json.dumps(engine.find(ids)))
        assert without_frame(ask.infini_gram(query_type="find", query_ids=ids)) == found


@pytest.mark.parametrize("query_type", ["prob", "infgram_prob"])
def test_probabilities_are_the_engines(ask, index, engine, ngrams, query_type):
    for ids in filter(None, ngrams):
        answer = without_frame(ask.infini_gram(query_type=query_type, query_ids=ids))
        suffix = answer.pop("longest_suffix", None)
        assert answer == getattr(engine, query_type)(ids[:-1], ids[-1])
        if suffix is not None and SEPARATOR not in ids:
            assert suffix == index.tokenizer.decode(ids[len(ids) - 1 - answer["suffix_len"] : -1])


@pytest.mark.parametrize("query_type", ["ntd", "infgram_ntd"])
def test_distributions_are_the_engines_where_it_takes_no_sample(ask, index, engine, ngrams, query_type):
    compared = 0
    for ids in ngrams:
        expected = getattr(engine, query_type)(ids)
        answer = without_frame(ask.infini_gram(query_type=query_type, query_ids=ids))
        assert answer["approx"] is False
        if expected["approx"]:
            continue
        compared += 1
        assert list(answer["result_by_token_id"]) == [str(token) for token in expected["result_by_token_id"]]
        for token, entry in answer.pop("result_by_token_id").items():
            assert entry.pop("token") == index.tokenizer.names([int(token)])[0].replace("Ġ", " ")
            assert entry == expected["result_by_token_id"][int(token)]
        del expected["result_by_token_id"]
        answer.pop("longest_suffix", None)
        assert answer == expected
    assert compared > 20


def test_a_documents_end_is_the_eos_token(ask, index):
    end = str(index.tokenizer.eos_token_id)
    ids = index.tokenizer.encode(" quick brown")
    entry = ask.infini_gram(query_type="ntd", query_ids=ids)["result_by_token_id"][end]
    assert entry["cont_cnt"] == int(index.next_tokens([ids]).ends[0]) > 0
    assert entry["token"] == "<|endoftext|>"


def test_documents_by_rank_and_place_are_the_engines(ask, engine, index):
    for shard, ranks in ((0, (0, 5, 77)), (1, (3, 400, len(index.shards[1]) - 1))):
        for rank in ranks:
            for most in (1, 2, 7, 1000):
                answer = without_frame(
                    ask.infini_gram(query_type="get_doc_by_rank", query_ids=[], s=shard, rank=rank, max_disp_len=most)
                )
                expected = engine.get_doc_by_rank(s=shard, rank=rank, max_disp_len=most)
                assert answer.pop("spans")[0][1] is None
                shown = expected.pop("token_ids")
                if expected["needle_offset"] > 1 << 40:
                    expected["needle_offset"] = -1  # the engine's number for the separator wraps around
                assert answer == expected
                assert len(shown) == answer["disp_len"]
    ptr = 2 * 31
    answer = ask.infini_gram(query_type="get_doc_by_ptr", query_ids=[[[1]]], s=0, ptr=ptr)
    expected = engine.get_doc_by_ptr(s=0, ptr=ptr)
    assert answer["doc_ix"] == expected["doc_ix"]
    assert json.loads(answer["metadata"])["metadata"] == json.loads(expected["metadata"])["metadata"]
    assert answer["token_ids"] == [[[1]]]


def test_find_then_get_a_document_as_clients_do(ask):
    found = ask.infini_gram(query_type="find", query="brown fox")
    assert found["cnt"] > 1
    for shard, (start, end) in enumerate(found["segment_by_shard"]):
        for rank in range(start, min(end, start + 3)):
            document = ask.infini_gram(query_type="get_doc_by_rank", query="brown fox", s=shard, rank=rank)
            assert " brown fox" in [text for text, label in document["spans"] if label == "0"]
            assert document["blocked"] is False


@pytest.mark.parametrize("query", ["quick brown", "quick AND wizards", "quick OR lazy AND dog OR fox"])
def test_search_docs(ask, query):
    answer = ask.infini_gram(query_type="search_docs", query=query, maxnum=4, max_disp_len=30)
    count = ask.infini_gram(query_type="count", query=query)["count"]
    assert (answer["cnt"], answer["approx"]) == (count, False)
    assert len(answer["documents"]) == len(set(answer["idxs"])) == min(4, count)
    numbers = answer["idxs"]
    assert answer["message"] == f"{count} occurrences found. Displaying the documents of occurrences #{numbers}"
    for document in answer["documents"]:
        assert document["disp_len"] == len(document["token_ids"]) <= 30
        assert {label for _, label in document["spans"]} & {"0", "1"}


def test_search_without_a_match(ask):
    answer = ask.infini_gram(query_type="search_docs", query="dogdogdogdog")
    assert (answer["cnt"], answer["idxs"], answer["documents"]) == (0, [], [])
    assert answer["message"] == "0 occurrences found"


def test_cnf_is_counted_as_the_index_counts_it(ask, index):
    cnf = [[index.tokenizer.encode(text) for text in texts] for texts in ([" quick", " lazy"], [" dog"])]
    exact = index.count_cnf(cnf, max_distance=7)
    answer = ask.infini_gram(query_type="count", query="quick OR lazy AND dog", max_diff_tokens=7, max_clause_freq=1)
    assert (answer["count"], answer["approx"], answer["token_ids"]) == (exact.low, False, cnf)
    found = ask.infini_gram(query_type="find_cnf", query_ids=cnf, max_diff_tokens=7)
    places = index.find_cnf(cnf, max_distance=7)
    assert found["cnt"] == exact.low > 0
    expected = [2 * places.positions[places.shards == shard] for shard in range(2)]
    assert found["ptrs_by_shard"] == [places.tolist() for places in expected]
    for shard, ptrs in enumerate(found["ptrs_by_shard"]):
        document = ask.infini_gram(query_type="get_doc_by_ptr", query_ids=cnf, s=shard, ptr=ptrs[0])
        assert {label for _, label in document["spans"]} == {None, "0", "1"}


def test_answers_where_infini_gram_is_wrong(ask, engine, index):
    one = index.tokenizer.encode(" quick")
    twice = ask.infini_gram(query_type="count", query_ids=[[one, one]])["count"]
    assert twice == index.count_one(one)
    assert engine.count_cnf([[one, one]])["count"] == 2 * twice
    assert ask.infini_gram(query_type="infgram_ntd", query="\x01")["longest_suffix"] == ""


def test_texts_get_a_space_in_front(ask, index):
    answer = ask.infini_gram(query_type="count", query="brown fox")
    assert answer["token_ids"] == index.tokenizer.encode(" brown fox")
    assert answer["tokens"] == ["Ġbrown", "Ġfox"]
    assert answer["count"] == index.count_one(answer["token_ids"])
    empty = ask.infini_gram(query_type="count", query="")
    assert (empty["count"], empty["token_ids"]) == (sum(map(len, index.shards)), [])


def test_old_clients_say_corpus(ask, index):
    body = {"corpus": "served", "query_type": "count", "query": "the", "engine": "x", "source": 1, "timestamp": 2}
    assert ask.post("/", body).json()["count"] == index.count(" the")[0]
    assert ask("GET", "/").json() == ["served"]


LONG = " ".join(["a"] * 501)

#: Fields, status, error: as the published server answers them.
ERRORS = [
    ({"query": 5}, 200, "query must be a string!"),
    ({"query": "a" * 1001}, 200, "Please limit your input to <= 1000 characters!"),
    ({"query_ids": [1] * 501}, 200, "Please limit your input to <= 500 tokens!"),
    ({"query_ids": [[[1] * 300], [[1] * 201]]}, 200, "Please limit your input to <= 500 tokens!"),
    ({"query_ids": [70_000]}, 200, "Some item(s) in your query_ids are out-of-range!"),
    ({"query_ids": [-1]}, 200, "Some item(s) in your query_ids are out-of-range!"),
    ({"query_ids": [[[1 << 80]]]}, 200, "Some item(s) in your query_ids are out-of-range!"),
    (
        {"query_ids": "1 2"},
        200,
        "query_ids must be a list of integers, or a triply-nested list of integers!",
    ),
    ({"query_ids": [True]}, 200, "query_ids must be a list of integers, or a triply-nested list of integers!"),
    ({"query_ids": [[1]]}, 200, "query_ids must be a list of integers, or a triply-nested list of integers!"),
    ({"query_ids": None}, 200, "query_ids must be a list of integers, or a triply-nested list of integers!"),
    ({"query": "a AND b AND c AND d AND e"}, 200, "Please enter at most 4 disjunctive clauses!"),
    ({"query": "a OR b OR c OR d OR e"}, 200, "Please enter at most 4 terms in each disjunctive clause!"),
    ({"query_type": "prob", "query": ""}, 200, "Please provide a non-empty query!"),
    ({"query_type": "infgram_prob", "query_ids": []}, 200, "Please provide a non-empty query!"),
    ({"query_type": "ntd", "query": "a", "max_support": 1001}, 200, "max_support must be an integer in [1, 1000]!"),
    ({"query_type": "ntd", "query": "a", "max_support": True}, 200, "max_support must be an integer in [1, 1000]!"),
    ({"query_type": "infgram_ntd", "query": "", "max_support": 0}, 200, "max_support must be an integer in [1, 1000]!"),
    (
        {"query": "a AND b", "max_clause_freq": 500_001},
        200,
        "max_clause_freq must be an integer in [1, 500000]!",
    ),
    ({"query": "a AND b", "max_diff_tokens": "9"}, 200, "max_diff_tokens must be an integer in [1, 1000]!"),
    ({"query_type": "search_docs", "query": "a", "maxnum": 11}, 200, "maxnum must be an integer in [1, 10]!"),
    (
        {"query_type": "search_docs", "query": "a", "max_disp_len": 10_001},
        200,
        "max_disp_len must be an integer in [1, 10000]!",
    ),
    (
        {"query_type": "get_doc_by_rank", "query": "a", "s": 2, "rank": 0},
        200,
        "s must be an integer in range [0, 2)",
    ),
    ({"query_type": "find", "query": "a AND b"}, 200, "input_ids must be a list of integers in range [0, 65535]"),
    ({"query_type": "ntd", "query": "a AND b"}, 200, "prompt_ids must be a list of integers in range [0, 65535]"),
    (
        {"query_type": "prob", "query": "a AND b"},
        200,
        "prompt_ids must be a non-empty list of integers in range [0, 65535]",
    ),
    ({"query_type": "prob", "query_ids": [[[1]]]}, 200, "cont_id must be an integer in range [0, 65535]"),
    (
        {"query": "a AND "},
        200,
        "cnf must be a non-empty, triply-nested list of integers in range [0, 65535]",
    ),
    (
        {"query_type": "find_cnf", "query": "a"},
        200,
        "cnf must be a non-empty, triply-nested list of integers in range [0, 65535]",
    ),
    ({"index": "x", "query": "a"}, 400, "[Flask] Invalid index: x"),
    ({"index": ["x"], "query": "a"}, 400, "[Flask] Invalid index: ['x']"),
    ({"query_type": "x", "query": "a"}, 400, "[Flask] Invalid query_type: x"),
    ({"query_type": "__init__", "query": "a"}, 400, "[Flask] Invalid query_type: __init__"),
    ({}, 400, "[Flask] Exactly one of query and query_ids must be present!"),
    ({"query": "a", "query_ids": [1]}, 400, "[Flask] Exactly one of query and query_ids must be present!"),
    (
        {"query": "a", "foo": 1},
        500,
        "[Flask] Internal server error: Processor.count() got an unexpected keyword argument 'foo'",
    ),
    (
        {"query": "a", "max_diff_tokens": 1},
        500,
        "[Flask] Internal server error: Processor.count() got an unexpected keyword argument 'max_diff_tokens'",
    ),
    (
        {"query_type": "get_doc_by_rank", "query": "a"},
        500,
        "[Flask] Internal server error: Processor.get_doc_by_rank() missing 2 required positional arguments: "
        "'s' and 'rank'",
    ),
    (
        {"query_type": "get_doc_by_ptr", "query": "a", "s": 0},
        500,
        "[Flask] Internal server error: Processor.get_doc_by_ptr() missing 1 required positional argument: 'ptr'",
    ),
]


@pytest.mark.parametrize(("fields", "status", "error"), ERRORS)
def test_errors_are_those_of_the_published_server(ask, fields, status, error):
    answer = ask.infini_gram(status, **{"query_type": "count", **fields})
    assert answer["error"] == error


def test_ranks_and_places_outside_a_shard(ask, index):
    ranks = len(index.shards[1])
    for rank in (ranks, -1, "0", None, 1.0):
        answer = ask.infini_gram(query_type="get_doc_by_rank", query="a", s=1, rank=rank)
        assert answer["error"] == f"ptr must be an integer in range [0, {ranks})"
    for ptr in (2 * ranks, 3, -2):
        answer = ask.infini_gram(query_type="get_doc_by_ptr", query_ids=[[[1]]], s=1, ptr=ptr)
        assert answer["error"] == f"ptr must be an even integer in range [0, {2 * ranks})"


@pytest.mark.parametrize("missing", ["query_type", "index"])
def test_missing_fields(ask, missing):
    body = {"index": "served", "query_type": "count", "query": "a"}
    del body[missing]
    answer = ask.post("/", body)
    assert (answer.status_code, answer.json()) == (400, {"error": f"[Flask] Missing required field: '{missing}'"})


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "5", '{"a": NaN}', '"\\ud800"', nested(5000), b"\xff\xfe{}", "[" * 90_000]
)
def test_what_is_no_json_object(ask, body):
    answer = ask("POST", "/", **raw(body))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("[Flask] ")


def test_bodies_that_no_query_needs_are_refused(ask):
    answer = ask("POST", "/", **raw("[" + "1," * 200_000 + "1]"))
    assert (answer.status_code, answer.json()) == (
        413,
        {"error": "[Flask] The body is too large: at most 262,144 bytes!"},
    )
    answer = ask.post("/", {"index": "served", "query_type": "count", "query_ids": [1] * 50_000})
    assert answer.json() == {"error": "Please limit your input to <= 500 tokens!"}
    for field in ("index", "query_type"):
        answer = ask.post("/", {"index": "served", "query_type": "count", "query": "a", field: "x" * 100_000})
        assert answer.status_code == 400
        assert len(answer.text) < 300


def test_counts_of_many_clients_share_lookups(ask, index, monkeypatch):
    # As on a disk: where lookups are quick, none is waited for.
    monkeypatch.setattr(batching, "QUICK", 0.0)
    ids = [[token] for token in range(300)]

    async def together():
        bodies = [{"index": "served", "query_type": "count", "query_ids": row} for row in ids]
        return await asyncio.gather(*(ask.ask("POST", "/", json=body) for body in bodies))

    answers = asyncio.run(together())
    assert [answer.json()["count"] for answer in answers] == index.count(ids).tolist()
    metrics = ask("GET", "/metrics").text
    (batches,) = [line for line in metrics.splitlines() if line.startswith("memindex_count_batch_queries_count ")]
    (queries,) = [line for line in metrics.splitlines() if line.startswith("memindex_count_batch_queries_sum ")]
    assert float(batches.split()[1]) < float(queries.split()[1])


def test_byte_indexes(tmp_path_factory):
    index = build(tmp_path_factory.mktemp("bytes"), tokenizer="bytes")
    ask = Asker(index.path)
    answer = ask.infini_gram(query_type="count", query="caf\\xc3\\xa9")
    assert answer["token_ids"] == list("café".encode())
    assert answer["tokens"] == ["c", "a", "f", "\xc3", "\xa9"]
    assert answer["count"] == index.count("café")[0] > 0
    found = ask.infini_gram(query_type="infgram_ntd", query="\\x00caf\\xc3")
    assert found["longest_suffix"] == "caf\\xc3"
    assert ask.infini_gram(query_type="count", query="\\xff")["error"].startswith("Some item(s)")
    end = ask.infini_gram(query_type="ntd", query="")["result_by_token_id"]["0"]
    assert end["cont_cnt"] == index.manifest.documents


def test_an_index_without_a_tokenizer_takes_ids(tmp_path_factory):
    from infini_gram_folder import write_folder

    path = write_folder(tmp_path_factory.mktemp("plain") / "served", [[[1, 2, 3], [4, 1, 2]]], 2)
    ask = Asker(path)
    assert ask.infini_gram(query_type="count", query_ids=[1, 2])["count"] == 2
    assert ask.infini_gram(query_type="count", query="a")["error"] == "served has no tokenizer: ask with query_ids"
    document = ask.infini_gram(query_type="get_doc_by_rank", query_ids=[1], s=0, rank=0)
    assert document["metadata"] == ""
