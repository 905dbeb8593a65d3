"""`memindex documents`: the documents around occurrences of a text."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

import click

from memindex.cli.forms import form_options, print_objects
from memindex.cli.queries import AtLeast, ids_option, index_option, tokens_of
from memindex.index.describing import Answer, excerpt_pieces, parsed_metadata
from memindex.index.index import Index

if TYPE_CHECKING:
    from rich.console import Console

#: How the match stands out in an excerpt.
MATCH_STYLE = "bold black on yellow"


@click.command()
@click.argument("texts", nargs=-1, required=True, metavar="TEXT…")
@index_option
@ids_option
@click.option("--limit", type=AtLeast(min=1), default=10, show_default=True, help="Occurrences of each TEXT at most.")
@click.option(
    "--max-tokens",
    type=AtLeast(min=1),
    default=100,
    show_default=True,
    help="Tokens of each document at most; the match stands in the middle.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Take occurrences from a random place on. [default: from the first in the order of what follows]",
)
@form_options("One JSON object per occurrence and line.", "one line per occurrence")
def documents(
    texts: tuple[str, ...],
    index_path: str,
    ids: bool,
    limit: int,
    max_tokens: int,
    seed: int | None,
    form: str,
) -> None:
    """Show the documents around occurrences of each TEXT, and where they come from.

    The occurrences taken are evenly spaced in the order of what follows them, so they differ as much as can be. All
    occurrences of each TEXT are counted, and the documents that hold them: exactly for up to a million occurrences in
    each shard, else within bounds.

    With --json (--csv, --tsv) "query_tokens" are the ids of the query, "count" is the number of all occurrences, and
    "documents_at_least" and "documents_at_most" that of the documents, equal where it is exact. "document" is the
    document's number in its shard, "position" the token of the match in the shard, "match" in the document. "tokens"
    are the ids of the excerpt, from token "start" of the document on, and "text" is their text, as in Python's
    Index.documents and over HTTP. "line" counts from 1. A TEXT that never occurs gives no line, but a note on stderr.

    \b
    Examples:
      memindex documents -i pile "Permission is hereby granted"
      memindex documents -i pile " natural language processing" --limit 3 --max-tokens 40
      memindex documents -i pile --ids "510 2872 273" --limit 1000 --seed 1 --json > occurrences.jsonl
    """
    index = Index.open(index_path)
    tokens = tokens_of(index, texts, ids)
    counts, within = index.count(tokens), index.document_count(tokens)
    totals = [
        {"query": text, "query_tokens": row, "count": count, "documents_at_least": low, "documents_at_most": high}
        for text, row, count, low, high in zip(
            texts, tokens, counts.tolist(), within.low.tolist(), within.high.tolist(), strict=True
        )
    ]
    rows: list[Answer] = index.documents(tokens, limit, max_tokens=max_tokens, seed=seed).to_pylist()
    if form != "table":
        _print_objects(form, totals, rows)
    else:
        _print(index, totals, rows)


#: The keys of what is printed of each occurrence, behind those of its query.
KEYS = (
    *("shard", "document", "position", "match", "document_tokens", "start", "tokens", "text", "domain", "path", "line"),
    "metadata",
)


def _print_objects(form: str, totals: list[Answer], rows: list[Answer]) -> None:
    from memindex.cli.output import note, one_line

    objects = (
        totals[row["query"]] | {key: parsed_metadata(row[key]) if key == "metadata" else row[key] for key in KEYS}
        for row in rows
    )
    columns = ("query", "query_tokens", "count", "documents_at_least", "documents_at_most", *KEYS)
    print_objects(form, objects, columns)
    for total in totals:
        if not total["count"]:
            note(f'"{one_line(total["query"])}": 0 times')


def _print(index: Index, totals: list[Answer], rows: list[Answer]) -> None:
    from memindex.cli.output import console

    shown_on = console()
    pieces = excerpt_pieces(index, rows, [len(total["query_tokens"]) for total in totals])
    excerpts = zip(rows, pieces, strict=True)
    shown = Counter(row["query"] for row in rows)
    for number, total in enumerate(totals):
        if number:
            shown_on.print()
        _print_total(shown_on, total, shown[number])
        # Rows come query after query.
        for row, texts in islice(excerpts, shown[number]):
            _print_excerpt(shown_on, row, texts)


def _print_total(shown_on: Console, total: Answer, shown: int) -> None:
    from memindex.cli.output import one_line

    low, high, count = total["documents_at_least"], total["documents_at_most"], total["count"]
    within = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    some = f"; {shown:,} of them:" if shown < count else ""
    ids = " ".join(map(str, total["query_tokens"]))
    query = one_line(total["query"])
    line = f'"{query}": {count:,} times in {within} documents (ids {ids}){some}'
    shown_on.print(line, markup=False, soft_wrap=True)


def _print_excerpt(shown_on: Console, row: Answer, pieces: list[str]) -> None:
    from rich.text import Text

    from memindex.cli.output import one_line, printable

    source = [row["domain"], row["path"] and f"{row['path']}:{row['line'] or '?'}"]
    known = [one_line(part) for part in source if part]
    place = (
        f"(document {row['document']:,} of shard {row['shard']}, token {row['match']:,} of {row['document_tokens']:,})"
    )
    shown_on.print()
    shown_on.print("  ".join([*known, place]), style="bold", markup=False, soft_wrap=True)
    before, match, after = (printable(piece) for piece in pieces)
    cut_before = "…" if row["start"] else ""
    cut_after = "…" if row["start"] + len(row["tokens"]) < row["document_tokens"] else ""
    excerpt = Text.assemble(cut_before, before, (match, MATCH_STYLE), after, cut_after)
    shown_on.print(excerpt, soft_wrap=True)
