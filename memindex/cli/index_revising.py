"""`memindex index add` and `remove`: documents come to a finished index, and leave it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import click

from memindex.cli.index_path import INDEX
from memindex.cli.index_scale import Size, resumable, scale_options, timing_option


@click.command()
@click.argument("directory", type=INDEX, metavar="INDEX")
@click.argument("sources", nargs=-1, required=True, type=click.Path(), metavar="SRC…")
@click.option("--text-field", help="Dotted path of the text. [default: as the index was built]")
@click.option("--domain-field", help="Dotted path of the domain. [default: as the index was built]")
@click.option(
    "--domain-sql",
    metavar="EXPRESSION",
    help="As for `index build`; without `domain` in it, in place of the field. [default: as the index was built]",
)
@click.option("--domain-map", type=click.Path(), metavar="FILE", help="As for `index build`.")
@click.option("--include", multiple=True, help="Shell pattern of file names to take from folders; repeatable.")
@scale_options
@click.option("--skip-bad", is_flag=True, help="Leave malformed documents out and report them, instead of stopping.")
@click.option("--again", is_flag=True, help="Add also files that went into the index before, changed since or not.")
@timing_option
@click.option("--json", "as_json", is_flag=True, help="Print what was built as JSON.")
def add(
    directory: str,
    sources: tuple[str, ...],
    text_field: str | None,
    domain_field: str | None,
    domain_sql: str | None,
    domain_map: str | None,
    include: tuple[str, ...],
    skip_bad: bool,
    again: bool,
    timing: bool,
    as_json: bool,
    **scale: Any,
) -> None:
    """Add the documents in SRC to an index, as new shards.

    They are tokenized with the index's own tokenizer. The shards that are there stay as they are; the index has all of
    the new documents at once, or none. A command that was stopped goes on where it was when it is given again.

    Files that the index was built of, or that were added before, are refused, also where they changed since or their
    documents were removed: --again adds them all the same, and what is still there counts twice then. An index built
    by an earlier version of memindex knows only of files that were added since.

    \b
    Example:
      memindex index add pile more/ --memory 16GB
    """
    from memindex.cli.build_report import print_build
    from memindex.cli.progress_bars import progress_bar
    from memindex.corpus.domains import names_domain, read_domain_map
    from memindex.index.adding import add_documents, options_of
    from memindex.index.manifest import Manifest
    from memindex.index.names import index_directory

    given: dict[str, Any] = {"text_field": text_field, "domain_field": domain_field, "domain_sql": domain_sql}
    given |= {"include": include, "domain_map": read_domain_map(domain_map) if domain_map else None}
    as_built = options_of(Manifest.read(index_directory(directory)))
    if domain_sql and not names_domain(domain_sql):  # which takes the place of the field; else it is made of it
        as_built = replace(as_built, domain_field=None)
    options = replace(as_built, **{name: value for name, value in given.items() if value})
    with progress_bar() as progress, resumable(directory):
        scale |= {"skip_bad": skip_bad, "again": again}
        report = add_documents(directory, sources, options=options, progress=progress, **scale)
    print_build(directory, report, as_json, timing)


@click.command()
@click.argument("directory", type=INDEX, metavar="INDEX")
@click.option(
    "--document",
    "documents",
    multiple=True,
    metavar="SHARD:NUMBER",
    help='A document by "shard" and "document" as `memindex documents --json` tells them; repeatable.',
)
@click.option(
    "--path", "paths", multiple=True, help="All documents of this corpus file, or of this folder; repeatable."
)
@click.option("--where", help="All documents for which this SQL condition on the columns of documents.parquet holds.")
@click.option("--memory", type=Size(), help="As for `index build`.")
@click.option("--workers", type=int, help="Shards sorted at the same time. [default: one per processor]")
@click.option("--dry-run", is_flag=True, help="Only say how many documents that would be.")
@click.option("--json", "as_json", is_flag=True, help="Print what was removed as JSON.")
def remove(
    directory: str,
    documents: tuple[str, ...],
    paths: tuple[str, ...],
    where: str | None,
    dry_run: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Take documents out of an index, and out of every answer and count.

    The shards that hold them are sorted anew, which takes as long as it took to build them; afterwards the files are
    those of an index that never had the documents. Programs that have the index open keep the old one until they open
    it again. Documents behind the removed ones get smaller numbers, so look numbers up again before the next removal.

    \b
    Examples:
      memindex index remove pile --document 0:1234
      memindex index remove stack --path train/python-00000.parquet
      memindex index remove stack --where "metadata->>'max_stars_repo_name' = 'somebody/something'" --dry-run
    """
    from memindex.cli.output import print_json
    from memindex.cli.progress_bars import progress_bar
    from memindex.index.choosing import choose_documents
    from memindex.index.removing import remove_documents

    named: dict[str, Any] = {"documents": [_place(place) for place in documents], "paths": paths, "where": where}
    if dry_run:
        chosen = choose_documents(directory, **named)
        facts = {"index": directory, "documents": sum(map(len, chosen.values())), "shards": len(chosen)}
        if as_json:
            print_json(facts)
        else:
            click.echo(f"{directory}: {facts['documents']:,} documents in {facts['shards']:,} shards")
        return
    with progress_bar() as progress, resumable(directory):
        report = remove_documents(directory, **named, progress=progress, **how)
    if as_json:
        print_json(
            {
                "index": directory,
                "removed_documents": report.documents,
                "removed_tokens": report.tokens,
                "documents": report.manifest.documents,
                "tokens": report.manifest.tokens,
                "sorted_shards": report.sorted_shards,
                "seconds": round(report.seconds, 3),
            }
        )
        return
    click.echo(
        f"{directory}: {report.documents:,} documents of {report.tokens:,} tokens are gone, "
        f"{report.manifest.documents:,} are left"
    )


def _place(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(?:(\d{1,9}):)?(\d{1,15})", text)
    if not found:
        raise click.BadParameter(f"{text!r} is not SHARD:NUMBER, as 0:1234", param_hint="--document")
    return int(found[1] or 0), int(found[2])
