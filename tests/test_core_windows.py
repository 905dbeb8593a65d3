"""Sizes of windows and samples that no text can have."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_core_lookups import write_shard

from memindex import _core
from memindex.errors import QueryError

DOCUMENT = [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("length", [2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_window_longer_than_memory_is_refused(tmp_path: Path, width: int, length: int) -> None:
    shard = write_shard(tmp_path, [DOCUMENT], width, [0])
    with pytest.raises(QueryError, match=f"a window of {length} tokens is longer than any text"):
        _core.sample_windows([shard], length, 1, 0)


@pytest.mark.parametrize("length", [7, 2**40])
def test_a_window_longer_than_the_text_gives_none(tmp_path: Path, length: int) -> None:
    shard = write_shard(tmp_path, [DOCUMENT], 2, [0])
    (_, count, _, _), totals = _core.sample_windows([shard], length, 1, 0)
    assert (len(count), totals) == (0, [])


def test_a_sample_of_any_size_takes_only_what_is_there(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, [DOCUMENT], 2, [0])
    (_, count, _, _), _ = _core.sample_windows([shard], 3, 2**64 - 1, 0)
    assert sorted(count.tolist()) == [1, 1, 2]
