"""Cases of what is shared: places for queries on a study, loaded tokenizers; and counts by domain without zeros."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from synthetic_corpus import memindex, train_bpe, write_jsonl

from memindex.corpus.documents import ReadOptions
from memindex.corpus.shared_tokenizers import shared_tokenizer
from memindex.corpus.tokenizer import Tokenizer
from memindex.index import Index, build_index

# D8


class Held:
    """Stands for a worker process: queries of the kinds in `slow` wait for `end`, all others are answered."""

    slow: frozenset[str] = frozenset()
    end = threading.Event()
    made = 0
    is_alive = True

    def __init__(self, study, limits) -> None:
        type(self).made += 1

    def ask(self, task, arguments):
        if task in self.slow:
            assert self.end.wait(30)
        return b"{}", False

    def kill(self) -> None:
        self.end.set()

    def close(self) -> None:
        pass


@pytest.fixture
def held(monkeypatch, tmp_path):
    """Processes of a study whose workers are `Held`, and what runs queries beside the test."""
    pytest.importorskip("fastapi", reason="the server is an extra")
    from memindex.server import study_processes
    from memindex.server.study_limits import StudyLimits

    monkeypatch.setattr(study_processes, "Process", Held)
    Held.end, Held.made = threading.Event(), 0
    processes = study_processes.Processes(tmp_path, StudyLimits(waiting=0.2))
    with ThreadPoolExecutor(8) as pool:
        yield processes, pool
        Held.end.set()
    processes.close()


KINDS = {"sql": "sql", "questions": "question", "browsing": "sequences"}


@pytest.mark.parametrize("slow", KINDS)
def test_d8_slow_queries_of_one_kind_hold_up_no_other(held, slow):
    from memindex.server.refusals import RefusalError

    processes, pool = held
    Held.slow = frozenset({KINDS[slow]})
    running = [pool.submit(processes.ask, KINDS[slow]) for _ in range(6)]
    refused = [future for future in running if _is_refused(future)]
    assert len(refused) == 4  # two run, the others found no place in time
    for kind, task in KINDS.items():
        if kind != slow:
            for _ in range(3):
                assert processes.ask(task) == (b"{}", False)
    with pytest.raises(RefusalError) as told:
        processes.ask(KINDS[slow])
    assert told.value.status == 503
    Held.end.set()
    assert [future.result(5) for future in running if future not in refused] == [(b"{}", False)] * 2
    assert processes.ask(KINDS[slow]) == (b"{}", False)


def _is_refused(future) -> bool:
    """Whether a query found no place, which takes 0.2 s; two of them run until they are let go."""
    try:
        return type(future.exception(0.5)).__name__ == "RefusalError"
    except TimeoutError:
        return False


def test_d8_two_slow_kinds_leave_a_place_for_the_third(held):
    processes, pool = held
    Held.slow = frozenset({"sql", "figure"})
    running = [pool.submit(processes.ask, task) for task in ("sql", "sql", "figure", "sql", "figure")]
    for task in ("overview", "sequences", "sequence") * 3:
        assert processes.ask(task) == (b"{}", False)
    assert Held.made <= 4
    Held.end.set()
    assert {type(future.exception(5)).__name__ for future in running} <= {"NoneType", "RefusalError"}


def test_d8_a_study_that_is_closed_refuses_what_waits(held):
    from memindex.server.refusals import RefusalError

    processes, pool = held
    Held.slow = frozenset({"sql"})
    running = [pool.submit(processes.ask, "sql") for _ in range(2)]
    while len(processes._busy) < 2:
        threading.Event().wait(0.01)
    processes.close()
    for future in running:
        future.exception(5)
    with pytest.raises(RefusalError, match="stopping"):
        processes.ask("overview")


def test_d8_requests_that_wait_leave_room_for_other_kinds(held, monkeypatch, tmp_path):
    from memindex.server import study_asking
    from memindex.server.problems import ProblemError
    from memindex.server.study_limits import StudyLimits

    monkeypatch.setattr(study_asking, "_INSIDE", 3)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.toml").write_text('index = "nowhere"\n')
    studies = study_asking.Studies({"s": tmp_path / "s"}, StudyLimits(waiting=20), {})
    Held.slow = frozenset({"sql"})

    async def ask() -> None:
        waiting = [asyncio.ensure_future(studies.ask("s", "sql")) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(ProblemError, match="too many"):
            await studies.ask("s", "sql")
        for task in ("overview", "question"):
            assert await studies.ask("s", task) == (b"{}", False)
        Held.end.set()
        assert await asyncio.gather(*waiting) == [(b"{}", False)] * 3

    asyncio.run(ask())
    studies.close()


# D9


@pytest.fixture(scope="module")
def definition(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_bpe(file)
    # Other tests may have loaded what is trained alike.
    file.write_text(file.read_text("utf-8") + "\n\n", "utf-8")
    return file


@pytest.fixture(scope="module")
def indexes(tmp_path_factory, definition) -> list[Path]:
    """Indexes with one tokenizer under two names, and one with another."""
    root = tmp_path_factory.mktemp("indexes")
    write_jsonl(root / "a.jsonl", [{"text": "the quick brown fox"}])
    other = json.loads(Path(definition).read_text("utf-8"))
    other["added_tokens"] = [*other.get("added_tokens", []), _added(other)]
    names = {"one": Path(definition).read_text("utf-8"), "two": Path(definition).read_text("utf-8")}
    names["other"] = json.dumps(other)
    for name, text in names.items():
        (root / name).mkdir()
        (root / name / "tokenizer.json").write_text(text, "utf-8")
        build_index([root / "a.jsonl"], root / f"index-{name}", tokenizer=root / name / "tokenizer.json")
    return [root / f"index-{name}" for name in names]


def _added(definition: dict) -> dict:
    ids = [*definition["model"]["vocab"].values(), *(token["id"] for token in definition.get("added_tokens", []))]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": max(ids) + 1, "content": "<|more|>", "special": True} | flags


@pytest.fixture
def loads(monkeypatch) -> Counter:
    """How often tokenizers are loaded."""
    counted, real = Counter(), Tokenizer._load

    def load(self):
        counted[self.checksum] += 1
        return real(self)

    monkeypatch.setattr(Tokenizer, "_load", load)
    gc.collect()
    return counted


def test_d9_indexes_share_a_tokenizer_and_keep_its_names(indexes, loads):
    one, two, other = (Index.open(path) for path in indexes)
    texts = [" the quick brown", "fox"]
    assert [index.tokenizer.name for index in (one, two, other)] == ["one", "two", "other"]
    assert [index.tokenizer.checksum for index in (one, two)] == [one.manifest.tokenizer_checksum] * 2
    assert one.tokenize(texts).values.tolist() == two.tokenize(texts).values.tolist()
    assert other.tokenizer.encode("<|more|>") != one.tokenizer.encode("<|more|>")
    assert one.tokenizer.encode("<|more|>") == two.tokenizer.encode("<|more|>")
    assert sorted(loads.values()) == [1, 1]


def test_d9_threads_that_open_together_load_once(indexes, loads):
    start = threading.Barrier(8)
    kept = []  # a tokenizer is loaded again when no index has it any more

    def ids(place: int) -> list[int]:
        index = Index.open(indexes[place % 2])
        kept.append(index)
        start.wait(30)
        return index.tokenizer.encode(f" the quick {place}"), index.tokenize([f" the quick {place}"]).values.tolist()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ids, range(8)))
    assert sum(loads.values()) == 1
    alone = Tokenizer("alone", (indexes[0] / "tokenizer.json").read_bytes())
    for place, (single, batch) in enumerate(found):
        assert single == batch == alone.encode(f" the quick {place}")


def test_d9_what_no_index_uses_is_let_go(definition):
    raw = Path(definition).read_bytes() + b"\n"
    first, renamed = shared_tokenizer("a", raw), shared_tokenizer("b", raw)
    watched = weakref.ref(first)
    assert shared_tokenizer("a", raw) is first
    del first
    gc.collect()
    assert shared_tokenizer("a", raw) is watched()
    assert renamed.name == "b"
    del renamed
    gc.collect()
    assert watched() is None


def test_d9_a_served_folder_of_indexes_loads_one(indexes, loads):
    pytest.importorskip("fastapi", reason="the server is an extra")
    from memindex.server.app import make_app
    from memindex.server.config import ServerConfig

    app = make_app(ServerConfig(tuple(indexes[:2])))
    assert sum(loads.values()) == 1
    app.state.service.close()


# C7


DOMAINS = [f"domain {number:03}" for number in range(300)]
TEXTS = ["common", "even", "rare", "never"]


@pytest.fixture(scope="module")
def sparse(tmp_path_factory) -> tuple[Path, dict[str, dict[str, int]]]:
    """An index of many domains, and text -> domain -> occurrences."""
    root = tmp_path_factory.mktemp("sparse")
    rows = []
    for number, domain in enumerate(DOMAINS):
        words = ["common"] * (number % 3 + 1) + ["even"] * (number % 100 == 0) + ["rare"] * (number == 77)
        rows.append({"text": " ".join(words), "d": domain})
    write_jsonl(root / "a.jsonl", rows)
    build_index([root / "a.jsonl"], root / "index", tokenizer="bytes", options=ReadOptions(domain_field="d"))
    wanted = {
        text: {row["d"]: row["text"].split().count(text) for row in rows if text in row["text"].split()}
        for text in TEXTS
    }
    return root / "index", wanted


def test_c7_json_lists_domains_that_have_any(sparse, tmp_path):
    index, wanted = sparse
    (tmp_path / "q.txt").write_text("\n".join(TEXTS))
    for asked in (["--file", tmp_path / "q.txt"], TEXTS):
        done = memindex("count", "-i", index, *asked, "--by-domain", "--json")
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert [answer["domains"] for answer in answers] == list(wanted.values())
        assert [list(answer["domains"]) for answer in answers] == [sorted(found) for found in wanted.values()]
        assert [answer["count"] for answer in answers] == [sum(found.values()) for found in wanted.values()]


def test_c7_people_see_no_zeros_either(sparse, tmp_path):
    index, wanted = sparse
    lines = memindex("count", "-i", index, "even", "--by-domain").stdout.splitlines()
    assert sum(line.strip().startswith("domain ") and line.strip()[7:10].isdigit() for line in lines) == len(
        wanted["even"]
    )
    assert memindex("count", "-i", index, "never", "--by-domain").stdout.startswith("0 times")
    (tmp_path / "q.txt").write_text("even\nrare\nnever\n" * 1001)
    names, *rows = memindex("count", "-i", index, "--file", tmp_path / "q.txt", "--by-domain").stdout.splitlines()
    shown = names.split("\t")[3:]
    assert shown == sorted(wanted["even"].keys() | wanted["rare"].keys())
    assert len(rows) == 3003
    for row, text in zip(rows, ["even", "rare", "never"] * 1001, strict=True):
        assert [int(number) for number in row.split("\t")[3:]] == [wanted[text].get(name, 0) for name in shown]


def test_c7_next_tokens_too(sparse):
    index, wanted = sparse
    (line,) = memindex("next", "-i", index, "rar", "--by-domain", "--json").stdout.splitlines()
    answer = json.loads(line)
    assert answer["domains"] == answer["next"][0]["domains"] == wanted["rare"]
    assert answer["end_of_document"]["domains"] == {}
    assert "domain 077" in memindex("next", "-i", index, "rar", "--by-domain").stdout


def test_c7_http_lists_the_same(sparse):
    pytest.importorskip("fastapi", reason="the server is an extra")
    from served_index import Asker

    index, wanted = sparse
    ask = Asker(index)
    for texts in (TEXTS, TEXTS * 600):
        answer = ask.post("/v1/indexes/index/count", {"queries": texts, "by_domain": True}).json()
        assert [entry["domains"] for entry in answer["counts"]] == [wanted[text] for text in texts]
        assert [entry["count"] for entry in answer["counts"]] == [sum(wanted[text].values()) for text in texts]
    found = ask.post("/v1/indexes/index/next", {"query": "rar", "by_domain": True}).json()
    assert found["next"][0]["domains"] == wanted["rare"]


def test_c7_arrays_in_python_have_every_domain(sparse):
    index, wanted = sparse
    counts = Index.open(index).count_by_domain(TEXTS)
    assert counts.tolist() == [[wanted[text].get(name, 0) for name in DOMAINS] for text in TEXTS]
    assert counts.dtype == np.uint64


def test_c7_an_index_without_domains_says_so(tmp_path):
    from infini_gram_folder import write_folder

    index = write_folder(tmp_path / "plain", [[[1, 2, 3]]], 2)
    (tmp_path / "q.txt").write_text("1 2\n")
    for asked in (["1 2"], ["--file", tmp_path / "q.txt"]):
        done = memindex("count", "-i", index, "--ids", "--by-domain", *asked)
        assert (done.returncode, done.stdout) == (2, "")
        assert "no domain" in done.stderr
