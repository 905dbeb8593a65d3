"""Builds sized from a memory budget, estimated from samples, and done by many processes or a Ray cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from synthetic_corpus import assert_refused, left_in, memindex, sentences, train_bpe, write_jsonl

from memindex.corpus.sources import ReadOptions
from memindex.errors import MemindexError
from memindex.index import Index, build_index
from memindex.index.adding import add_documents
from memindex.index.dealing import first_tokens
from memindex.index.estimating import estimate_build
from memindex.index.sharding import (
    PROCESS_BYTES,
    choose_shards,
    most_tokens,
    parse_size,
    sorting_memory,
    tokens_of_shards,
)

MB = 1 << 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    train_bpe(folder / "small.json")
    for part in range(4):
        texts = sentences(300, words=20 + part, seed=part + 1)
        rows = [{"text": text, "d": f"d{i % 3}"} for i, text in enumerate(texts)]
        write_jsonl(folder / "text" / f"{part}.jsonl", rows)
    return folder


def counts(index, queries):
    by_domain = index.count_by_domain(queries)
    return {name: by_domain[:, code].tolist() for code, name in enumerate(index.domains)}


SIZES = {"8GB": 8 * 10**9, "512MiB": 512 * MB, "1e3": 1000, "1.5 kb": 1500, "2TiB": 2 << 40, "7": 7}


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "8XB", "-1GB", "GB", "1.2.3GB", "8i", "inf", "1e999"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(MemindexError, match="is no size"):
        parse_size(text)


def lengths(parts):
    return lambda: (np.array(part, dtype=np.int64) for part in parts)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_shards_are_as_few_as_fit_into_the_memory(width):
    random = np.random.default_rng(1)
    parts = [random.integers(0, 60_000, size=n) for n in (700, 1, 0, 900)]
    every = np.concatenate(parts)
    for room in (100, 200, 400, 900):
        budget = PROCESS_BYTES + room * MB
        shards = choose_shards(lengths(parts), width, budget)
        needed = [int((every[s::shards] + 1).sum()) for s in range(shards)]
        assert tokens_of_shards(lengths(parts), shards).tolist() == needed
        documents = -(-len(every) // shards)
        assert PROCESS_BYTES + sorting_memory(max(needed), documents, width) <= budget
        if shards > 1:
            fewer = shards - max(1, shards // 16)
            most = int(tokens_of_shards(lengths(parts), fewer).max())
            assert PROCESS_BYTES + sorting_memory(most, -(-len(every) // fewer), width) > budget


def test_one_shard_is_enough_for_a_small_corpus_and_none_holds_too_long_a_document():
    assert choose_shards(lengths([[5, 6]]), 2, 1 << 30) == 1
    most = most_tokens(1 << 30, 2)
    assert choose_shards(lengths([[most - 1000], [most - 1000, 10]]), 2, 1 << 30) >= 2
    with pytest.raises(MemindexError, match=r"a document of .* tokens is too long: a shard holds .* within --memory"):
        choose_shards(lengths([[5], [most]]), 2, 1 << 30)
    with pytest.raises(MemindexError, match=r"a document of 3,000,000,000 tokens is too long: .* at most$"):
        choose_shards(lengths([[3_000_000_000]]), 2, 1 << 40)


def test_places_of_dealt_documents_are_those_of_a_plain_loop():
    random = np.random.default_rng(2)
    for shards in (1, 2, 7):
        ends, expected_ends = np.zeros(shards, np.int64), [0] * shards
        for size in (0, 1, 5, 40):
            places, sizes = random.integers(0, shards, size), random.integers(0, 9, size)
            expected = []
            for place, length in zip(places, sizes, strict=True):
                expected.append(expected_ends[place] + 1)
                expected_ends[place] += length + 1
            assert first_tokens(places, sizes, ends).tolist() == expected
            assert ends.tolist() == expected_ends


def resident(pid):
    """Bytes of a process and of all that it started."""
    total, parents = 0, {pid}
    for stat in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda file: int(file.parent.name)):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            number = int(stat.parent.name)
            if number in parents or int(fields[1]) in parents:
                parents.add(number)
                total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads sizes of processes in /proc, which is not here")
def test_all_processes_together_stay_within_the_memory(tmp_path):
    # 20 million one-byte tokens: as one shard they would need 170 MB beside the build.
    text = np.random.default_rng(3).integers(97, 123, size=(200, 100_000), dtype=np.uint8)
    with (tmp_path / "a.jsonl").open("wb") as file:
        for row in text:
            file.write(b'{"text": "' + row.tobytes() + b'"}\n')
    command = ["index", "build", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "out"), "--tokenizer", "bytes"]
    budget, peak = PROCESS_BYTES + 120 * MB, 0
    with subprocess.Popen(
        [sys.executable, "-m", "memindex.cli", *command, "--memory", str(budget), "--json"], stdout=subprocess.PIPE
    ) as process:
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.01)
        told = json.loads(process.stdout.read())
    assert (told["tokens"], told["shards"]) == (20_000_000, 2)
    assert 60 * MB < peak <= budget
    assert Index.open(tmp_path / "out").count_one(list(text[7, 50:60].tobytes())) >= 1


def test_too_little_memory_is_told_in_one_line(corpus, tmp_path):
    command = ["index", "build", corpus / "text", "--out", tmp_path / "out", "--tokenizer", "bytes"]
    assert_refused(memindex(*command, "--memory", "100MB"), "--memory 100 MB is too little for a build")
    assert_refused(memindex(*command, "--memory", "lots"), "is no size")
    text = "x" * 30_000_000
    write_jsonl(tmp_path / "long.jsonl", [{"text": text}, {"text": "b"}])
    how = {"tokenizer": "bytes", "memory": PROCESS_BYTES + 100 * MB}
    with pytest.raises(MemindexError, match="a document of 30,000,000 tokens is too long"):
        build_index([tmp_path / "long.jsonl"], tmp_path / "out", **how)
    # What is tokenized serves the next build, with enough.
    report = build_index([tmp_path / "long.jsonl"], tmp_path / "out", tokenizer="bytes", memory=2 << 30)
    assert (report.taken_over, report.manifest.shards) == (1, 1)
    assert left_in(tmp_path) == ["long.jsonl", "out"]
    write_jsonl(tmp_path / "many.jsonl", [{"text": text[: 1 << 20]}] * 12)
    with pytest.raises(MemindexError, match=r"needs .* more than --memory 642 MB: use 2 --shards"):
        build_index([tmp_path / "many.jsonl"], tmp_path / "other", **how, shards=1)


def test_estimates_come_near_to_what_is_built(corpus, tmp_path):
    how = {"tokenizer": corpus / "small.json", "options": ReadOptions("text", "d"), "shards": 2, "unit_bytes": 1000}
    estimate = estimate_build([corpus / "text"], tmp_path / "out", **how)
    assert left_in(tmp_path) == []
    report = build_index([corpus / "text"], tmp_path / "out", **how, workers=1)
    assert (estimate.files, estimate.units, estimate.shards) == (4, 4, 2)
    assert estimate.documents == pytest.approx(report.manifest.documents, rel=0.1)
    assert estimate.tokens == pytest.approx(report.manifest.tokens, rel=0.1)
    # Key tables and document tables begin with some kilobytes, which a corpus of this size shows.
    size = sum(file.bytes for file in report.manifest.files.values())
    assert size / 2 < estimate.index_bytes < size * 1.5
    assert estimate.disk_bytes < estimate.free_bytes
    assert estimate.memory > PROCESS_BYTES


def test_a_dry_run_writes_nothing(corpus, tmp_path):
    command = ["index", "build", corpus / "text", "--out", tmp_path / "out", "--tokenizer", "bytes", "--dry-run"]
    told = memindex(*command, "--json")
    assert json.loads(told.stdout)["units"] == 1, told.stderr
    assert "units of work" in memindex(*command).stdout
    assert left_in(tmp_path) == []
    assert_refused(memindex(*command, "--text-field", "body"), "no documents in the files that were sampled")


def test_a_dry_run_tells_of_malformed_documents_and_of_fields_that_none_has(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one", "lang": "C"}\n{"text": "broken\n{"text": 3}\n{"text": "two"}\n')
    command = ["index", "build", tmp_path / "a.jsonl", "--out", tmp_path / "out", "--tokenizer", "bytes", "--dry-run"]
    expression = "CASE WHEN langg = 'C' THEN 'c' ELSE coalesce(lang, 'none') END"
    estimate = json.loads(memindex(*command, "--domain-sql", expression, "--json").stdout)
    assert (estimate["documents"], estimate["malformed"], estimate["lacking_fields"]) == (2, 2, ["langg"])
    assert [line.split(":")[1] for line in estimate["malformed_first"]] == ["2", "3"]
    told = memindex(*command, "--domain-sql", expression).stderr
    assert "2 malformed documents, which stop a build without --skip-bad" in told
    assert "a.jsonl:2: the JSON ends too early" in told
    assert "--domain-sql names langg, which none of the documents that were read has" in told


def test_a_build_refuses_fields_that_no_document_has(tmp_path):
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    write_jsonl(files[0], [{"text": f"text {i}", "lang": "C"} for i in range(9)])
    write_jsonl(files[1], [{"text": "late", "source": "web"}])
    how = {"tokenizer": "bytes", "unit_bytes": 10}
    wrong = ReadOptions(domain_sql="CASE WHEN langg = 'C' THEN 'c' ELSE 'other' END")
    with pytest.raises(MemindexError, match="--domain-sql names langg, which no document has"):
        build_index(files, tmp_path / "out", options=wrong, **how)
    assert left_in(tmp_path) == ["a.jsonl", "b.jsonl"]
    missing = ReadOptions(domain_sql="coalesce(metadata ->> '$.langg', 'none')")
    assert build_index(files, tmp_path / "missing", options=missing, **how).manifest.documents == 10
    # The last unit has one of these, and what is added need not have both.
    build_index(files, tmp_path / "out", options=ReadOptions(domain_sql="coalesce(lang, source)"), **how)
    write_jsonl(tmp_path / "c.jsonl", [{"text": "more", "source": "book"}])
    add_documents(tmp_path / "out", [tmp_path / "c.jsonl"])
    assert {domain.name for domain in Index.open(tmp_path / "out").manifest.domains} == {"C", "web", "book"}


def test_a_ray_cluster_builds_the_same_index(ray, corpus, tmp_path):
    how = {"tokenizer": corpus / "small.json", "options": ReadOptions("text", "d")}
    build_index([corpus / "text"], tmp_path / "one", **how)
    build_index([corpus / "text"], tmp_path / "four", **how, shards=4, unit_bytes=1000, workers=1)
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    build_index([corpus / "text"], tmp_path / "ray", **how, shards=4, unit_bytes=1000, engine="ray")
    write_jsonl(tmp_path / "bad.jsonl", [{"text": 3}])
    with pytest.raises(MemindexError, match=r"bad.jsonl:1"):
        build_index([tmp_path / "bad.jsonl"], tmp_path / "none", **how, engine="ray")
    assert left_in(tmp_path) == ["bad.jsonl", "four", "one", "ray"]
    one, many = Index.open(tmp_path / "one"), Index.open(tmp_path / "ray")
    many.verify()
    for file in (tmp_path / "four").iterdir():
        if file.name != "index.json":
            assert (tmp_path / "ray" / file.name).read_bytes() == file.read_bytes(), file.name
    tokens = one.tokens_of_shard(0)
    queries = [tokens[i : i + n].tolist() for i in range(1, 4000, 37) for n in (1, 2, 4)]
    queries = [query for query in queries if 65535 not in query]
    assert many.count(queries).tolist() == one.count(queries).tolist()
    assert counts(many, queries) == counts(one, queries)
    assert many.manifest.tokens == one.manifest.tokens
