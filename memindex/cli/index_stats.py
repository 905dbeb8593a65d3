"""`memindex index stats`: what an index holds, as tables, JSON and a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from memindex.cli.forms import form_options, print_objects
from memindex.errors import MemindexError

if TYPE_CHECKING:
    from pathlib import Path

    from memindex.index.index import Index
    from memindex.index.statistics import FrequentNgrams, IndexStatistics

#: Domains that a matrix on a terminal has columns for, and that a figure has rows for, at most.
MOST_COLUMNS, MOST_ROWS = 12, 40

#: Characters of an n-gram's text that are shown, and of the longest bar.
SHOWN, BAR = 60, 40


@click.command("stats")
@click.argument("directory", type=click.Path())
@click.option(
    "--window",
    "windows",
    type=int,
    multiple=True,
    default=(32, 64),
    show_default=True,
    help="Tokens of the windows whose repetition is measured; repeatable.",
)
@click.option("--ngrams", default=3, show_default=True, help="List the most frequent n-grams of 1 to so many tokens.")
@click.option("--top", default=10, show_default=True, help="N-grams of each length, and duplicate documents, to list.")
@click.option(
    "--memory",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Megabytes to mark repeated text in; less takes longer.",
)
@click.option("--figure", type=click.Path(), help="Draw the shares of repeated text, as .svg or .png.")
@form_options("Print everything as JSON.", "one line per domain")
def stats(
    directory: str, windows: tuple[int, ...], ngrams: int, top: int, memory: int, figure: str | None, form: str
) -> None:
    """Say what an index holds, by domain: sizes, lengths, duplicate documents, repeated text, frequent n-grams.

    All numbers are exact, and those of all shards together. A token counts as repeated when it lies in a window (of 32
    and of 64 tokens) that occurs more than once; `elsewhere` when one occurs in another domain too. Windows and n-grams
    never cross the end of a document.

    \b
    Examples:
      memindex index stats pile-index
      memindex index stats pile-index --ngrams 5 --top 20 --json > statistics.json
      memindex index stats pile-index --window 50 --figure repeated.svg
    """
    from memindex.cli.progress_bars import progress_bar
    from memindex.index.index import Index
    from memindex.index.statistics import index_statistics
    from memindex.index.statistics_json import as_object, domain_rows

    target = _checked_target(figure)
    index = Index.open(directory)
    with progress_bar() as progress:
        found = index_statistics(
            index,
            windows=windows,
            longest_ngram=ngrams,
            most_ngrams=top,
            most_duplicates=top,
            memory=memory << 20,
            progress=progress,
        )
    if target is not None:
        _draw(index.name, found, target)
    if form == "json":
        print_objects(form, [as_object(index, found)])
    elif form != "table":
        print_objects(form, domain_rows(found))
    else:
        _print(index, found)


def _checked_target(figure: str | None) -> Path | None:
    """Where the figure goes; refused before minutes of work, not after."""
    from pathlib import Path

    if figure is None:
        return None
    target = Path(figure)
    if target.suffix not in {".svg", ".png"}:
        raise MemindexError(f"{target}: a figure is saved as .svg or .png")
    if not target.absolute().parent.is_dir():
        raise MemindexError(f"{target}: there is no folder {target.parent}")
    return target


def _percent(part: Any, whole: Any) -> Any:
    from memindex.cli.output import FineShare

    return FineShare(int(part) / int(whole)) if whole else None


def _print(index: Index, found: IndexStatistics) -> None:
    from memindex.cli.output import console

    order = sorted(range(len(found.domains)), key=lambda d: -int(found.tokens[d]))
    _print_domains(index, found, order)
    _print_duplicates(found)
    for window in found.windows:
        if 1 < len(order) <= MOST_COLUMNS:
            _print_matrix(found, window, order)
    if len(order) > MOST_COLUMNS:
        console(stderr=True).print("which domains share text: --json tells")
    for ngrams in found.ngrams:
        _print_ngrams(index, ngrams)


def _print_domains(index: Index, found: IndexStatistics, order: list[int]) -> None:
    import numpy as np

    from memindex.cli.output import print_table
    from memindex.index.statistics_documents import QUANTILES

    median = QUANTILES.index(0.5)
    columns = ["domain", "documents", "tokens", "bytes", "median length", "duplicates"]
    columns += [f"{name} {w.length}" for w in found.windows for name in ("repeated", "elsewhere")]

    def row(name: str, where: Any, middle: Any) -> list[Any]:
        documents, tokens = int(found.documents[where].sum()), int(found.tokens[where].sum())
        size = None if found.bytes is None else int(found.bytes[where].sum())
        shares = [(w.tokens, w.in_other_domains) for w in found.windows]
        return [
            *(name, documents, tokens, size, int(middle)),
            _percent(found.duplicates.documents[where].sum(), documents),
            *(_percent(part[where].sum(), tokens) for pair in shares for part in pair),
        ]

    rows = [row(found.domains[d], [d], found.lengths.by_domain[d, median]) for d in order]
    if len(rows) > 1:
        rows.append(row("all", np.arange(len(order)), found.lengths.quantiles[median]))
    print_table(columns, rows, title=index.name)
    print_table(
        ["tokens of documents", *(f"{share:.0%}" for share in QUANTILES), "mean"],
        [["at most", *found.lengths.quantiles.tolist(), round(found.lengths.mean, 1)]],
    )
    print_table(["tokens", "documents", ""], _histogram(found))


def _histogram(found: IndexStatistics) -> list[list[Any]]:
    """Documents by length, with bars, from the shortest to the longest."""
    starts, counts = found.lengths.starts.tolist(), found.lengths.histogram.sum(axis=0).tolist()
    bins = [f"{start:,}" if start < 2 else f"{start:,} to {2 * start - 1:,}" for start in starts]
    filled = [place for place, count in enumerate(counts) if count] or [0]
    return [
        [bins[place], counts[place], "█" * round(BAR * counts[place] / max(1, *counts))]
        for place in range(filled[0], filled[-1] + 1)
    ]


def _print_duplicates(found: IndexStatistics) -> None:
    from memindex.cli.output import one_line, print_table

    copies, documents = found.duplicates, int(found.documents.sum())
    tokens = int(found.tokens.sum())
    saved = f"{int(copies.redundant_tokens) / tokens:.2%}" if tokens else "0%"
    more = f"{copies.redundant_documents:,} documents and {copies.redundant_tokens:,} tokens ({saved})"
    click.echo(
        f"{copies.documents.sum():,} of {documents:,} documents have an exact copy ({copies.texts:,} texts); "
        f"beyond one of each, {more}."
    )
    rows = [
        [c.documents, c.tokens, ", ".join(list(c.domains)[:3]), one_line(f"{c.path or '–'}:{c.line or ''}", 80)]
        for c in copies.largest
    ]
    if rows:
        print_table(["copies", "tokens each", "domains", "one of them"], rows)


def _print_matrix(found: IndexStatistics, window: Any, order: list[int]) -> None:
    from memindex.cli.output import print_table

    places = {column: place for place, column in enumerate(window.columns)}
    rows = [
        [found.domains[d], *(_percent(window.matrix[d, places[column]], found.tokens[d]) for column in order)]
        for d in order
    ]
    title = f"share of each domain's tokens in windows of {window.length} that also occur in …"
    print_table(["", *(found.domains[column] for column in order)], rows, title=title)


def _print_ngrams(index: Index, ngrams: FrequentNgrams) -> None:
    from memindex.cli.output import one_line, print_table
    from memindex.index.statistics_json import listed

    rows = [
        [count, " ".join(map(str, ids)), "" if text is None else one_line(repr(text), SHOWN)]
        for ids, count, text in listed(index, ngrams)
    ]
    print_table(
        ["count", "ids", "text"],
        rows,
        title=f"{ngrams.n}-grams: {ngrams.total:,}, {ngrams.distinct:,} distinct, {ngrams.once:,} of them once",
    )


def _draw(name: str, found: IndexStatistics, target: Path) -> None:
    """The shares of repeated text of the domains with most tokens."""
    import pyarrow as pa

    from memindex.report import save_figure
    from memindex.sql.queries import Axis, Figure, Query

    order = sorted(range(len(found.domains)), key=lambda d: -int(found.tokens[d]))[:MOST_ROWS]
    rows = [
        {
            "domain": found.domains[d],
            "share": int(part[d]) / int(found.tokens[d]),
            "found": label,
            "window": f"{window.length} tokens",
        }
        for window in found.windows
        for d in order
        for label, part in (("anywhere else", window.tokens), ("in another domain", window.in_other_domains))
        if found.tokens[d]
    ]
    if not rows:
        raise MemindexError(f"{target}: the index has no tokens to draw the repetition of")
    figure = Figure(
        kind="dots",
        x=Axis("domain", "Domain"),
        y=Axis("share", "Tokens in windows that occur again", "percent"),
        series="found",
        panel="window",
    )
    title = f"Repeated text in {name}"
    save_figure(Query("repeated_text", title, "", "", figure, "", ""), pa.Table.from_pylist(rows), target)
