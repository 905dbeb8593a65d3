"""Pulling infini-gram indexes from a local stand-in for S3: whole, interrupted in every way, resumed, and refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="pulling needs the extra s3")

from infini_gram_folder import occurrences, random_documents, write_folder
from s3_stand_in import StandIn
from synthetic_corpus import assert_refused, left_in, memindex

from memindex.errors import MemindexError, MissingExtraError
from memindex.index import Index, pulling, remote
from memindex.index.published import FREE, PUBLISHED, Address, find_address
from memindex.index.pulling import RECORD, pull_files

ADDRESS = Address("v4_mine", "corpora", "index/v4_mine")
SETS = ("Pile-CC", "Github", "PubMed Central")


@pytest.fixture(scope="module")
def documents() -> list[list[list[int]]]:
    return [random_documents(shard, 30) for shard in range(2)]


@pytest.fixture(scope="module")
def folder(documents, tmp_path_factory) -> Path:
    metadata = [
        [
            {"path": f"val-{shard}.jsonl", "linenum": i, "metadata": {"meta": {"pile_set_name": SETS[i % 3]}}}
            for i in range(len(of_shard))
        ]
        for shard, of_shard in enumerate(documents)
    ]
    return write_folder(tmp_path_factory.mktemp("published") / "v4_mine", documents, 2, metadata)


@pytest.fixture
def s3(folder, monkeypatch):
    monkeypatch.setattr(pulling, "CHUNK", 64)
    monkeypatch.setattr(remote, "RETRIES", 1)
    monkeypatch.setattr(remote, "PATIENCE", timedelta(seconds=2))
    with StandIn() as world:
        world.put_folder(folder, "corpora/index/v4_mine")
        # Neighbours, which do not belong to it.
        world.objects["corpora/index/v4_mine_too/tokenized.0"] = b"\xff\xff"
        world.objects["corpora/index/v4_mine/deeper/tokenized.0"] = b"\xff\xff"
        world.objects["corpora/index/v4_mine/README.md"] = b"about"
        yield world


def pull(s3, out: Path):
    return pull_files(ADDRESS, out, endpoint=s3.url)


def assert_same(folder: Path, out: Path) -> None:
    """Every file is there as it was published; nothing else is, but the record."""
    assert left_in(out) == sorted([*left_in(folder), RECORD])
    for file in folder.iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes(), file.name
    assert left_in(out.parent) == [out.name]


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_a_pull_brings_every_file_once(s3, folder, tmp_path):
    pulled = pull(s3, tmp_path / "out")
    assert_same(folder, tmp_path / "out")
    assert (pulled.files, pulled.bytes, pulled.transferred) == (10, size_of(folder), size_of(folder))
    assert s3.transferred() == size_of(folder)
    assert max(end - start for _, start, end in s3.requests) == 64


def test_the_command_makes_an_index_with_domains(s3, folder, documents, tmp_path):
    arguments = ("index", "pull", "s3://corpora/index/v4_mine", "--endpoint", s3.url)
    result = memindex(*arguments, "--domain-path", "meta.pile_set_name", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    wanted = Counter(SETS[i % 3] for of_shard in documents for i in range(len(of_shard)))
    assert {name: facts["documents"] for name, facts in told["domains"].items()} == wanted
    assert (told["index"], told["files"], told["transferred"]) == ("v4_mine", 10, size_of(folder))
    index = Index.open(tmp_path / "v4_mine")
    index.verify()
    query = documents[0][0][:3]
    by_domain = [
        sum(occurrences(d, query) for of_shard in documents for d in of_shard[SETS.index(name) :: 3])
        for name in index.domains
    ]
    assert index.count_by_domain([query])[0].tolist() == by_domain
    assert sum(by_domain) > 0
    assert not (tmp_path / "v4_mine" / RECORD).exists()
    assert_refused(memindex(*arguments, cwd=tmp_path), "v4_mine", "exists already")


def test_a_pull_killed_again_and_again_goes_on_where_it_was(s3, folder, tmp_path):
    script = (
        "import sys; from memindex.index import pulling; pulling.CHUNK, pulling.REQUESTS = 256, 2\n"
        "from memindex.index.published import Address\n"
        "pulling.pull_files(Address('v4_mine', 'corpora', 'index/v4_mine'), sys.argv[1], endpoint=sys.argv[2])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "out"), s3.url]
    kills = 0
    for _ in range(20):
        answered = len(s3.requests)
        running = subprocess.Popen(command)

        def kill(key: str, start: int, end: int, running=running, answered=answered) -> None:
            if len(s3.requests) >= answered + 9:
                running.kill()

        s3.before = kill
        if running.wait(timeout=60) == 0:
            break
        kills += 1
        assert left_in(tmp_path) == [".out.pulling"]
    assert running.returncode == 0
    assert kills >= 3
    assert_same(folder, tmp_path / "out")
    # A kill costs what was under way, and an answer that was not yet written.
    assert s3.transferred() <= size_of(folder) + kills * 3 * 256


@pytest.mark.parametrize("fault", ["cut", "short", "whole", 500, 503])
def test_a_fault_stops_with_one_line_and_the_next_pull_goes_on(s3, folder, tmp_path, fault):
    s3.before = lambda key, start, end: fault if key.endswith("table.1") and start >= 128 else None
    with pytest.raises(MemindexError) as caught:
        pull(s3, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "table.1" in str(caught.value)
    assert "goes on" in str(caught.value)
    assert left_in(tmp_path) == [".out.pulling"]
    kept = size_of(tmp_path / ".out.pulling") - (tmp_path / ".out.pulling" / RECORD).stat().st_size
    assert kept >= 128
    s3.before = lambda *_: None
    pulled = pull(s3, tmp_path / "out")
    assert pulled.transferred == size_of(folder) - kept
    assert_same(folder, tmp_path / "out")


@pytest.mark.parametrize("fault", ["cut", 503])
def test_a_fault_that_passes_is_not_noticed(s3, folder, tmp_path, fault):
    met = []

    def once(key: str, start: int, end: int) -> object:
        met.append(key)
        return fault if len(met) in {3, 40} else None

    s3.before = once
    pull(s3, tmp_path / "out")
    assert_same(folder, tmp_path / "out")


def test_what_changed_between_two_pulls_is_pulled_anew(s3, folder, tmp_path):
    s3.before = lambda key, start, end: 403 if key.endswith("tokenized.1") else None
    with pytest.raises(MemindexError, match=r"tokenized\.1 may not be read without an account"):
        pull(s3, tmp_path / "out")
    key = "corpora/index/v4_mine/table.0"
    assert (tmp_path / ".out.pulling" / "table.0").read_bytes() == s3.objects[key]
    s3.objects[key] = bytes(reversed(s3.objects[key]))
    s3.before = lambda *_: None
    s3.requests.clear()
    with pytest.warns(UserWarning, match=r"table\.0 is not what .* lists now: pulling it anew"):
        pull(s3, tmp_path / "out")
    assert (tmp_path / "out" / "table.0").read_bytes() == s3.objects[key]
    assert {asked.rpartition("/")[2] for asked, _, _ in s3.requests} >= {"table.0", "tokenized.1"}
    assert "offset.0" not in {asked.rpartition("/")[2] for asked, _, _ in s3.requests}


def test_what_changes_while_it_is_pulled_is_noticed(s3, folder, tmp_path):
    key = "corpora/index/v4_mine/table.0"

    def change(asked: str, start: int, end: int) -> None:
        if asked == key and start == 128:
            s3.objects[key] = bytes(reversed(s3.objects[key]))

    s3.before = change
    with pytest.raises(MemindexError, match=r"table\.0 changed, or went, since it was listed"):
        pull(s3, tmp_path / "out")
    s3.before = lambda *_: None
    with pytest.warns(UserWarning, match=r"table\.0.*anew"):
        pull(s3, tmp_path / "out")
    assert (tmp_path / "out" / "table.0").read_bytes() == s3.objects[key]


def test_a_file_that_goes_meanwhile_is_noticed(s3, tmp_path):
    s3.before = lambda key, start, end: 404 if key.endswith("table.1") else None
    with pytest.raises(MemindexError, match=r"table\.1 changed, or went"):
        pull(s3, tmp_path / "out")


@pytest.mark.parametrize("more", [-1, 1])
def test_another_size_than_listed_is_refused(s3, tmp_path, more):
    s3.listed_size = more
    with pytest.raises(MemindexError, match="changed, or went, since it was listed"):
        pull(s3, tmp_path / "out")
    assert left_in(tmp_path) == [".out.pulling"]


def test_too_small_a_disk_is_refused_before_anything_is_transferred(s3, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(MemindexError, match=r"0\.0 GB free"):
        pull(s3, tmp_path / "out")
    assert s3.requests == []


def test_a_pull_that_no_index_was_made_of_is_taken_up(s3, folder, tmp_path):
    arguments = ("index", "pull", "s3://corpora/index/v4_mine", "--endpoint", s3.url, "--out", tmp_path / "out")
    assert_refused(memindex(*arguments, "--domain-path", "meta.nothing"), "no document has", "meta.nothing")
    assert_same(folder, tmp_path / "out")
    s3.requests.clear()
    result = memindex(*arguments, "--domain-path", "meta.pile_set_name", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["transferred"] == 0
    assert s3.requests == []
    assert len(Index.open(tmp_path / "out").domains) == 3


def test_pulled_files_of_another_size_are_refused(s3, tmp_path):
    pull(s3, tmp_path / "out")
    (tmp_path / "out" / "offset.1").write_bytes(b"short")
    with pytest.raises(MemindexError, match=r"offset\.1: 5 bytes, but \d+ bytes are listed"):
        pull(s3, tmp_path / "out")


def test_two_pulls_at_a_time_are_refused(s3, tmp_path):
    def second(key: str, start: int, end: int) -> None:
        s3.before = lambda *_: None
        with pytest.raises(MemindexError, match="is being written by `memindex index pull`"):
            pull(s3, tmp_path / "out")
        met.append(key)

    met: list[str] = []
    s3.before = second
    pull(s3, tmp_path / "out")
    assert met


def test_nothing_there_no_access_and_no_server_are_refused(s3, tmp_path):
    with pytest.raises(MemindexError, match="no infini-gram files"):
        pull_files(Address("x", "corpora", "index/x"), tmp_path / "out", endpoint=s3.url)
    s3.denied = True
    with pytest.raises(MemindexError, match="may not be read without an account"):
        pull(s3, tmp_path / "out")
    with pytest.raises(MemindexError, match=r"no connection to the server: .* goes on where"):
        pull_files(ADDRESS, tmp_path / "out", endpoint="http://127.0.0.1:9")
    with pytest.raises(MemindexError, match="give the address of a server"):
        pull_files(ADDRESS, tmp_path / "out", endpoint="minio:9000/x")
    assert left_in(tmp_path) == []


def test_without_the_package_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(MissingExtraError, match=r"obstore.*pip install .*\[s3\]'"):
        pull_files(ADDRESS, tmp_path / "out")
    assert left_in(tmp_path) == []


def test_what_is_in_the_way_stays(s3, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(MemindexError, match="exists already"):
        pull(s3, tmp_path / "out")
    assert left_in(tmp_path) == ["out"]
    assert s3.requests == []


def test_names_are_those_that_are_published():
    assert find_address("v4_pileval_llama") == Address("v4_pileval_llama", "infini-gram-lite", "index/v4_pileval_llama")
    assert find_address("s3://my-bucket/a/b/") == Address("b", "my-bucket", "a/b")
    assert [index.name for index in PUBLISHED if index.bucket == FREE] == [
        "v4_pileval_llama",
        "v4_pileval_gpt2",
        "v4_dolmasample_olmo",
    ]
    for name in ("v4_pileval", "s3://b", "s3:///x", "../x", "https://host/x", "s3://bucket/a?x", ""):
        with pytest.raises(MemindexError, match=r"no published index .*(did you mean|known:) v4_pileval"):
            find_address(name)
    with pytest.raises(MemindexError, match=r"AWS account: aws s3 cp --request-payer requester"):
        find_address("v4_piletrain_llama")


def test_the_command_refuses_in_one_line_and_lists(tmp_path):
    assert_refused(memindex("index", "pull", "v4_pile", cwd=tmp_path), "no published index", "v4_pileval_llama")
    assert_refused(memindex("index", "pull", cwd=tmp_path), "--list")
    tokenizer = memindex("index", "pull", "v4_pileval_llama", "--tokenizer", "llama-2/x.json", cwd=tmp_path)
    assert_refused(tokenizer, "unknown tokenizer")
    listed = json.loads(memindex("index", "pull", "--list", "--json", cwd=tmp_path).stdout)["indexes"]
    assert listed[0]["url"] == "s3://infini-gram-lite/index/v4_pileval_llama"
    assert listed[0]["tokens"] == 393_769_120
    assert "v4_dolmasample_olmo" in memindex("index", "pull", "--list", cwd=tmp_path).stdout
    assert left_in(tmp_path) == []
