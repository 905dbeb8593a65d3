"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

# Third-party packages that warn while they are imported; our own warnings stay errors.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyarrow.dataset  # noqa: F401

# pytest's workers set it, and tables would be folded to it.
os.environ.pop("COLUMNS", None)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real corpora and tokenizers beside the repository; tests that need them are skipped where they are not."""
    if not (SHARED / "corpora").is_dir():
        pytest.skip("needs the development corpora in ../shared, which are not on this machine")
    return SHARED


@pytest.fixture
def sigint() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, here and in processes started meanwhile.

    Who starts the tests may ignore it (`nohup make test &`), which processes inherit.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have an empty drawing for each figure: for tests of all else in them, as drawing takes most of the time.

    A figure that can't be drawn is still absent, with its reason.
    """
    from memindex.report.figures import why_nothing

    def empty(query, table, *_) -> str:
        return "" if why_nothing(query, table) else "<svg></svg>"

    monkeypatch.setattr("memindex.report.page.inline_svg", empty)


@pytest.fixture
def ray():
    """Ray, which is shut down afterwards."""
    ray = pytest.importorskip("ray")
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def exact_float32():
    """Products of float32 matrices on a GPU in float32: TF32 would round what is multiplied."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before
