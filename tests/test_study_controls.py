"""Shuffled suffixes: a permutation within each sample that gives nobody a suffix of its own document."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memindex.errors import MemindexError
from memindex.study.controls import shuffled_rows


def sequences(samples: list[str], documents: list[int]) -> pa.Table:
    rows = len(samples)
    return pa.table(
        {
            "sample": samples,
            "index": ["a"] * rows,
            "shard": pa.array([d % 2 for d in documents], pa.int32()),
            "document": pa.array([d // 2 for d in documents], pa.int64()),
        }
    )


@given(st.lists(st.tuples(st.sampled_from(["uniform", "bucket"]), st.integers(0, 5)), max_size=60), st.integers(0, 9))
@settings(deadline=None, max_examples=300)
def test_suffixes_are_dealt_among_documents_of_the_same_sample(rows, seed):
    samples, documents = [s for s, _ in rows], [d for _, d in rows]
    table = sequences(samples, documents)
    in_sample, in_document = Counter(samples), Counter(rows)
    crowded = any(2 * number > in_sample[sample] for (sample, _), number in in_document.items())
    if crowded:
        with pytest.raises(MemindexError, match="stand in one document"):
            shuffled_rows(table, seed)
        return
    chosen = shuffled_rows(table, seed)
    assert sorted(chosen.tolist()) == list(range(len(rows)))
    for row, other in enumerate(chosen):
        assert samples[row] == samples[other]
        assert documents[row] != documents[other]
    assert np.array_equal(chosen, shuffled_rows(table, seed))


def test_two_documents_of_equal_weight_swap_their_suffixes():
    """The hardest case that can be solved: chance alone would take forever."""
    documents = [0] * 500 + [1] * 500
    chosen = shuffled_rows(sequences(["uniform"] * 1000, documents), 0)
    assert sorted(chosen.tolist()) == list(range(1000))
    assert set(chosen[:500].tolist()) == set(range(500, 1000))


def test_another_seed_shuffles_otherwise():
    table = sequences(["uniform"] * 100, list(range(100)))
    assert not np.array_equal(shuffled_rows(table, 0), shuffled_rows(table, 1))
