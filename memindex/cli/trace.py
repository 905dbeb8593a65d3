"""`memindex trace`: the spans of a text that stand in a corpus word for word."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from memindex.cli.forms import form_options, print_objects
from memindex.cli.queries import AtLeast, ids_option, index_option, read_text, tokens_of
from memindex.errors import QueryError
from memindex.index.describing import add_sources, covered, span_answers
from memindex.index.index import Index

if TYPE_CHECKING:
    from memindex.index.answers import Spans

#: What is printed of each span.
KEYS = ("start", "length", "tokens", "text", "count", "characters")

#: Characters of a span that the table shows on a terminal.
MOST_CHARACTERS = 160

#: Spans that the table shows: laying out more takes seconds.
MOST_TABLE_ROWS = 1000


@click.command()
@click.argument("text", metavar="TEXT|-")
@index_option
@ids_option
@click.option("--min-tokens", type=AtLeast(min=1), default=8, show_default=True, help="Tokens of a span at least.")
@click.option("--max-count", type=AtLeast(min=1), help="Leave out spans that occur more often.")
@click.option(
    "--sources", type=AtLeast(min=0), default=0, show_default=True, help="Documents told of each span at most."
)
@form_options("Print one JSON object, with the spans in it.", "one line per span")
def trace(
    text: str, index_path: str, ids: bool, min_tokens: int, max_count: int | None, sources: int, form: str
) -> None:
    """Find the spans of TEXT that stand in the corpus of an index word for word; - reads TEXT from standard input.

    A span is maximal: no longer span of TEXT that holds it occurs. Spans may overlap. The table starts with the
    longest; the share of the text is that of the tokens inside any span that is told.

    With --json "tokens" are the ids of TEXT, "covered" the number of them inside any span and "coverage" their share;
    "characters", "covered_characters" and "character_coverage" are the same of its characters (null with --ids).

    The "spans" (with --csv and --tsv the lines) come in the order of the text: "start" and "length" in tokens, and
    "characters", the first and the end of the span in TEXT (null with --ids). "sources" are documents that hold it,
    with --sources; "position" is the token in the shard, "match" in the document, and "line" counts from 1.

    \b
    Examples:
      memindex trace -i pile "Permission is hereby granted, free of charge, to any robot" --min-tokens 4
      memindex trace -i pile - --sources 3 < generated.txt
      memindex trace -i pile - --max-count 100 --csv < generated.txt > spans.csv
      memindex trace -i pile - --json < generated.txt | jq .coverage
    """
    index = Index.open(index_path)
    text = read_text("-") if text == "-" else text
    tokens, characters = _tokens(index, text, ids)
    found = index.spans([tokens], min_tokens=min_tokens, max_count=max_count)
    spans = span_answers(index, found, tokens, characters)
    if sources and spans:
        add_sources(index, spans, sources)
    if form == "json":
        characters_of_text = None if characters is None else len(text)
        print_objects(form, [_coverage(found, spans, tokens, characters_of_text) | {"spans": spans}])
    elif form != "table":
        print_objects(form, spans, [*KEYS, *(["sources"] if sources else [])])
    else:
        _print(found, spans, len(tokens), min_tokens)


def _coverage(found: Spans, spans: list[dict[str, Any]], tokens: list[int], characters: int | None) -> dict[str, Any]:
    """How much of a text its spans cover; `characters`: of the text, None where it was given as ids."""
    inside = covered(found)
    counted: dict[str, Any] = {"tokens": tokens, "covered": inside, "coverage": inside / len(tokens)}
    inside_characters = None if characters is None else _covered_characters(spans)
    return counted | {
        "characters": characters,
        "covered_characters": inside_characters,
        "character_coverage": inside_characters / characters if inside_characters is not None and characters else None,
    }


def _covered_characters(spans: list[dict[str, Any]]) -> int:
    """Characters inside any span; spans come in the order of the text."""
    inside = end = 0
    for first, last in (span["characters"] for span in spans):
        inside += max(0, last - max(first, end))
        end = max(end, last)
    return inside


def _tokens(index: Index, text: str, ids: bool) -> tuple[list[int], list[tuple[int, int]] | None]:
    if ids:
        return tokens_of(index, [text], ids)[0], None
    tokens, characters = index.tokenizer.encode_with_offsets(text)
    if not tokens:
        raise QueryError("an empty TEXT has no spans: give at least one token")
    return tokens, characters


def _print(found: Spans, spans: list[dict[str, Any]], tokens: int, min_tokens: int) -> None:
    from memindex.cli.output import note, print_table

    inside = covered(found)
    click.echo(
        f"{inside:,} of {tokens:,} tokens ({inside / tokens:.1%}) stand in {len(spans):,} spans "
        f"of at least {min_tokens:,} tokens"
    )
    if not spans:
        return
    # In a pipe a row is a line.
    between = "\n" if sys.stdout.isatty() else "; "
    most = MOST_TABLE_ROWS if sys.stdout.isatty() else None
    listed = sorted(spans, key=lambda span: (-span["length"], span["start"]))[:most]
    rows = [
        [
            span["length"],
            span["count"],
            span["start"],
            _shown(span),
            *([between.join(map(_source, span["sources"]))] if "sources" in span else []),
        ]
        for span in listed
    ]
    print_table(["tokens", "count", "start", "text", *(["sources"] if "sources" in spans[0] else [])], rows)
    if len(listed) < len(spans):
        note(f"the longest {MOST_TABLE_ROWS:,} of {len(spans):,} spans; --csv, --tsv and --json have all")


def _shown(span: dict[str, Any]) -> str:
    from memindex.cli.output import one_line

    text = " ".join(map(str, span["tokens"])) if span["text"] is None else span["text"]
    return one_line(text, MOST_CHARACTERS if sys.stdout.isatty() else None)


def _source(source: dict[str, Any]) -> str:
    from memindex.cli.output import one_line

    place = f"document {source['document']:,} of shard {source['shard']}"
    if source["path"]:
        place = f"{source['path']}:{source['line'] or '?'}"
    return one_line("  ".join([*([source["domain"]] if source["domain"] else []), place]))
