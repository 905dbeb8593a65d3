"""First documents equal those found by looking through all documents, and parts of copies have the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_index import write_index

from memindex.ragged import from_lists
from memindex.study import first_documents
from memindex.study.first_documents import first_documents as find


def holds(document: list[int], sequence: list[int]) -> bool:
    return any(document[at : at + len(sequence)] == sequence for at in range(len(document) - len(sequence) + 1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    documents=st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=12), min_size=1, max_size=9),
    sequences=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=12),
    shards=st.integers(1, 3),
)
def test_it_is_the_first_that_holds_the_sequence(tmp_path, documents, sequences, shards):
    index = write_index(tmp_path, documents, shards, 1)
    # Documents are dealt to the shards in turn; those of the first shard come first.
    in_order = [document for shard in range(shards) for document in documents[shard::shards]]
    expected = [next((n for n, document in enumerate(in_order) if holds(document, s)), -1) for s in sequences]
    assert find(index, from_lists(sequences)).tolist() == expected


@pytest.mark.parametrize("together", [1, 7, 1 << 22])
def test_parts_of_more_copies_than_are_looked_at_have_one_document(tmp_path, monkeypatch, together):
    monkeypatch.setattr(first_documents, "MOST_OCCURRENCES", 4)
    monkeypatch.setattr(first_documents, "_TOGETHER", together)
    random = np.random.default_rng(0)
    passage = random.integers(1, 200, 30).tolist()
    documents = [
        [*random.integers(1, 200, 5).tolist(), *passage, *random.integers(1, 200, 5).tolist()] for _ in range(40)
    ]
    index = write_index(tmp_path, [*documents, [250, 251]], 2, 1)
    found = find(index, from_lists([*(passage[at : at + 8] for at in range(22)), [250, 251]]))
    assert len(set(found[:-1].tolist())) == 1
    assert found[-1] not in found[:-1]
