"""`memindex count`: frequency lookups."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from memindex.cli.forms import form_options, print_objects, print_rows
from memindex.cli.queries import ids_option, index_option, largest_id, parse_ids, read_text, tokens_of
from memindex.errors import MemindexError, QueryError
from memindex.index.index import Index

#: Beyond so many queries the answers come as plain lines: laying out a table of them takes seconds.
MOST_TABLE_ROWS = 3000

#: Ids of a query that a table shows.
MOST_TABLE_IDS = 12


@click.command()
@click.argument("texts", nargs=-1, metavar="TEXT…")
@index_option
@ids_option
@click.option("--by-domain", is_flag=True, help="Also count by domain; a domain without occurrences is not listed.")
@click.option(
    "--file",
    "file",
    type=click.Path(),
    help="One query per line (- is stdin), or a Parquet file with --column.",
)
@click.option(
    "--column", default="tokens", show_default=True, help="Column of a Parquet --file: text, or lists of ids."
)
@click.option("--cnf", is_flag=True, help="TEXT holds AND and OR: count where its parts stand near each other.")
@click.option(
    "--max-distance",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="With --cnf: tokens between the starts of neighbouring matches at most.",
)
@form_options("One JSON object per query and line.", "one line per query, a column per domain")
def count(
    texts: tuple[str, ...],
    index_path: str,
    ids: bool,
    by_domain: bool,
    file: str | None,
    column: str,
    cnf: bool,
    max_distance: int,
    form: str,
) -> None:
    """Count how often each TEXT stands in the corpus of an index.

    Texts are tokenized with the index's own tokenizer, without special tokens; the ids are reported. Mind the first
    token: " the" and "the" are different ids in most tokenizers.

    Answers come as a table, on a terminal with the first 12 ids of each query; those of more than 3,000 queries come as
    with --tsv.

    With --cnf a TEXT is clauses joined by " AND ", each of texts joined by " OR ", which binds tighter; every other
    space belongs to the texts. Counted are the places of the rarest clause near which all others stand in the same
    document.

    \b
    Examples:
      memindex count -i pile "Permission is hereby granted" --by-domain
      memindex count -i pile --ids "510 2872 273" --json
      memindex count -i pile --file queries.txt --json > counts.jsonl
      memindex count -i pile --file sequences.parquet --column suffix --json
      memindex count -i pile --cnf " natural language OR  speech AND  deep learning"
    """
    if bool(texts) == bool(file):
        raise click.UsageError("give TEXT, or a file with --file")
    if cnf and (ids or by_domain or file):
        raise click.UsageError("--cnf takes TEXT only, without --ids, --by-domain and --file")
    index = Index.open(index_path)
    if cnf:
        from memindex.cli.cnf import count_cnf

        count_cnf(index, texts, max_distance, form)
        return
    if file and file.endswith(".parquet"):
        answers, domains = _answer_batch(index, *_from_parquet(index, Path(file), column), by_domain)
    elif file:
        queries = _lines(file)
        place = "standard input" if file == "-" else file
        answers, domains = _answer_batch(index, queries, _tokens(index, queries, ids, f"{place}: line"), by_domain)
    else:
        # All of them before the first is printed: a bad one leaves no half of an answer.
        every = [_answer_one(index, text, ids, by_domain) for text in texts]
        found = {name for answer in every for name in answer.get("domains", ())}
        answers, domains = iter(every), [name for name in index.domains if name in found]
    _print(answers, domains, by_domain, form)


def _answer_one(index: Index, text: str, ids: bool, by_domain: bool) -> dict[str, Any]:
    (tokens,) = tokens_of(index, [text], ids)
    answer: dict[str, Any] = {"query": text, "tokens": tokens}
    if by_domain:
        counts = index.count_by_domain_one(tokens)
        domains = {name: number for name, number in zip(index.domains, counts, strict=True) if number}
        answer |= {"count": sum(counts), "domains": domains}
    else:
        answer["count"] = index.count_one(tokens)
    return answer


def _answer_batch(
    index: Index, queries: list[str], tokens: Any, by_domain: bool
) -> tuple[Iterator[dict[str, Any]], list[str]]:
    """Answers one by one, and the domains in which any of the queries occurs."""
    rows = ({"query": query, "tokens": tokens.row(i).tolist()} for i, query in enumerate(queries))
    if not by_domain:
        counts = index.count(tokens).tolist()
        return (row | {"count": number} for row, number in zip(rows, counts, strict=True)), []
    from memindex.index.domain_counts import domain_counts

    if not index.domains:
        index.count_by_domain(tokens.slice(0, 1))  # says so
    found = domain_counts(index, tokens)
    names = index.domains
    by_name = found.by_name(names, 0, tokens.rows)
    answers = (
        row | {"count": sum(domains.values()), "domains": domains} for row, domains in zip(rows, by_name, strict=True)
    )
    return answers, [names[domain] for domain in sorted(set(found.domain.tolist()))]


def _tokens(index: Index, queries: list[str], ids: bool, place: str) -> Any:
    from memindex.ragged import from_lists

    if ids:
        most = largest_id(index)
        rows = [parse_ids(text, most, f"{place} {line}: ") for line, text in enumerate(queries, start=1)]
        tokens = from_lists(rows)
    else:
        tokens = index.tokenize(queries)
    return _none_empty(tokens, place)


def _none_empty(tokens: Any, place: str) -> Any:
    if not tokens.rows:
        raise QueryError("the --file holds no queries")
    if tokens.lengths().min() == 0:
        raise QueryError(f"{place} {int(tokens.lengths().argmin()) + 1}: an empty query has no count")
    return tokens


def _lines(file: str) -> list[str]:
    """Lines of a file or of stdin; only a line feed ends one: a text may hold any other separator Unicode has."""
    lines = read_text(file).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _from_parquet(index: Index, file: Path, column: str) -> tuple[list[str], Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from memindex.index.queries import as_batch

    try:
        schema = pq.read_schema(file)
        if column not in schema.names:
            raise MemindexError(f"{file}: no column {column}; name one with --column: {', '.join(schema.names)}")
        values = pq.read_table(file, columns=[column]).column(0).combine_chunks()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise MemindexError(f"{file}: not a readable Parquet file: {error}") from None
    if values.null_count:
        raise QueryError(f"{file}: the column {column} contains NULL; filter it out first")
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    place = f"{file}: row"
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        texts = _strings(values, place)
        return texts, _tokens(index, texts, False, place)
    if not _is_list_of_ids(values.type):
        raise MemindexError(f"{file}: the column {column} is {values.type}; it must hold text or lists of token ids")
    batch = _all_known(_none_empty(as_batch(values, index.tokenize), place), largest_id(index), place)
    return [" ".join(map(str, batch.row(i).tolist())) for i in range(batch.rows)], batch


def _all_known(tokens: Any, most: int, place: str) -> Any:
    unknown = (tokens.values > most).nonzero()[0]
    if len(unknown):
        row = int(tokens.offsets.searchsorted(unknown[0], side="right"))
        token = int(tokens.values[unknown[0]])
        raise QueryError(f"{place} {row}: token id {token}: the token ids of this index run from 0 to {most}")
    return tokens


def _is_list_of_ids(kind: Any) -> bool:
    import pyarrow as pa

    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and pa.types.is_integer(kind.value_type))


def _strings(values: Any, place: str) -> list[str]:
    try:
        texts: list[str] = values.to_pylist()
    except UnicodeDecodeError:
        raise QueryError(f"{place}s are not all UTF-8") from None
    return texts


def _print(answers: Iterable[dict[str, Any]], domains: list[str], by_domain: bool, form: str) -> None:
    if form == "json":
        print_objects(form, answers)
        return
    answers = iter(answers)
    first = list(itertools.islice(answers, MOST_TABLE_ROWS + 1))
    if form != "table" or len(first) > MOST_TABLE_ROWS:
        rows = (_row(answer, domains) for answer in itertools.chain(first, answers))
        print_rows("tsv" if form == "table" else form, ["query", "tokens", "count", *domains], rows)
    elif len(first) == 1 and by_domain:
        _print_domains(first[0])
    else:
        _print_table(first, domains)


def _row(answer: dict[str, Any], domains: list[str]) -> list[Any]:
    counts = answer.get("domains", {})
    return [answer["query"], answer["tokens"], answer["count"], *(counts.get(name, 0) for name in domains)]


def _print_domains(answer: dict[str, Any]) -> None:
    from memindex.cli.output import Share, print_table

    total = answer["count"]
    click.echo(f"{total:,} times ({len(answer['tokens'])} tokens: {' '.join(map(str, answer['tokens']))})")
    ranked = sorted(answer["domains"].items(), key=lambda item: -item[1])
    if not ranked:
        return
    print_table(["domain", "count", "share"], [[d, n, Share(n / total)] for d, n in ranked])


def _print_table(answers: list[dict[str, Any]], domains: list[str]) -> None:
    from memindex.cli.output import print_table

    most = MOST_TABLE_IDS if sys.stdout.isatty() else None
    rows = [[a["query"], _shortened(a["tokens"], most), len(a["tokens"]), *_row(a, domains)[2:]] for a in answers]
    print_table(["query", "ids", "tokens", "count", *domains], rows)


def _shortened(tokens: list[int], most: int | None) -> str:
    return " ".join([*map(str, tokens[:most]), *(["…"] if most is not None and len(tokens) > most else [])])
