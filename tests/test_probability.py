"""Probabilities of n-grams and infinite-grams against a plain reading of the paper, and against the package."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_index import write_index

from memindex.errors import MissingExtraError, QueryError
from memindex.ragged import Ragged, from_lists

# 254 is the largest id of one byte, 9 stands in no corpus here.
ids = st.sampled_from([0, 1, 2, 254])
corpora = st.lists(st.lists(ids, max_size=20), min_size=1, max_size=6)
prompts_of_any_length = st.lists(st.lists(st.one_of(ids, st.just(9)), max_size=12), max_size=8)


def occurrences(documents: list[list[int]], query: list[int]) -> int:
    """Places where the query stands; the empty one before every token and at the end of every document."""
    return sum(d[i : i + len(query)] == query for d in documents for i in range(len(d) - len(query) + 1))


def expected(documents, prompts, tokens, back_off: bool) -> list[tuple[int, int, int]]:
    rows = []
    for prompt, token in zip(prompts, tokens, strict=True):
        context = prompt
        while back_off and context and not occurrences(documents, context):
            context = context[1:]
        rows.append((occurrences(documents, context), occurrences(documents, [*context, token]), len(context)))
    return rows


@given(documents=corpora, prompts=prompts_of_any_length, shards=st.integers(1, 3), data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_probabilities_equal_brute_force_and_the_package(tmp_path_factory, documents, prompts, shards, data):
    index = write_index(tmp_path_factory.mktemp("prob"), documents, shards, 1)
    # Prompts that occur: pieces of the documents, some with a token in front that does not.
    for document in documents:
        start = data.draw(st.integers(0, len(document)))
        prompts.append([9] * data.draw(st.integers(0, 1)) + document[start : start + data.draw(st.integers(0, 9))])
    tokens = data.draw(st.lists(ids, min_size=len(prompts), max_size=len(prompts)))
    for ask, back_off in ((index.prob, False), (index.infinigram_prob, True)):
        right = expected(documents, prompts, tokens, back_off)
        found = ask(from_lists(prompts), tokens)
        assert [side.dtype for side in found] == [np.uint64, np.uint64, np.int64, np.float64]
        assert list(zip(*(side.tolist() for side in found[:3]), strict=True)) == right
        for probability, (prompt_count, token_count, _) in zip(found.probabilities, right, strict=True):
            assert probability == token_count / prompt_count if prompt_count else np.isnan(probability)
        if has_package() and any(documents):
            theirs = ask(from_lists(prompts), tokens, engine="infini-gram")
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, theirs, strict=True))


@given(documents=corpora, prompts=prompts_of_any_length, shards=st.integers(1, 3), width=st.sampled_from([1, 2, 4]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_next_tokens_equal_brute_force(tmp_path_factory, documents, prompts, shards, width):
    index = write_index(tmp_path_factory.mktemp("next"), documents, shards, width)
    prompts += [document[:3] for document in documents]
    found, lengths = index.infinigram_next_tokens(from_lists(prompts))
    assert lengths.tolist() == [n for *_, n in expected(documents, prompts, [0] * len(prompts), True)]
    for row, (prompt, length) in enumerate(zip(prompts, lengths.tolist(), strict=True)):
        context = prompt[len(prompt) - length :]
        follow = Counter(
            [*document, "end"][i + length]
            for document in documents
            for i in range(len(document) - length + 1)
            if document[i : i + length] == context
        )
        assert found.ends[row] == follow.pop("end", 0)
        part = slice(*found.offsets[row : row + 2].tolist())
        pairs = zip(found.ids[part].tolist(), found.counts[part].tolist(), strict=True)
        assert list(pairs) == sorted(follow.items(), key=lambda item: (-item[1], item[0]))


def has_package() -> bool:
    try:
        import infini_gram.engine  # noqa: F401
    except ImportError:
        return False
    return True


def test_a_long_prompt_is_searched_in_few_batches(tmp_path, monkeypatch):
    document = np.random.default_rng(1).integers(0, 200, 5000).tolist()
    index = write_index(tmp_path / "a", [document], 1, 1)
    prompts = [[201, *document[:length]] for length in (0, 1, 2, 3, 4, 31, 32, 33, 1000, 4095, 4096, 4097)]
    batches = []
    count = type(index).count
    monkeypatch.setattr(type(index), "count", lambda self, queries: batches.append(1) or count(self, queries))
    found = index.infinigram_prob(from_lists(prompts), 0)
    assert found.suffix_lengths.tolist() == [len(prompt) - 1 for prompt in prompts]
    # Twelve doublings, twelve halvings, and the two counts of the answer.
    assert len(batches) <= 28


def test_every_form_of_prompts_and_tokens(tmp_path):
    index = write_index(tmp_path / "a", [list(b"abcabd")], 1, 1)
    right = index.infinigram_prob([list(b"xab"), list(b"ab")], [99, 100])
    assert right.probabilities.tolist() == [0.5, 0.5]
    assert right.suffix_lengths.tolist() == [2, 2]
    values = np.frombuffer(b"xabab", dtype=np.uint8)
    for prompts in (
        ["xab", "ab"],
        Ragged(values, np.array([0, 3, 5])),
        pa.array([list(b"xab"), list(b"ab")]),
        pa.array([[0], list(b"xab"), list(b"ab")])[1:],
    ):
        for tokens in ([99, 100], np.array([99, 100], dtype=np.uint8), np.array([99, 100], dtype=np.int64)):
            assert all(map(np.array_equal, index.infinigram_prob(prompts, tokens), right))
    assert index.prob("ab", 99).probabilities.tolist() == [0.5]
    assert index.prob(["ab", "a"], 98).probabilities.tolist() == [0.0, 1.0]
    assert index.prob(Ragged(values[:0], np.array([0])), []).probabilities.tolist() == []
    # Six tokens and one end of a document follow the empty prompt.
    assert index.prob("", 97).probabilities.tolist() == [2 / 7]


@pytest.mark.parametrize(
    ("prompts", "tokens", "message"),
    [
        ([[1]], [1, 2], "one token per prompt"),
        ([[1]], [[1]], "one token per prompt"),
        ([[1]], [[1], [1, 2]], "one whole number per prompt"),
        ([[1]], [1.5], "whole numbers"),
        ([[1]], [float("nan")], "whole numbers"),
        ([[1]], ["a"], "whole numbers"),
        ([[1]], None, "whole numbers"),
        ([[1]], -1, "out of range"),
        ([[1]], 255, "out of range"),
        ([[1]], 2**40, "out of range"),
        ([[255, 1]], 1, "out of range"),
        ([[-1]], 1, "out of range"),
        ([[1.5]], 1, "whole numbers"),
        (5, 1, "can't ask with a int"),
        (Ragged(np.array([1, 2]), np.array([0, 2, 1])), 1, "ascending"),
        (Ragged(np.array([1, 2]), np.array([0, 3])), 1, "ascending"),
    ],
)
@pytest.mark.parametrize("engine", ["memindex", "infini-gram"])
def test_bad_questions_are_refused(tmp_path, engine, prompts, tokens, message):
    index = write_index(tmp_path / "a", [[1, 2]], 1, 1)
    for ask in (index.prob, index.infinigram_prob):
        with pytest.raises(QueryError, match=message):
            ask(prompts, tokens, engine=engine)


@pytest.mark.parametrize("prompts", [[[255]], [[-1]], 5, Ragged(np.array([1, 2]), np.array([0, 3]))], ids=repr)
def test_bad_prompts_have_no_next_tokens(tmp_path, prompts):
    index = write_index(tmp_path / "a", [[1, 2]], 1, 1)
    with pytest.raises(QueryError):
        index.infinigram_next_tokens(prompts)


def test_without_the_package_ours_works_and_the_rest_says_so(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "infini_gram.engine", None)
    index = write_index(tmp_path / "a", [[1, 2]], 1, 1)
    assert index.infinigram_prob([[1]], 2).probabilities.tolist() == [1.0]
    with pytest.raises(MissingExtraError, match="infini-gram is not installed"):
        index.infinigram_prob([[1]], 2, engine="infini-gram")
    with pytest.raises(QueryError, match="no engine 'other'"):
        index.prob([[1]], 2, engine="other")
