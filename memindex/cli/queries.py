"""How commands take questions for an index: the index itself, texts or token ids, one long text or many lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memindex.cli.index_path import INDEX
from memindex.errors import MemindexError, QueryError

if TYPE_CHECKING:
    from memindex.index.index import Index

index_option = click.option(
    "-i",
    "--index",
    "index_path",
    required=True,
    envvar="MEMINDEX_INDEX",
    type=INDEX,
    help="Directory or name of the index (or set MEMINDEX_INDEX).",
)

#: More than any corpus has tokens, and little enough to be added to any position.
MOST = 1 << 48


class AtLeast(click.IntRange):
    """Whole numbers from `min` on; one that is larger than any corpus means all there is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, MOST at most."""
        number: int = super().convert(value, param, ctx)
        return min(number, MOST)


ids_option = click.option("--ids", is_flag=True, help="TEXT is a list of token ids separated by spaces.")


def tokens_of(index: Index, texts: Sequence[str], ids: bool) -> list[list[int]]:
    """Token ids of each TEXT of a command; raises QueryError for an empty one."""
    most = largest_id(index) if ids else 0
    rows = [parse_ids(text, most) if ids else index.tokenizer.encode_query(text) for text in texts]
    if not all(rows):
        raise QueryError("an empty TEXT has no answer: give at least one token")
    return rows


def largest_id(index: Index) -> int:
    """The largest id that documents may hold: the all-ones separator is none, though vocabularies count to it."""
    manifest = index.manifest
    return int(min(manifest.vocabulary, (1 << 8 * manifest.token_width) - 1)) - 1


def parse_ids(text: str, most: int, place: str = "") -> list[int]:
    """Ids separated by spaces, each from 0 to `most`; `place` goes before the message of the QueryError."""
    try:
        tokens = [int(word) for word in text.split()]
    except ValueError:
        raise QueryError(f"{place}{text[:60]!r} is not a list of token ids separated by spaces") from None
    if any(token < 0 or token > most for token in tokens):
        raise QueryError(f"{place}{text[:60]!r}: the token ids of this index run from 0 to {most}")
    return tokens


def read_text(file: str) -> str:
    """The text of a file, or of standard input when it is `-`: UTF-8, with or without a byte order mark."""
    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        name = "standard input" if file == "-" else file
        raise MemindexError(f"{name}: not UTF-8 text (byte {error.start})") from None
