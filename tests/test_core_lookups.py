"""The core against brute force: every lookup, every token width, on texts that are hard for suffix arrays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memindex import _core
from memindex.errors import CorpusError, CorruptIndexError, QueryError
from memindex.ragged import from_lists

WIDTHS = (1, 2, 4)


def write_shard(
    directory: Path, documents: list[list[int]], width: int, domains: list[int], block=4, keys=True, stride=8
):
    """Build one shard of these documents (ids, domain codes) and open it."""
    batch = from_lists(documents)
    writer = _core.DocumentWriter(directory, 1, width)
    writer.append(batch.values.astype(np.uint32), batch.offsets)
    writer.close()
    number = max(domains, default=0) + 1
    _core.sort_shard(directory, 0, width, np.array(domains, dtype="<u2").tobytes(), number, block, stride)
    return _core.Shard(directory, 0, width, number, block, keys)


def occurrences(document: list[int], query: list[int]) -> int:
    return sum(document[i : i + len(query)] == query for i in range(len(document) - len(query) + 1))


def counts_of(shard, queries: list[list[int]]) -> list[int]:
    batch = from_lists(queries)
    counts = shard.count(batch.values.astype(np.uint32), batch.offsets).tolist()
    for tokens in (1, 2, 4, 9):
        both = shard.count_with_prefix(batch.values.astype(np.uint32), batch.offsets, tokens).reshape(-1, 2)
        assert both[:, 1].tolist() == counts
        prefixes = from_lists([query[:tokens] for query in queries])
        assert both[:, 0].tolist() == shard.count(prefixes.values.astype(np.uint32), prefixes.offsets).tolist()
    return counts


# Few distinct ids make repeats; large ids use every byte of the width, where byte order matters.
ids = st.sampled_from([0, 1, 2, 3, 254])
wide_ids = {1: ids, 2: st.one_of(ids, st.sampled_from([255, 256, 65534])), 4: st.one_of(ids, st.integers(0, 2**32 - 2))}


@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
@pytest.mark.parametrize("width", WIDTHS)
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_by_domain_equal_brute_force(tmp_path, width, keys, data):
    documents = data.draw(st.lists(st.lists(wide_ids[width], max_size=30), min_size=1, max_size=8))
    domains = data.draw(st.lists(st.integers(0, 2), min_size=len(documents), max_size=len(documents)))
    queries = data.draw(st.lists(st.lists(wide_ids[width], min_size=1, max_size=6), min_size=1, max_size=10))
    # Queries that occur: pieces of the documents.
    for document in documents[:3]:
        if document:
            queries.append(document[: data.draw(st.integers(1, len(document)))])
    stride = data.draw(st.sampled_from([1, 2, 4, 8]))
    shard = write_shard(tmp_path, documents, width, domains, keys=keys, stride=stride)
    shard.verify_order()
    assert counts_of(shard, queries) == [sum(occurrences(d, q) for d in documents) for q in queries]
    batch = from_lists(queries)
    found = shard.count_by_domain(batch.values.astype(np.uint32), batch.offsets).reshape(len(queries), -1)
    for query, row in zip(queries, found.tolist(), strict=True):
        expected = [0] * len(row)
        for document, domain in zip(documents, domains, strict=True):
            expected[domain] += occurrences(document, query)
        assert row == expected
        assert shard.count_by_domain_one(query) == expected
        assert shard.count_one(query) == sum(expected)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "documents",
    [[[]], [[], [], []], [[5]], [[5], []], [[7] * 3000], [[1, 2] * 1000] * 3, [list(range(200))] * 50],
    ids=["empty", "all empty", "one token", "one token and empty", "one id", "period two", "equal documents"],
)
def test_degenerate_corpora_count_right(tmp_path, width, documents):
    shard = write_shard(tmp_path, documents, width, [0] * len(documents))
    shard.verify_order()
    queries = [[5], [7], [7] * 2999, [7] * 3001, [1, 2, 1], [2, 1], [199], [10, 11, 12], [12, 11]]
    # Longer than a key, in more suffixes than a key stands for; and longer than common tokens are counted.
    queries += [
        [7] * 6,
        [7] * 255,
        [7] * 256,
        [1, 2] * 5,
        [2, 1] * 127,
        [1, 2] * 300,
        list(range(10, 40)),
        [7] * 9 + [8],
    ]
    assert counts_of(shard, queries) == [sum(occurrences(d, q) for d in documents) for q in queries]


@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
@pytest.mark.parametrize("width", WIDTHS)
def test_large_batches_over_several_threads_equal_brute_force(tmp_path, width, keys):
    # Few ids, zero among them: many equal keys, and keys that end in zeros like those of short suffixes.
    random = np.random.default_rng(width)
    documents = [random.integers(0, 4, int(n)).tolist() for n in random.integers(0, 60, 100)] + [[0] * 50, [0]]
    shard = write_shard(tmp_path, documents, width, [0] * len(documents), keys=keys)
    windows = Counter(tuple(d[i : i + n]) for d in documents for n in range(1, 13) for i in range(len(d) - n + 1))
    queries = [list(w) for w in windows] + [
        random.integers(0, 5, int(n)).tolist() for n in random.integers(1, 13, 9000)
    ]
    random.shuffle(queries)
    assert len(queries) > 20_000
    assert counts_of(shard, queries) == [windows[tuple(query)] for query in queries]


def test_a_query_never_matches_across_documents(tmp_path):
    shard = write_shard(tmp_path, [[1, 2], [3, 4], [1, 2, 3]], 2, [0, 0, 0])
    assert counts_of(shard, [[2, 3], [1, 2], [4, 1]]) == [1, 2, 0]


@pytest.mark.parametrize("domains", [1, 3, 256, 257, 1000])
def test_domain_counts_are_exact_at_every_block_boundary(tmp_path, domains):
    random = np.random.default_rng(domains)
    labels = random.integers(0, domains, 3000).tolist()
    labels[0] = domains - 1
    documents = [[1] * int(n) for n in random.integers(0, 4, 3000)]
    shard = write_shard(tmp_path, documents, 2, labels, block=7)
    for query in ([1], [1, 1], [1, 1, 1], [2]):
        expected = Counter()
        for document, label in zip(documents, labels, strict=True):
            expected[label] += occurrences(document, query)
        assert shard.count_by_domain_one(query) == [expected[d] for d in range(domains)]


@pytest.mark.parametrize("width", WIDTHS)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sampled_windows_are_all_distinct_windows_with_their_counts(tmp_path, width, data):
    documents = data.draw(st.lists(st.lists(ids, max_size=25), min_size=1, max_size=6))
    length = data.draw(st.integers(1, 5))
    number = data.draw(st.integers(1, 3))
    shards = []
    for s in range(number):
        folder = tmp_path / f"{s}"
        folder.mkdir(exist_ok=True)
        shards.append(write_shard(folder, documents[s::number], width, [0] * len(documents[s::number])))
    (bucket, count, shard, position), totals = _core.sample_windows(shards, length, 10_000, 1)
    expected = Counter(tuple(d[i : i + length]) for d in documents for i in range(len(d) - length + 1))
    texts = [np.fromfile(tmp_path / f"{s}" / "tokenized.0", dtype=f"<u{width}") for s in range(number)]
    found = {tuple(texts[s][p : p + length].tolist()): int(c) for s, p, c in zip(shard, position, count, strict=True)}
    assert found == expected
    assert bucket.tolist() == [int(c).bit_length() - 1 for c in count]
    by_bucket = Counter(c.bit_length() - 1 for c in expected.values())
    assert {b: distinct for b, distinct, _ in totals} == by_bucket
    assert sum(windows for _, _, windows in totals) == sum(expected.values())


def test_window_samples_are_uniform_over_distinct_windows(tmp_path):
    # 100 windows that occur once: each should be drawn in about a tenth of the samples of ten.
    shard = write_shard(tmp_path, [list(range(100))], 2, [0])
    drawn = Counter()
    for seed in range(2000):
        (_, _, _, position), _ = _core.sample_windows([shard], 1, 10, seed)
        assert len(set(position.tolist())) == 10
        drawn.update(position.tolist())
    # 200 expected each, standard deviation 13.4; six of them.
    assert len(drawn) == 100
    assert all(120 <= n <= 280 for n in drawn.values())


def test_an_occurrence_is_drawn_uniformly(tmp_path):
    shard = write_shard(tmp_path, [[9] * 64], 2, [0])
    drawn = Counter(int(_core.sample_windows([shard], 1, 1, seed)[0][3][0]) for seed in range(6400))
    assert set(drawn) == set(range(1, 65))
    assert all(40 <= n <= 160 for n in drawn.values())


@pytest.mark.parametrize(
    "query", [[], [65535], [1, 65535], [2**32 - 1]], ids=["empty", "separator", "separator last", "largest"]
)
def test_queries_without_an_answer_are_refused(tmp_path, query):
    shard = write_shard(tmp_path, [[1, 2, 3]], 2, [0])
    with pytest.raises(QueryError):
        shard.count_one(query)
    with pytest.raises(QueryError):
        counts_of(shard, [[1], query])


@pytest.mark.parametrize("offsets", [[0, 5], [2, 1], [-1, 2], [0, 2**62]])
def test_offsets_outside_the_values_are_refused(tmp_path, offsets):
    shard = write_shard(tmp_path, [[1, 2, 3]], 2, [0])
    with pytest.raises(QueryError):
        shard.count(np.array([1, 2], dtype=np.uint32), np.array(offsets, dtype=np.int64))


def test_a_truncated_file_is_refused_at_open_and_while_open(tmp_path):
    shard = write_shard(tmp_path, [[1, 2, 3] * 1000], 2, [0])
    for name in ("table.0", "tokenized.0", "keys.0", "domain.0", "domainsum.0"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-2])
        with pytest.raises(CorruptIndexError, match=name):
            _core.Shard(tmp_path, 0, 2, 1, 4, True)
        with pytest.raises(CorruptIndexError, match=name):
            shard.count_by_domain_one([1])
        (tmp_path / name).write_bytes(whole)
    assert shard.count_one([1, 2]) == 1000


def test_a_damaged_pointer_is_an_error_and_never_a_crash(tmp_path):
    documents = [list(range(200)) * 5]
    write_shard(tmp_path, documents, 2, [0])
    whole = (tmp_path / "table.0").read_bytes()
    random = np.random.default_rng(3)
    queries = [[i, i + 1] for i in range(198)]
    batch = from_lists(queries)
    values = batch.values.astype(np.uint32)
    expected = [sum(occurrences(d, q) for d in documents) for q in queries]
    noticed = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << int(random.integers(8))
        (tmp_path / "table.0").write_bytes(damaged)
        shard = _core.Shard(tmp_path, 0, 2, 1, 4, True)
        with pytest.raises(CorruptIndexError, match=r"table\.0: byte \d+"):
            shard.verify_order()
        try:
            noticed += shard.count(values, batch.offsets).tolist() != expected
            shard.count_with_prefix(values, batch.offsets, 1)
        except CorruptIndexError:
            noticed += 1
    assert noticed > 0


def test_lookups_in_files_that_are_not_in_memory_are_right(tmp_path):
    """Pages are asked for ahead of their use then; on a file system without a page cache to empty, as usual."""
    random = np.random.default_rng(5)
    documents = [random.integers(0, 50, 2000).tolist() for _ in range(100)]
    shard = write_shard(tmp_path, documents, 2, [0] * len(documents))
    queries = [document[i : i + n] for document in documents for i, n in ((0, 3), (7, 5), (100, 40), (1500, 1))]
    warm = counts_of(shard, queries)
    del shard  # what is mapped stays in memory
    for few in (queries[:50], queries * 5):
        for name in ("tokenized.0", "table.0"):
            with (tmp_path / name).open("rb") as file:
                os.fsync(file.fileno())
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        opened = _core.Shard(tmp_path, 0, 2, 1, 4, True)
        assert counts_of(opened, few) == (warm * 5)[: len(few)]
        del opened


@pytest.mark.parametrize("stride", [0, 1 << 17])
def test_a_key_stride_out_of_range_is_an_error(tmp_path, stride):
    with pytest.raises(CorpusError, match="choose 1 to 65536"):
        write_shard(tmp_path, [[1]], 2, [0], stride=stride)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_an_answer_that_memory_does_not_hold_is_an_error(tmp_path):
    # 30 domains for 10^6 queries are 240 MB.
    shard = write_shard(tmp_path, [[1]] * 30, 1, list(range(30)), block=960)
    batch = np.ones(1_000_000, dtype=np.uint32), np.arange(1_000_001, dtype=np.int64)
    code = (
        "import resource, sys; import numpy as np; from memindex import _core; from memindex.errors import QueryError\n"
        "shard = _core.Shard(sys.argv[1], 0, 1, 30, 960, True)\n"
        "batch = np.ones(10**6, dtype=np.uint32), np.arange(10**6 + 1)\n"
        "held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + (100 << 20),) * 2)\n"
        "try: shard.count_by_domain(*batch)\n"
        "except QueryError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "30 numbers for 1000000 rows take 0.2 GB: ask in smaller batches\n", done.stderr
    assert (shard.count_by_domain(*batch).reshape(-1, 30) == 1).all()


AFTER_TAKING_OVER = """
import faulthandler, os, sys
from pathlib import Path
from synthetic_index import write_index
from memindex import _core
from memindex.errors import CorruptIndexError
from memindex.index import cooccurrence
folder, how = Path(sys.argv[1]), sys.argv[2]
index = write_index(folder, [[1, *[3] * 50, 2]] * 400, 1, 2)
faulthandler.enable()  # takes SIGBUS over, as Ray does
if how == "asked":
    _core.watch_reads()
elif how == "opened":
    write_index(folder, [[1]], 1, 1)
cooccurrence.MAX_MATCHES, before = -1, cooccurrence.ShardText.search
def truncated(shard, *places):
    os.truncate(index.path / "tokenized.0", 100)
    return before(shard, *places)
cooccurrence.ShardText.search = truncated
try:
    index.count_cnf([[[1]], [[2]]])
except CorruptIndexError:
    print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such a read ends the process")
@pytest.mark.parametrize(("how", "said", "code"), [("asked", "refused\n", 0), ("opened", "refused\n", 0), ("", "", -7)])
def test_a_file_that_shrinks_is_refused_after_another_library_took_its_signal(tmp_path, how, said, code):
    done = subprocess.run(
        [sys.executable, "-c", AFTER_TAKING_OVER, tmp_path, how],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == (said, code), done.stderr
