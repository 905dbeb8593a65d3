"""`memindex trace`: the spans of a text that stand in a corpus word for word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from memindex.cli.queries import AtLeast, ids_option, index_option, read_text, tokens_of
from memindex.errors import QueryError
from memindex.index.describing import add_sources, covered, span_answers
from memindex.index.index import Index

if TYPE_CHECKING:
    from memindex.index.answers import Spans

#: Characters of a span that the table shows.
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
@click.option("--json", "as_json", is_flag=True, help="One JSON object per span and line.")
def trace(
    text: str, index_path: str, ids: bool, min_tokens: int, max_count: int | None, sources: int, as_json: bool
) -> None:
    """Find the spans of TEXT that stand in the corpus of an index word for word; - reads TEXT from standard input.

    A span is maximal: no longer span of TEXT that holds it occurs. Spans may overlap. The table starts with the
    longest; the share of the text is that of the tokens inside any span that is told.

    With --json spans come in the order of the text: "start" and "length" in tokens, and "characters", the first and
    the end of the span in TEXT (null with --ids). "sources" are documents that hold it, with --sources; "position" is
    the token in the shard, "match" in the document, and "line" counts from 1.

    \b
    Examples:
      memindex trace -i pile "Permission is hereby granted, free of charge, to any robot" --min-tokens 4
      memindex trace -i pile - --sources 3 < generated.txt
      memindex trace -i pile - --max-count 100 --json < generated.txt > spans.jsonl
    """
    index = Index.open(index_path)
    text = read_text("-") if text == "-" else text
    tokens, characters = _tokens(index, text, ids)
    found = index.spans([tokens], min_tokens=min_tokens, max_count=max_count)
    spans = span_answers(index, found, tokens, characters)
    if sources and spans:
        add_sources(index, spans, sources)
    if as_json:
        from memindex.cli.output import print_json

        for span in spans:
            print_json(span)
    else:
        _print(found, spans, len(tokens), min_tokens)


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
    ranked = sorted(spans, key=lambda span: (-span["length"], span["start"]))
    rows = [
        [
            span["length"],
            span["count"],
            span["start"],
            _shown(span),
            *(["\n".join(map(_source, span["sources"]))] if "sources" in span else []),
        ]
        for span in ranked[:MOST_TABLE_ROWS]
    ]
    print_table(["tokens", "count", "start", "text", *(["sources"] if "sources" in spans[0] else [])], rows)
    if len(spans) > MOST_TABLE_ROWS:
        note(f"the longest {MOST_TABLE_ROWS:,} of {len(spans):,} spans; --json tells all")


def _shown(span: dict[str, Any]) -> str:
    from memindex.cli.output import one_line

    text = " ".join(map(str, span["tokens"])) if span["text"] is None else span["text"]
    return one_line(text, MOST_CHARACTERS)


def _source(source: dict[str, Any]) -> str:
    from memindex.cli.output import one_line

    place = f"document {source['document']:,} of shard {source['shard']}"
    if source["path"]:
        place = f"{source['path']}:{source['line'] or '?'}"
    return one_line("  ".join([*([source["domain"]] if source["domain"] else []), place]))
