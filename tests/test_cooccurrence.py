"""CNF queries against a plain reading of their definition, and against the infini-gram package, right or wrong."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_corpus import assert_refused, memindex
from synthetic_index import write_index

from memindex.errors import CorruptIndexError, MissingExtraError, QueryError
from memindex.index import Index, cooccurrence
from memindex.index.cooccurrence import find_clauses


def index_of(folder, texts: list[str], shards: int = 1) -> Index:
    """An index of bytes: every character of an ASCII text is a token."""
    return write_index(folder, [list(text.encode()) for text in texts], shards, 1)


def places(text: str, clause: list[str]) -> list[int]:
    return [i for i in range(len(text)) if any(text.startswith(term, i) for term in clause)]


def brute_force(texts: list[str], clauses: list[list[str]], distance: int) -> set[tuple[int, int]]:
    """(document, place) of every anchor near which all clauses stand, one after the other, as the module defines it."""
    matches = [[places(text, clause) for text in texts] for clause in clauses]
    order = sorted(range(len(clauses)), key=lambda c: sum(map(len, matches[c])))
    found = set()
    for number in range(len(texts)):
        for anchor in matches[order[0]][number]:
            first = last = anchor
            for c in order[1:]:
                before = [p for p in matches[c][number] if p < last]
                after = [p for p in matches[c][number] if p >= first]
                left = min(first, before[-1]) if before else None
                right = max(last, after[0]) if after else None
                left = left if left is not None and left >= first - distance else None
                right = right if right is not None and right <= last + distance else None
                if left is None and right is None:
                    break
                first, last = first if left is None else left, last if right is None else right
            else:
                found.add((number, anchor))
    return found


def as_places(index: Index, matches, shards: int) -> set[tuple[int, int]]:
    """(document, place in it) of the places an answer names."""
    found = set()
    for shard, position in zip(matches.shards.tolist(), matches.positions.tolist(), strict=True):
        starts = index.document_starts(shard)
        row = int(np.searchsorted(starts, position, side="right")) - 1
        found.add((row * shards + shard, position - int(starts[row]) - 1))
    return found


letters = st.text("abc", min_size=1, max_size=3)
queries = st.lists(st.lists(letters, min_size=1, max_size=3), min_size=1, max_size=4)
corpora = st.lists(st.text("abcd", max_size=25), min_size=1, max_size=6)


@pytest.mark.parametrize("scan", [True, False], ids=["text around anchors", "all matches"])
@given(texts=corpora, clauses=queries, distance=st.integers(1, 12), shards=st.integers(1, 3), data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cnf_equals_brute_force(tmp_path_factory, monkeypatch, scan, texts, clauses, distance, shards, data):
    monkeypatch.setattr(cooccurrence, "TOKEN_COST", 0 if scan else 1e9)
    monkeypatch.setattr(cooccurrence, "CHUNK", data.draw(st.integers(1, 4)))
    monkeypatch.setattr(cooccurrence, "PIECE", data.draw(st.integers(1, 9)))
    index = index_of(tmp_path_factory.mktemp("cnf"), texts, shards)
    expected = brute_force(texts, clauses, distance)
    answer = index.count_cnf(clauses, max_distance=distance)
    assert (answer.low, answer.high, answer.exact) == (len(expected), len(expected), True)
    matches = index.find_cnf(clauses, max_distance=distance)
    assert as_places(index, matches, shards) == expected
    assert matches.total == answer
    few = index.find_cnf(clauses, max_distance=distance, limit=2)
    assert few.positions.tolist() == matches.positions[:2].tolist()
    assert few.total.low == len(expected)
    most = data.draw(st.integers(1, 5))
    bound = index.count_cnf(clauses, max_distance=distance, max_matches=most)
    assert bound.low <= len(expected) <= bound.high


@given(texts=corpora, clauses=queries, distance=st.integers(1, 12), shards=st.integers(1, 3))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_package_behind_checks_is_right_or_refuses(tmp_path_factory, texts, clauses, distance, shards):
    pytest.importorskip("infini_gram", reason="infini-gram has no wheel for this platform")
    index = index_of(tmp_path_factory.mktemp("cnf"), texts, shards)
    if not sum(len(text) for text in texts):
        return
    expected = len(brute_force(texts, clauses, distance))
    try:
        answer = index.count_cnf(clauses, max_distance=distance, engine="infini-gram")
    except QueryError as error:
        assert "not the same in every shard" in str(error)
        return
    assert answer.engine == "infini-gram"
    assert answer.low <= expected <= answer.high


def raw_package(index: Index):
    """The package's engine on an index, without any of our checks."""
    pytest.importorskip("infini_gram", reason="infini-gram has no wheel for this platform")
    from infini_gram.engine import InfiniGramEngine

    width = index.manifest.token_width
    size = 2 ** (8 * width) - 1
    return InfiniGramEngine(str(index.path), eos_token_id=0, vocab_size=size, token_dtype=f"u{8 * width}")


def ids(*clauses: list[str]) -> list[list[list[int]]]:
    return [[list(term.encode()) for term in clause] for clause in clauses]


def test_far_from_borders_the_package_counts_the_same(tmp_path):
    random = np.random.default_rng(3)
    texts = ["." * 200 + "".join(random.choice(list("abcdefgh"), 3000)) + "." * 200 for _ in range(4)]
    index = index_of(tmp_path / "a", texts)
    package = raw_package(index)
    nonzero = 0
    for _ in range(60):
        clauses = [
            ["".join(random.choice(list("abcdefgh"), int(random.integers(2, 4)))) for _ in range(2)] for _ in range(3)
        ]
        for query in (clauses[:1], clauses[:2], clauses):
            terms = [clause.terms for clause in find_clauses(index, query)]
            answer = index.count_cnf(query, max_distance=20)
            assert package.count_cnf(terms, max_diff_tokens=20) == {"count": answer.low, "approx": False}, query
            assert index.count_cnf(query, max_distance=20, engine="infini-gram").low == answer.low
            assert index.count_cnf(query, max_distance=20, engine="infini-gram").exact
            nonzero += answer.low > 0
    assert nonzero > 50


def test_wrong_case_more_matches_than_its_limit(tmp_path):
    index = index_of(tmp_path / "a", ["ab" * 30_000])
    query = ids(["a"])
    assert raw_package(index).count_cnf(query, max_clause_freq=29_000) == {"count": 29_000, "approx": False}
    assert index.count_cnf(query)[:2] == (30_000, 30_000)
    both = ids(["a"], ["b"])
    assert raw_package(index).count_cnf(both, max_clause_freq=29_000)["approx"] is False
    assert raw_package(index).count_cnf(both, max_clause_freq=29_000)["count"] < 29_001
    assert index.count_cnf(both)[:2] == (30_000, 30_000)


@pytest.mark.parametrize(
    ("clause", "theirs"),
    [(["a", "a"], 6), (["a", "ab"], 5), (["ab", "abc", "abc"], 4)],
    ids=["equal", "prefix", "both"],
)
def test_wrong_case_terms_of_an_or_that_match_in_one_place(tmp_path, clause, theirs):
    index = index_of(tmp_path / "a", ["abc.a.ab."])
    assert raw_package(index).count_cnf(ids(clause))["count"] == theirs
    right = len(brute_force(["abc.a.ab."], [clause], 1))
    assert index.count_cnf(ids(clause))[:2] == (right, right)
    assert index.count_cnf(ids(clause), engine="infini-gram")[:2] == (right, right)


def test_wrong_case_a_match_in_the_document_before(tmp_path):
    # The b of the first document is the nearest on the left; the one on the right would do.
    index = index_of(tmp_path / "a", ["..b", "a.b"])
    assert raw_package(index).count_cnf(ids(["a"], ["b"]))["count"] == 0
    assert index.count_cnf(ids(["a"], ["b"]))[:2] == (1, 1)
    assert index.count_cnf(ids(["a"], ["b"]), engine="infini-gram")[:2] == (0, 1)


def test_wrong_case_the_rarest_clause_differs_between_shards(tmp_path):
    # Shard 0 counts a's, shard 1 counts b's; in one shard, a's would be counted.
    pad = "." * 150
    texts = [f"{pad}abbbbb{pad}", f"{pad}aaab{pad}"]
    index = index_of(tmp_path / "a", texts, shards=2)
    query = ids(["a"], ["b"])
    assert raw_package(index_of(tmp_path / "a", texts)).count_cnf(query)["count"] == 4
    assert raw_package(index).count_cnf(query)["count"] == 2
    assert index.count_cnf(query)[:3] == (4, 4, 0)
    with pytest.raises(QueryError, match="not the same in every shard"):
        index.count_cnf(query, engine="infini-gram")


def test_clauses_of_equal_counts_are_taken_in_the_order_they_are_named(tmp_path):
    # Both stand twice; near one b there are both a's, near one a there is one b.
    index = index_of(tmp_path / "a", ["." * 150 + "aab" + "." * 150 + "b" + "." * 150])
    package = raw_package(index)
    for query, count in ((ids(["a"], ["b"]), 2), (ids(["b"], ["a"]), 1)):
        assert index.count_cnf(query)[:3] == (count, count, 0)
        assert package.count_cnf(query)["count"] == count


def test_wrong_case_a_separator_across_two_tokens(tmp_path):
    # 0xff05 and 0x01ff: their bytes 05 ff ff 01 hold two of ones, which the package takes for a border.
    index = write_index(tmp_path / "a", [[7, 0xFF05, 0x01FF, 8]], 1, 2)
    query = [[[7]], [[8]]]
    assert raw_package(index).count_cnf(query)["count"] == 0
    assert index.count_cnf(query)[:2] == (1, 1)
    assert index.count_cnf(query, engine="infini-gram")[:2] == (0, 1)


def test_empty_shards_and_folders_the_package_dies_on(tmp_path):
    pytest.importorskip("infini_gram", reason="infini-gram has no wheel for this platform")
    folder = tmp_path / "tokenized table offset"
    index = write_index(folder, [[1, 2, 3]] * 2 + [[1, 9]], 12, 1)
    (index.path / "tokenized notes.txt").write_text("a stray file\n")
    for query, count in (([[[2]], [[1]]], 2), ([[[9]], [[1]]], 1), ([[[9]], [[2]]], 0), ([[[1], [9]]], 4)):
        assert index.count_cnf(query, max_distance=5)[:2] == (count, count)
        assert index.count_cnf(query, max_distance=5, engine="infini-gram")[:2] == (count, count)
    assert not list(tmp_path.rglob("memindex-*"))


def test_more_than_ten_shards_keep_their_numbers(tmp_path):
    index = write_index(tmp_path / "a", [[1] * (number + 1) for number in range(12)], 12, 1)
    matches = index.find_cnf([[[1, 1]]])
    assert np.bincount(matches.shards, minlength=12).tolist() == list(range(12))


def test_the_package_never_sees_a_damaged_table(tmp_path):
    pytest.importorskip("infini_gram", reason="infini-gram has no wheel for this platform")
    index = write_index(tmp_path / "a", [[1, 2, 3, 1, 2]], 1, 1)
    table = index.path / "table.0"
    content = bytearray(table.read_bytes())
    content[-1] = 0xFE
    table.write_bytes(content)
    index = Index.open(index.path)
    with pytest.raises(CorruptIndexError, match=r"table\.0"):
        index.count_cnf([[[1]]], engine="infini-gram")


@pytest.mark.parametrize("offsets", [[], [0], [1, 5], [2**64 - 1] * 2, [0, 3]], ids=str)
def test_a_damaged_offset_file_is_an_error(tmp_path, offsets):
    index = write_index(tmp_path / "a", [[1, 2, 3, 1, 2], [4, 1]], 1, 1)
    (index.path / "offset.0").write_bytes(np.array(offsets, dtype="<u8").tobytes())
    with pytest.raises(CorruptIndexError, match=r"offset\.0"):
        index.count_cnf([[[4]], [[1]]])


@pytest.mark.parametrize("name", ["offset.0", "tokenized.0"])
def test_files_that_shrink_or_vanish_while_open(tmp_path, name):
    index = write_index(tmp_path / "a", [[1, 2, 3, 1, 2], [4, 1]], 1, 1)
    file = index.path / name
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(CorruptIndexError, match=name):
        index.count_cnf([[[4]], [[1]]])
    with pytest.raises(CorruptIndexError, match=name):
        index.find_cnf([[[4]], [[1]]])
    file.write_bytes(content)
    index = Index.open(index.path)
    file.unlink()
    if name == "offset.0":
        with pytest.raises(CorruptIndexError, match=name):
            index.count_cnf([[[4]], [[1]]])
    else:
        # What is mapped stays, also when another file takes its name.
        file.write_bytes(bytes(len(content)))
        assert index.count_cnf([[[4]], [[1]]]) == (1, 1, 0, "memindex")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such a read ends the process")
@pytest.mark.parametrize("step", ["documents", "search"])
def test_a_file_that_is_truncated_in_the_middle_of_a_count(tmp_path, monkeypatch, step):
    index = write_index(tmp_path / "a", [[1, *[3] * 50, 2]] * 400, 1, 2)
    monkeypatch.setattr(cooccurrence, "MAX_MATCHES", -1)
    before = getattr(cooccurrence.ShardText, step)

    def truncated(shard, *places):
        os.truncate(index.path / "tokenized.0", 100)
        return before(shard, *places)

    monkeypatch.setattr(cooccurrence.ShardText, step, truncated)
    with pytest.raises(CorruptIndexError, match=r"tokenized\.0"):
        index.count_cnf([[[1]], [[2]]])


@pytest.mark.parametrize(
    ("clauses", "message"),
    [
        ([], "at least one clause"),
        ([[]], "empty"),
        ([[[1], []]], "empty"),
        ("", "on both sides"),
        ("a AND ", "on both sides"),
        ("a OR  OR b", "on both sides"),
        (5, "a text with AND and OR"),
        ([5], "can't ask with a int"),
        ([[1.5]], "whole numbers"),
        ([[[-1]]], "out of range"),
        ([[[255]]], "out of range"),
        ([["a", 5]], "either texts, or lists"),
        (np.array([0.5]), "whole numbers|can't ask"),
    ],
)
def test_bad_queries_are_refused(tmp_path, clauses, message):
    index = index_of(tmp_path / "a", ["abc"])
    with pytest.raises(QueryError, match=message):
        index.count_cnf(clauses)


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, None, "7"], ids=repr)
def test_bad_numbers_are_refused(tmp_path, bad):
    index = index_of(tmp_path / "a", ["abc"])
    for engine in ("memindex", "infini-gram"):
        with pytest.raises(QueryError, match="max_distance must be"):
            index.count_cnf("a AND b", max_distance=bad, engine=engine)
    with pytest.raises(QueryError, match="max_matches must be"):
        index.count_cnf("a AND b", max_matches=bad)
    if bad is not None:
        with pytest.raises(QueryError, match="limit must be"):
            index.find_cnf("a AND b", limit=bad)
    with pytest.raises(QueryError, match="no engine"):
        index.count_cnf("a AND b", engine=bad)


def test_without_the_package_ours_works_and_the_rest_says_so(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "infini_gram.engine", None)
    index = index_of(tmp_path / "a", ["abc"])
    assert index.count_cnf("a AND c").low == 1
    with pytest.raises(MissingExtraError, match="leave out engine") as caught:
        index.count_cnf("a AND c", engine="infini-gram")
    assert "\n" not in str(caught.value)


def test_a_bound_names_what_is_between(tmp_path):
    index = index_of(tmp_path / "a", ["ab" * 50 + "." * 500 + "a" * 40])
    assert index.count_cnf("b AND a")[:3] == (50, 50, 0)
    assert index.count_cnf("a AND b", max_matches=20)[:3] == (20, 50, 1)
    assert not index.count_cnf("a AND b", max_matches=20).exact
    assert index.count_cnf("a", max_matches=20)[:2] == (90, 90)


def test_command_line(tmp_path):
    index = index_of(tmp_path / "a", ["the cat and the dog", "the bird", "the cat"])
    query = "the AND cat OR dog"
    result = memindex("count", "-i", index.path, "--cnf", query, "the", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    first, second = [json.loads(line) for line in result.stdout.splitlines()]
    assert first == {
        "query": query,
        "clauses": ids(["the"], ["cat", "dog"]),
        "count": 3,
        "exact": True,
        "low": 3,
        "high": 3,
        "engine": "memindex",
    }
    assert (second["count"], second["clauses"]) == (4, ids(["the"]))
    near = memindex("count", "-i", index.path, "--cnf", query, "--max-distance", 5, "--json")
    assert json.loads(near.stdout)["count"] == len(
        brute_force(["the cat and the dog", "the cat"], [["cat", "dog"], ["the"]], 5)
    )
    table = memindex("count", "-i", index.path, "--cnf", query).stdout
    assert "116 104 101 AND 99 97 116 OR 100 111 103" in table
    assert_refused(memindex("count", "-i", index.path, "--cnf", "a AND "), "both sides")
    for options in (["--ids"], ["--by-domain"]):
        assert memindex("count", "-i", index.path, "--cnf", "a", *options).returncode == 2
