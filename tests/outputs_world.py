"""A small index and a study of it, and what commands print about them."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
import tokenizers
from synthetic_corpus import sentences, train_bpe, write_jsonl

from memindex import Index, build_index
from memindex.cli import main
from memindex.corpus.sources import ReadOptions

__all__ = ["folder", "index", "slow", "study"]

TEXTS = sentences(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("outputs")
    train_bpe(made / "small.json")
    rows = [{"text": text, "d": ["b", "é"][i % 2]} for i, text in enumerate(TEXTS)]
    write_jsonl(made / "a.jsonl", rows)
    options = ReadOptions("text", "d")
    # One file, not a list of one.
    build_index(str(made / "a.jsonl"), made / "pile", tokenizer=made / "small.json", options=options, shards=2)
    return made


@pytest.fixture(scope="module")
def index(folder):
    return Index.open(folder / "pile")


@pytest.fixture(scope="module")
def slow(folder):
    return tokenizers.Tokenizer.from_file(str(folder / "small.json"))


def printed(*arguments: object, stdin: str | None = None, **environment: str) -> str:
    """What a command prints in a pipe."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.delenv("COLUMNS", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["memindex", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((stdin or "").encode())))
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    if code:
        assert code == 2
        assert not out.getvalue()
        assert err.getvalue().count("\n") == 1, err.getvalue()
        return err.getvalue()
    return out.getvalue()


@pytest.fixture(scope="module")
def study(folder):
    """A study of which nothing is done yet."""
    printed("study", "init", folder / "study", "-i", folder / "pile", "--prefix", 4, "--suffix", 4)
    return folder / "study"
