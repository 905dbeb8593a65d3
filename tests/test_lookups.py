"""Every lookup against brute force: all token widths, several shards, documents that end anywhere."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memindex import _core
from memindex.errors import QueryError
from memindex.index import lookups
from memindex.ragged import Ragged, from_lists

WIDTHS = (1, 2, 4)
SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ids = st.sampled_from([0, 1, 2, 3, 254])
wide_ids = {1: ids, 2: st.one_of(ids, st.sampled_from([255, 256, 65534])), 4: st.one_of(ids, st.integers(0, 2**32 - 2))}

Documents = list[list[int]]


def build(directory: Path, documents: Documents, width: int, shards: int, keys: bool = True) -> list[_core.Shard]:
    """Shards that hold the documents in turn; document i is of domain i modulo 3."""
    batch = from_lists(documents)
    writer = _core.DocumentWriter(directory, shards, width)
    writer.append(batch.values.astype(np.uint32), batch.offsets)
    writer.close()
    opened = []
    for shard in range(shards):
        domains = np.arange(shard, len(documents), shards, dtype="<u2") % 3
        _core.sort_shard(directory, shard, width, domains.tobytes(), 3, 4)
        opened.append(_core.Shard(directory, shard, width, 3, 4, keys))
    return opened


def batch_of(queries: Documents) -> Ragged:
    ragged = from_lists(queries)
    return Ragged(ragged.values.astype(np.uint32), ragged.offsets)


def places(document: list[int], query: list[int]) -> list[int]:
    return [i for i in range(len(document) - len(query) + 1) if document[i : i + len(query)] == query]


def count(documents: Documents, query: list[int]) -> int:
    return sum(len(places(document, query)) for document in documents)


@st.composite
def corpora(draw, width: int):
    """(documents, shards, queries): some queries are pieces of documents."""
    documents = draw(st.lists(st.lists(wide_ids[width], max_size=40), min_size=1, max_size=8))
    if draw(st.booleans()):
        documents += documents[: draw(st.integers(1, 3))]
    shards = draw(st.integers(1, min(3, len(documents))))
    queries = draw(st.lists(st.lists(wide_ids[width], min_size=1, max_size=30), min_size=1, max_size=6))
    for document in documents[:4]:
        if document:
            start = draw(st.integers(0, len(document) - 1))
            queries.append(document[start : draw(st.integers(start + 1, len(document)))])
    return documents, shards, queries


def starts_of_documents(documents: Documents, shards: int) -> list[list[tuple[int, list[int]]]]:
    """For every shard (position of the first token, tokens) of its documents."""
    laid_out = []
    for shard in range(shards):
        at, mine = 1, []
        for document in documents[shard::shards]:
            mine.append((at, document))
            at += len(document) + 1
        laid_out.append(mine)
    return laid_out


@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
@pytest.mark.parametrize("width", WIDTHS)
@given(data=st.data())
@SETTINGS
def test_every_occurrence_is_found(tmp_path, width, keys, data):
    documents, number, queries = data.draw(corpora(width))
    shards = build(tmp_path, documents, width, number, keys)
    matches = lookups.find(shards, batch_of(queries))
    found = lookups.occurrences(shards, matches, None, None)
    expected = {
        (q, shard, first + place)
        for q, query in enumerate(queries)
        for shard, mine in enumerate(starts_of_documents(documents, number))
        for first, document in mine
        for place in places(document, query)
    }
    listed = list(zip(found.query.tolist(), found.shard.tolist(), found.position.tolist(), strict=True))
    assert set(listed) == expected
    assert len(listed) == len(expected)
    limit, seed = data.draw(st.integers(1, 5)), data.draw(st.one_of(st.none(), st.integers(0, 9)))
    some = lookups.occurrences(shards, matches, limit, seed)
    taken = list(zip(some.query.tolist(), some.shard.tolist(), some.position.tolist(), strict=True))
    assert set(taken) <= expected
    assert len(set(taken)) == len(taken)
    totals = Counter(q for q, _, _ in expected)
    assert Counter(q for q, _, _ in taken) == {q: min(limit, n) for q, n in totals.items()}


@pytest.mark.parametrize("width", WIDTHS)
@given(data=st.data())
@SETTINGS
def test_longest_matches_equal_brute_force(tmp_path, width, data):
    documents, number, queries = data.draw(corpora(width))
    shards = build(tmp_path, documents, width, number)
    longest = lookups.longest_match(shards, batch_of(queries))
    expected = []
    for query in queries:
        for i in range(len(query)):
            fits = [n for n in range(1, len(query) - i + 1) if count(documents, query[i : i + n])]
            length = max(fits, default=0)
            expected.append((length, count(documents, query[i : i + length]) if length else 0))
    assert list(zip(longest.lengths.tolist(), longest.counts.tolist(), strict=True)) == expected


@pytest.mark.parametrize("width", WIDTHS)
def test_longest_matches_of_long_passages_equal_brute_force(tmp_path, width):
    # Longer than what is matched in batches, with several documents that share much, and few ids.
    random = np.random.default_rng(width)
    base = random.integers(0, 3, 300).tolist()
    documents = [base, [*base[50:200], 1, *base[100:]], random.integers(0, 3, 200).tolist(), [2] * 80, base[:120]]
    queries = [base[40:260], [2] * 100, base[:100] + [2] * 50 + base[150:], random.integers(0, 3, 90).tolist()]
    for number in (1, 2):
        directory = tmp_path / str(number)
        directory.mkdir()
        shards = build(directory, documents, width, number)
        longest = lookups.longest_match(shards, batch_of(queries))
        for q, query in enumerate(queries):
            for i, at in enumerate(range(*longest.offsets[q : q + 2].tolist())):
                length = int(longest.lengths[at])
                assert count(documents, query[i : i + length]) == longest.counts[at] > 0
                assert i + length == len(query) or count(documents, query[i : i + length + 1]) == 0


REPETITIVE = {
    "one token": lambda n: [1] * n,
    "two runs": lambda n: [*[1] * (n // 2), 2, *[1] * (n - n // 2 - 1)],
    "a passage many times": lambda n: np.resize([1, 2, 1, 1, 2, 3, 1, 2], n).tolist(),
    "a passage with changes": lambda n: [3 if i % 397 == 396 else i % 5 % 2 for i in range(n)],
}


@pytest.mark.parametrize("of_corpus", REPETITIVE.values(), ids=REPETITIVE)
@pytest.mark.parametrize("of_query", REPETITIVE.values(), ids=REPETITIVE)
def test_longest_matches_in_text_that_repeats_itself_equal_brute_force(tmp_path, of_corpus, of_query):
    document, queries = of_corpus(1500), [of_query(n) for n in (1400, 30, 900)]
    (shard,) = build(tmp_path, [document, document[100:700]], 1, 1)
    texts = [bytes(document), bytes(document[100:700])]
    longest = lookups.longest_match([shard], batch_of(queries))
    for q, query in enumerate(map(bytes, queries)):
        ends = 0
        lengths = longest.lengths[slice(*longest.offsets[q : q + 2])].tolist()
        for i, length in enumerate(lengths):
            ends = max(ends, i)
            while ends < len(query) and any(query[i : ends + 1] in text for text in texts):
                ends += 1
            assert length == ends - i
        for i in range(0, len(query), 37):
            found = batch_of([list(query[i : i + lengths[i]])]) if lengths[i] else None
            expected = int(lookups.find([shard], found).counts.sum()) if found else 0
            assert longest.counts[longest.offsets[q] + i] == expected


@pytest.mark.parametrize("kind", ["one token", "a passage many times"])
def test_longest_matches_in_text_that_repeats_itself_take_linear_time(tmp_path, kind):
    document = REPETITIVE[kind](100_000)
    (shard,) = build(tmp_path, [document], 1, 1)
    start = time.process_time()
    longest = lookups.longest_match([shard], batch_of([document]))
    # A second; of comparing every passage anew, minutes.
    assert time.process_time() - start < 15
    assert longest.lengths.tolist() == list(range(len(document), 0, -1))


@given(data=st.data())
@SETTINGS
def test_spans_are_the_maximal_matches(tmp_path, data):
    documents, number, queries = data.draw(corpora(2))
    shards = build(tmp_path, documents, 2, number)
    least = data.draw(st.integers(1, 4))
    found = lookups.spans(lookups.longest_match(shards, batch_of(queries)), least, None)
    expected = []
    for q, query in enumerate(queries):
        occurs = {
            (i, j) for i in range(len(query)) for j in range(i + 1, len(query) + 1) if count(documents, query[i:j])
        }
        for i, j in sorted(occurs):
            if j - i >= least and (i - 1, j) not in occurs and (i, j + 1) not in occurs:
                expected.append((q, i, j - i, count(documents, query[i:j])))
    columns = (found.query, found.start, found.length, found.counts)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected


@pytest.mark.parametrize("width", WIDTHS)
@given(data=st.data())
@SETTINGS
def test_next_tokens_equal_brute_force(tmp_path, width, data):
    documents, number, queries = data.draw(corpora(width))
    shards = build(tmp_path, documents, width, number)
    following = lookups.next_tokens(shards, batch_of(queries), 3)
    for q, query in enumerate(queries):
        expected: dict[int, list[int]] = {}
        ends = 0
        for number_, document in enumerate(documents):
            # Document i stands in shard i modulo shards, as number i // shards; its domain counts inside the shard's.
            shard, inside = number_ % number, number_ // number
            domain = (shard + inside * number) % 3
            for place in places(document, query):
                if place + len(query) == len(document):
                    ends += 1
                else:
                    expected.setdefault(document[place + len(query)], [0, 0, 0])[domain] += 1
        row = slice(*following.offsets[q : q + 2].tolist())
        domains = following.domains[row].tolist()
        assert dict(zip(following.ids[row].tolist(), domains, strict=True)) == expected
        assert following.counts[row].tolist() == [sum(row) for row in domains]
        assert following.counts[row].tolist() == sorted(following.counts[row].tolist(), reverse=True)
        assert following.ends[q] == ends


@given(data=st.data())
@SETTINGS
def test_documents_are_counted_exactly_or_bounded(tmp_path, data):
    documents, number, queries = data.draw(corpora(1))
    shards = build(tmp_path, documents, 1, number)
    expected = [sum(bool(places(document, query)) for document in documents) for query in queries]
    exact = lookups.document_count(shards, batch_of(queries), 1000)
    assert exact.low.tolist() == exact.high.tolist() == expected
    cap = data.draw(st.integers(1, 4))
    low, high = lookups.document_count(shards, batch_of(queries), cap)
    assert (low <= expected).all()
    assert (expected <= high).all()
    few = lookups.find(shards, batch_of(queries)).counts.max(axis=1) <= cap
    assert (low[few] == high[few]).all()


@given(data=st.data())
@SETTINGS
def test_documents_and_tokens_around_a_position_are_right(tmp_path, data):
    documents, number, _ = data.draw(corpora(2))
    for shard, mine in zip(build(tmp_path, documents, 2, number), starts_of_documents(documents, number), strict=True):
        positions = [at for first, document in mine for at in range(first - 1, first + len(document))]
        located = shard.locate(np.array(positions, dtype=np.int64)).reshape(-1, 3).tolist()
        expected = [
            [d, first, first + len(document)]
            for d, (first, document) in enumerate(mine)
            for _ in range(len(document) + 1)
        ]
        assert located == expected
        firsts = np.array([first for first, _ in mine], dtype=np.int64)
        ends = np.array([first + len(document) for first, document in mine], dtype=np.int64)
        values, offsets = shard.tokens(firsts, ends)
        assert [values[a:b].tolist() for a, b in itertools.pairwise(offsets)] == [d for _, d in mine]


def test_what_is_outside_of_a_shard_is_an_error(tmp_path):
    (shard,) = build(tmp_path, [[1, 2, 3]], 2, 1)
    with pytest.raises(QueryError, match="rank 4 is out of range"):
        shard.positions(np.array([4], dtype=np.uint64))
    for position in (-1, 4):
        with pytest.raises(QueryError, match=f"position {position} is not in the shard"):
            shard.locate(np.array([position], dtype=np.int64))
    with pytest.raises(QueryError, match="document 1 is not in the shard"):
        shard.metadata(np.array([1], dtype=np.int64))
    with pytest.raises(QueryError, match="tokens 2 to 5"):
        shard.tokens(np.array([2], dtype=np.int64), np.array([5], dtype=np.int64))
    with pytest.raises(QueryError, match="ranges of ranks"):
        shard.count_ranges(np.array([2], dtype=np.uint64), np.array([5], dtype=np.uint64))
    batch = batch_of([[1]])
    with pytest.raises(QueryError, match="limit"):
        lookups.occurrences([shard], lookups.find([shard], batch), 0, None)
    with pytest.raises(QueryError, match="cap"):
        lookups.document_count([shard], batch, 0)
    with pytest.raises(QueryError, match="min_tokens"):
        lookups.spans(lookups.longest_match([shard], batch), 0, None)
