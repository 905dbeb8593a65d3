"""`memindex next`: what follows a text in a corpus."""

from __future__ import annotations

from typing import Any

import click

from memindex.cli.forms import form_options, print_objects, print_rows
from memindex.cli.queries import AtLeast, ids_option, index_option, tokens_of
from memindex.index.describing import Answer, next_answers
from memindex.index.index import Index


@click.command("next")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT…")
@index_option
@ids_option
@click.option("--top", type=AtLeast(min=1), default=10, show_default=True, help="Next tokens of each TEXT at most.")
@click.option("--by-domain", is_flag=True, help="Also count by domain; a domain without occurrences is not listed.")
@form_options("One JSON object per query and line.", "one line per next token, and one for the ends of documents")
def next_tokens(texts: tuple[str, ...], index_path: str, ids: bool, top: int, by_domain: bool, form: str) -> None:
    """Tell which tokens follow each TEXT in the corpus, how often, and how often a document ends there.

    Counts are exact; shares are those of all occurrences of TEXT. With --json "next" holds the most frequent tokens,
    "distinct" is the number of all of them, and "end_of_document" counts the occurrences that end their document.

    \b
    Examples:
      memindex next -i pile "Permission is hereby"
      memindex next -i pile " import" --top 30 --by-domain
      memindex next -i pile --ids "510 2872 273" --json
    """
    index = Index.open(index_path)
    tokens = tokens_of(index, texts, ids)
    answers = next_answers(index, list(texts), tokens, top, by_domain)
    if form == "json":
        print_objects(form, answers)
        return
    if form != "table":
        _print_lines(form, answers, index.domains if by_domain else [])
        return
    for number, answer in enumerate(answers):
        if number:
            click.echo()
        _print(answer)


def _print_lines(form: str, answers: list[Answer], domains: list[str]) -> None:
    columns = ["query", "token", "text", "count", "share", "end_of_document", *domains]
    print_rows(
        form,
        columns,
        (
            [answer["query"], entry.get("token"), entry.get("text"), entry["count"], entry["share"], entry is end]
            + [entry.get("domains", {}).get(name, 0) for name in domains]
            for answer in answers
            for end in [answer["end_of_document"]]
            for entry in (*answer["next"], end)
        ),
    )


def _print(answer: Answer) -> None:
    from memindex.cli.output import console, print_table

    ids = " ".join(map(str, answer["tokens"]))
    line = f"{_quoted(answer['query'])}: {answer['count']:,} times, {answer['distinct']:,} next tokens (ids {ids})"
    console().print(line, markup=False, soft_wrap=True)
    if not answer["count"]:
        return
    domains = list(answer.get("domains", []))
    rows = [_row(entry["token"], _quoted(entry["text"]), entry, domains) for entry in answer["next"]]
    others = answer["distinct"] - len(rows)
    if others:
        rows.append(_row(None, f"({others:,} others)", _rest(answer), domains))
    rows.append(_row(None, "(end of document)", answer["end_of_document"], domains))
    print_table(["id", "text", "count", "share", *domains], rows)


def _quoted(text: str | None) -> str:
    from memindex.cli.output import one_line

    # A space at the start of a token makes another one of it.
    return "" if text is None else f'"{one_line(text)}"'


def _row(token: int | None, text: str, entry: Answer, domains: list[str]) -> list[Any]:
    from memindex.cli.output import Share

    # As text: a thousands separator would make another id of it.
    shown = "" if token is None else str(token)
    counts = entry.get("domains", {})
    return [shown, text, entry["count"], Share(entry["share"]), *(counts.get(name, 0) for name in domains)]


def _rest(answer: Answer) -> Answer:
    """What is left of all occurrences without the tokens told and the ends of documents."""
    told = [*answer["next"], answer["end_of_document"]]
    count = answer["count"] - sum(entry["count"] for entry in told)
    domains = {
        name: number - sum(entry["domains"].get(name, 0) for entry in told)
        for name, number in answer.get("domains", {}).items()
    }
    return {"count": count, "share": count / answer["count"], "domains": domains}
