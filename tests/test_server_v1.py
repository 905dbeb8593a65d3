"""Our own API against the index's methods, and against the models that its OpenAPI promises."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

from served_index import Asker, build, package_engine
from synthetic_corpus import sentencepiece, write_jsonl

from memindex.index import Index, build_index
from memindex.server import models, olmotrace_models

ARROW = "application/vnd.apache.arrow.stream"
TEXT = "I saw the quick brown fox jumps over a dog in cafés of Zürich. Nothing else was there, quick brown"


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def ask(index) -> Asker:
    return Asker(index.path)


def test_indexes_are_described(ask, index):
    listed = models.IndexList.model_validate_json(ask("GET", "/v1/indexes").text)
    one = models.IndexInfo.model_validate_json(ask("GET", "/v1/indexes/served").text)
    assert listed.indexes == [one]
    assert (one.name, one.documents, one.tokens) == ("served", index.manifest.documents, index.manifest.tokens)
    assert [domain.name for domain in one.domains] == index.domains


@pytest.mark.parametrize("number", [1, 3, 200])
def test_counts(ask, index, number):
    texts = ["".join(TEXT[i % 40 : i % 40 + 1 + i % 11]) for i in range(number)]
    ids = [index.tokenizer.encode(text) for text in texts]
    for queries in (texts, ids):
        answer = ask.v1("count", queries=queries)
        models.CountAnswer.model_validate(answer)
        assert [entry["tokens"] for entry in answer["counts"]] == ids
        assert [entry["count"] for entry in answer["counts"]] == index.count(ids).tolist()
        domains = ask.v1("count", queries=queries, by_domain=True)["counts"]
        in_domains = [[entry["domains"].get(name, 0) for name in index.domains] for entry in domains]
        assert in_domains == index.count_by_domain(ids).tolist()
        assert all(all(entry["domains"].values()) for entry in domains)
        assert [entry["count"] for entry in domains] == index.count(ids).tolist()


def test_longest_matches(ask, index):
    answer = ask.v1("longest-match", queries=[TEXT, " fox"])
    models.LongestMatchAnswer.model_validate(answer)
    found = index.longest_match([TEXT, " fox"])
    assert [n for entry in answer["matches"] for n in entry["lengths"]] == found.lengths.tolist()
    assert [n for entry in answer["matches"] for n in entry["counts"]] == found.counts.tolist()


def test_documents(ask, index):
    answer = ask.v1("documents", query=" brown", limit=7, max_tokens=12)
    models.DocumentsAnswer.model_validate(answer)
    table = index.documents(" brown", 7, max_tokens=12)
    assert [d["tokens"] for d in answer["documents"]] == table.column("tokens").to_pylist()
    for document, text in zip(answer["documents"], table.column("text").to_pylist(), strict=True):
        first, end = document["match_characters"]
        assert document["text"][first:end] == " brown"
        assert document["text"] == text
        assert document["domain"] == f"d{document['metadata']['n'] % 3}"
        assert document["path"].endswith("a.jsonl")
    assert answer["count"] == index.count(" brown")[0]
    assert answer["documents_at_least"] == answer["documents_at_most"] == index.document_count(" brown").low[0]
    seeds = {json.dumps(ask.v1("documents", query=" brown", limit=2, seed=seed)["documents"]) for seed in range(5)}
    assert len(seeds) > 1


def test_next_tokens(ask, index):
    answer = ask.v1("next", query=" quick", top=3, by_domain=True)
    models.NextAnswer.model_validate(answer)
    found = index.next_tokens(" quick", by_domain=True)
    assert [entry["token"] for entry in answer["next"]] == found.ids[:3].tolist()
    assert [entry["count"] for entry in answer["next"]] == found.counts[:3].tolist()
    assert [answer["next"][0]["domains"].get(name, 0) for name in index.domains] == found.domains[0].tolist()
    assert answer["distinct"] == len(found.ids)
    assert answer["next"][0]["text"].startswith(" ")
    never = ask.v1("next", query="dogdogdogdog")
    assert (never["count"], never["share"], never["next"]) == (0, None, [])


def test_trace(ask, index):
    answer = ask.v1("trace", query=TEXT, min_tokens=3, sources=4)
    models.TraceAnswer.model_validate(answer)
    tokens = index.tokenizer.encode(TEXT)
    found = index.spans([tokens], min_tokens=3)
    spans = answer["spans"]
    assert [span["start"] for span in spans] == found.start.tolist()
    assert [span["count"] for span in spans] == found.counts.tolist()
    inside = np.zeros(len(tokens), dtype=bool)
    for span in spans:
        end = span["start"] + span["length"]
        inside[span["start"] : end] = True
        first, last = span["characters"]
        assert TEXT[first:last].strip() == span["text"].strip()
        shares = index.count([[token] for token in tokens[span["start"] : end]]) / index.manifest.tokens
        assert span["rarity"] == pytest.approx(-np.log2(shares).sum())
        assert len(span["sources"]) == min(4, span["count"])
    assert answer["covered"] == inside.sum()
    assert answer["coverage"] == inside.mean()
    documents = answer["documents"]
    assert [d["rarity"] for d in documents] == sorted((d["rarity"] for d in documents), reverse=True)
    sources = {(s["shard"], s["document"]) for span in spans for s in span["sources"]}
    assert len(documents) == min(10, len(sources))
    for document in documents:
        for number in document["spans"]:
            assert any(s["document"] == document["document"] for s in spans[number]["sources"])
    by_ids = ask.v1("trace", query=tokens, min_tokens=3, sources=0, max_count=5)
    assert by_ids["documents"] == []
    assert all(span["characters"] is None and span["count"] <= 5 for span in by_ids["spans"])


def test_tokenize(ask, index):
    answer = ask.v1("tokenize", texts=[TEXT, "", "é€😀"])
    models.TokenizeAnswer.model_validate(answer)
    for entry, text in zip(answer["texts"], [TEXT, "", "é€😀"], strict=True):
        assert entry["tokens"] == index.tokenizer.encode(text)
        assert len(entry["pieces"]) == len(entry["characters"]) == len(entry["tokens"])
    assert "".join(answer["texts"][0]["pieces"]).replace("\ufffd", "") == TEXT.replace("é", "").replace("ü", "")


def test_ids_are_written_as_text(ask, index):
    ids = index.tokenizer.encode(f" {TEXT}")
    (entry,) = ask.v1("tokenize", texts=[ids])["texts"]
    assert entry == {
        "tokens": ids,
        "text": f" {TEXT}",
        "pieces": ask.v1("tokenize", texts=[f" {TEXT}"])["texts"][0]["pieces"],
        "characters": None,
    }
    assert ask.v1("tokenize", texts=[[]])["texts"][0] == {"tokens": [], "text": "", "pieces": [], "characters": None}
    assert "out of range" in ask.v1("tokenize", 400, texts=[[1 << 20]])["detail"]
    assert "too long" in ask.v1("tokenize", 413, texts=[[1] * 100_000])["detail"]


def stream(column: pa.Array, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"any name": column})
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=7)
    return sink.getvalue().to_pybytes()


def post_arrow(ask, body: bytes, parameters: str = ""):
    return ask("POST", f"/v1/indexes/served/count.arrow{parameters}", content=body, headers={"Content-Type": ARROW})


def read(answer) -> pa.Table:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == ARROW
    with pa.ipc.open_stream(answer.content) as reader:
        return reader.read_all()


@pytest.mark.filterwarnings("ignore:gigatoken can't read")
def test_every_way_to_ask_takes_a_text_as_it_stands_inside_documents(tmp_path):
    # Its tokens are ▁, b, \n, ab, ▁ab, \n, ab.
    write_jsonl(tmp_path / "a.jsonl", [{"text": "b\nab ab\nab"}])
    build_index([tmp_path / "a.jsonl"], tmp_path / "served", tokenizer=sentencepiece(tmp_path / "tokenizer.json"))
    ask, texts, counts = Asker(tmp_path / "served"), ["\nab", "ab", " ab", "ab\nab"], [2, 1, 1, 1]
    assert Index.open(tmp_path / "served").count(texts).tolist() == counts
    assert read(post_arrow(ask, stream(pa.array(texts)))).column("count").to_pylist() == counts
    for times in (1, 100):
        answer = ask.post("/v1/indexes/served/count", {"queries": texts * times}).json()
        assert [entry["count"] for entry in answer["counts"]] == counts * times
    for text, count in zip(texts, counts, strict=True):
        assert ask.post("/", {"index": "served", "query_type": "count", "query": text}).json()["count"] == count


def test_counts_through_arrow(ask, index):
    texts = [TEXT[i : i + 9] for i in range(50)]
    rows = [index.tokenizer.encode(text) for text in texts]
    counts, by_domain = index.count(rows).tolist(), index.count_by_domain(rows)
    kinds = [
        pa.array(texts),
        pa.array(texts, pa.large_string()),
        pa.array(rows, pa.list_(pa.int32())),
        pa.array(rows, pa.large_list(pa.uint32())),
    ]
    for column in kinds:
        table = read(post_arrow(ask, stream(column), "?by_domain=true"))
        assert table.column("count").to_pylist() == counts
        for place, name in enumerate(index.domains):
            assert table.column(f"domain:{name}").to_pylist() == by_domain[:, place].tolist()
        assert ("tokens" in table.column_names) == (not pa.types.is_nested(column.type))
    assert read(post_arrow(ask, stream(pa.array(texts)))).column("tokens").to_pylist() == rows
    assert read(post_arrow(ask, stream(pa.array(texts)), "?tokens=false")).column_names == ["count"]
    fixed = pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2))
    assert read(post_arrow(ask, stream(fixed))).column("count").to_pylist() == index.count([[1, 2], [3, 4]]).tolist()
    assert read(post_arrow(ask, stream(pa.array([], pa.string())))).num_rows == 0


def cut(size: int) -> bytes:
    return stream(pa.array(["a", "b"]))[:size]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "no Arrow IPC stream"),
        (b"nonsense" * 40, 400, "no Arrow IPC stream"),
        (cut(200), 400, "no Arrow IPC stream"),
        (stream(pa.array(["a"] * 90), compression="zstd"), 400, "compressed"),
        (stream(pa.array([1.5])), 400, "double"),
        (stream(pa.array(["a", "b"]).dictionary_encode()), 400, "dictionar"),
        (stream(pa.array(["a", None])), 400, "NULL"),
        (stream(pa.array([[1], [1, None]])), 400, "NULL"),
        (stream(pa.array([[1], []], pa.list_(pa.int32()))), 400, "query 1 is empty"),
        (stream(pa.array(["a", ""])), 400, "query 1 is empty"),
        (stream(pa.array([[1 << 40]])), 400, "out of range"),
        (stream(pa.array([[-1]])), 400, "out of range"),
        (stream(pa.array([[70_000]])), 400, "out of range"),
    ],
)
def test_arrow_streams_that_are_none(ask, body, status, says):
    answer = post_arrow(ask, body)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]


def test_damaged_arrow_streams_never_end_the_server(ask):
    whole = stream(pa.array([[1, 2], [3], [4, 5, 6]] * 5, pa.list_(pa.int32())))
    random = np.random.default_rng(8)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), int(random.integers(1, 4))):
            damaged[place] = int(random.integers(0, 256))
        assert post_arrow(ask, bytes(damaged)).status_code in (200, 400, 413)


@pytest.mark.parametrize(
    ("what", "body", "status", "says"),
    [
        ("count", {"queries": []}, 422, "queries"),
        ("count", {"queries": ["a", 1]}, 422, "queries"),
        ("count", {"queries": [[1], ["a"]]}, 422, "queries"),
        ("count", {"queries": [[True]]}, 422, "queries"),
        ("count", {"queries": "a"}, 422, "queries"),
        ("count", {"queries": [[-1]]}, 422, "queries"),
        ("count", {"queries": ["a"], "bydomain": True}, 422, "bydomain"),
        ("count", {"queries": ["a", ""]}, 400, "empty"),
        ("count", {"queries": [[1], []]}, 400, "empty"),
        ("count", {"queries": [[65_535]]}, 400, "out of range"),
        ("count", [], 422, "object"),
        ("documents", {"query": "a", "limit": 0}, 422, "limit"),
        ("documents", {"query": "a", "seed": -1}, 422, "seed"),
        ("next", {"query": ""}, 400, "empty"),
        ("trace", {"query": ""}, 400, "empty"),
        ("trace", {"query": []}, 400, "empty"),
        ("tokenize", {"texts": [1]}, 422, "texts"),
        ("nothing", {}, 404, "no such route"),
    ],
)
def test_bad_requests_are_told_why(ask, what, body, status, says):
    answer = ask.post(f"/v1/indexes/served/{what}", body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert says in problem["detail"]


@pytest.mark.parametrize("what", ["count", "next", "count.arrow", "trace", "documents", "tokenize", "longest-match"])
def test_unknown_indexes(ask, what):
    answer = ask("POST", f"/v1/indexes/no/{what}", content=b"{}")
    assert (answer.status_code, answer.json()["detail"]) == (404, "no index 'no' here: GET /v1/indexes lists them")


def test_other_methods_and_routes(ask):
    assert ask("GET", "/v1/indexes/served/count").status_code == 405
    assert ask("DELETE", "/").json() == {"error": "Method Not Allowed"}
    assert ask("GET", "/v1/indexes/../../etc/passwd").status_code == 404
    assert ask("GET", "/docs").status_code == 404


def test_an_index_without_a_tokenizer_and_domains(tmp_path_factory):
    from infini_gram_folder import write_folder

    ask = Asker(write_folder(tmp_path_factory.mktemp("plain") / "served", [[[1, 2, 3], [4, 1, 2]]], 2))
    assert ask.v1("count", queries=[[1, 2]])["counts"][0]["count"] == 2
    for what, body in (("count", {"queries": ["a"]}), ("trace", {"query": "a"}), ("tokenize", {"texts": ["a"]})):
        assert "no tokenizer" in ask.v1(what, 400, **body)["detail"]
    assert "no domains" in ask.v1("count", 400, queries=[[1]], by_domain=True)["detail"]
    assert "no domains" in ask.v1("next", 400, query=[1], by_domain=True)["detail"]
    (document, _) = ask.v1("documents", query=[1, 2])["documents"]
    first, end = document["match_characters"]
    assert document["text"][first:end] == "1 2 "
    assert ask.v1("trace", query=[1, 2, 3], min_tokens=2)["spans"][0]["text"] is None


def test_attribution_as_olmotrace_asks(ask, index):
    body = {"response": TEXT, "maximumFrequency": 1000, "maximumSpanDensity": 0.5, "maximumContextLength": 6}
    answer = ask.post("/served/attribution", body | {"minimumSpanLength": 2, "maximumContextLengthSnippet": 2})
    assert answer.status_code == 200, answer.text
    response = olmotrace_models.AttributionResponse.model_validate_json(answer.text)
    assert set(answer.json()) == {"index", "inputTokens", "spans"}
    tokens = index.tokenizer.encode(TEXT)
    assert len(response.input_tokens) == len(tokens)
    assert response.spans
    for span in response.spans:
        assert span.token_ids == tokens[span.left : span.right]
        assert span.count == index.count_one(span.token_ids) <= 1000
        assert len(span.documents) == min(10, span.count)
        for document in span.documents:
            at = document.needle_offset
            assert document.token_ids[at : at + span.length] == span.token_ids
            assert at <= 6
            assert document.needle_offset_snippet <= 2
            assert span.text in document.text
            assert span.text in document.text_snippet
            assert document.metadata["metadata"]["n"] == document.metadata["linenum"]
    whole = ask.post("/served/attribution", body | {"delimiters": ["."], "spanRankingMethod": "unigram_logprob_sum"})
    assert all("." not in span["text"][:-1] for span in whole.json()["spans"])
    for wrong in ({}, {"response": 5}, {"response": TEXT, "maximumSpanDensity": 0}):
        assert ask.post("/served/attribution", wrong).status_code == 422
    assert ask.post("/nothing/attribution", {"response": "a"}).status_code == 404


def test_attribution_finds_the_spans_that_infini_gram_finds(ask, index):
    engine = package_engine(index, precompute_unigram_logprobs=True)
    ids = index.tokenizer.encode(TEXT)
    found = engine.attribute(ids, [], 2, 100, False)["spans"]
    body = {"response": TEXT, "maximumFrequency": 100, "minimumSpanLength": 2, "maximumSpanDensity": 1}
    answer = ask.post("/served/attribution", body | {"allowSpansWithPartialWords": True}).json()["spans"]
    assert [(s["left"], s["right"], s["count"]) for s in answer] == [(s["l"], s["r"], s["count"]) for s in found]
    expected = [s["unigram_logprob_sum"] for s in found]
    assert [s["unigramLogprobSum"] for s in answer] == pytest.approx(expected, rel=1e-6)


def test_a_revised_index_is_opened_anew(tmp_path_factory, monkeypatch):
    from synthetic_corpus import write_jsonl

    from memindex.index.adding import add_documents
    from memindex.server import indexes

    folder = tmp_path_factory.mktemp("revised")
    index = build(folder)
    ask = Asker(index.path)
    before = ask.v1("count", queries=[" quick"])["counts"][0]["count"]
    more = write_jsonl(folder / "more.jsonl", [{"text": "a quick one", "set": "d0"}])
    add_documents(index.path, [more])
    monkeypatch.setattr(indexes, "LOOK_AGAIN", 0.0)
    for _ in range(100):
        if ask.v1("count", queries=[" quick"])["counts"][0]["count"] == before + 1:
            break
    else:
        pytest.fail("the new version was not opened")
