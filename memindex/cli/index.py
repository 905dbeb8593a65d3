"""`memindex index`: build, describe and verify indexes; `open` is in `index_open`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from memindex.cli.index_open import open_index
from memindex.errors import MemindexError
from memindex.index.index import Index

if TYPE_CHECKING:
    from memindex.index.builder import BuildReport


@click.group()
def index() -> None:
    """Build, describe and verify indexes."""


index.add_command(open_index)


@index.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(), metavar="SRC…")
@click.option("--out", required=True, type=click.Path(), help="Directory of the new index; must not exist.")
@click.option(
    "--tokenizer",
    required=True,
    help="A tokenizer.json, a folder with one, a hub name, a family's name (pythia, olmo-2, …), or bytes.",
)
@click.option("--text-field", default="text", show_default=True, help="Dotted path of the text (JSON lines, Parquet).")
@click.option(
    "--domain-field",
    help="Dotted path of the domain. [default: the file's top folder; of a single file, its name without suffixes]",
)
@click.option(
    "--include",
    multiple=True,
    help="Shell pattern of file names to take from folders, as '*.py'; repeatable.",
)
@click.option("--shards", default=1, show_default=True, help="Independent parts; up to 2 billion tokens each.")
@click.option("--token-width", type=int, help="Bytes per token: 1, 2 or 4. [default: the least that holds all ids]")
@click.option(
    "--key-stride",
    default=8,
    show_default=True,
    help="Suffixes per key: fewer take more space and read less of the text.",
)
@click.option("--workers", type=int, help="Shards sorted at the same time. [default: all, at most one per processor]")
@click.option("--skip-bad", is_flag=True, help="Leave malformed documents out and report them, instead of stopping.")
@click.option("--json", "as_json", is_flag=True, help="Print what was built as JSON.")
def build(
    sources: tuple[str, ...],
    out: str,
    tokenizer: str,
    text_field: str,
    domain_field: str | None,
    include: tuple[str, ...],
    shards: int,
    token_width: int | None,
    key_stride: int,
    workers: int | None,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Build an index of the documents in SRC: files, or folders of them.

    Formats: .jsonl, .ndjson, .json (one object per line; also with .gz or .zst), .parquet; any other file is one
    document of plain text. A folder that holds both is refused: choose with --include. Plain .json files beside text
    files are text too. Hidden files are not read.

    \b
    Examples:
      memindex index build pile/ --out pile-index --tokenizer pythia --domain-field meta.pile_set_name
      memindex index build the-stack/ --out stack --tokenizer tokenizer.json --text-field content --domain-field lang
      memindex index build src/ --out mine --tokenizer bytes --include '*.py' --include '*.md'
    """
    from memindex.cli.output import progress_bar
    from memindex.corpus.sources import ReadOptions
    from memindex.index.builder import build_index

    with progress_bar() as progress:
        report = build_index(
            sources,
            out,
            tokenizer=tokenizer,
            options=ReadOptions(text_field, domain_field, include),
            shards=shards,
            token_width=token_width,
            key_stride=key_stride,
            workers=workers,
            skip_bad=skip_bad,
            progress=progress,
        )
    _print_build(out, report, as_json)


def _print_build(out: str, report: BuildReport, as_json: bool) -> None:
    from memindex.cli.output import note, print_table

    manifest = report.manifest
    if report.skipped.count:
        note(f"left out {report.skipped.count:,} malformed documents:")
        for line in report.skipped.first:
            note(f"  {line}")
    if as_json:
        facts = {
            "index": out,
            "documents": manifest.documents,
            "tokens": manifest.tokens,
            "skipped_documents": report.skipped.count,
            "domains": {d.name: {"documents": d.documents, "tokens": d.tokens} for d in manifest.domains},
            "seconds": {stage: round(seconds, 3) for stage, seconds in report.seconds.items()},
            "peak_memory": report.peak_memory,
            "sorting_peak_memory": report.sorting_peak_memory,
        }
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    click.echo(f"{out}: {manifest.tokens:,} tokens in {manifest.documents:,} documents")
    rows = [[stage, seconds, _rate(manifest.tokens, seconds)] for stage, seconds in report.seconds.items()]
    print_table(["stage", "seconds", "M tokens/s"], rows, stderr=True)


def _rate(tokens: int, seconds: float) -> float | None:
    return round(tokens / seconds / 1e6, 1) if seconds > 0 else None


@index.command()
@click.argument("directory", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print the whole manifest as JSON.")
def info(directory: str, as_json: bool) -> None:
    """Say what an index holds.

    \b
    Example:
      memindex index info pile-index
    """
    opened = Index.open(directory)
    manifest = opened.manifest
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(manifest), ensure_ascii=False))
        return
    from memindex.cli.output import print_table
    from memindex.index.layout import shard_files

    # A folder that was built elsewhere has no list of files.
    size = sum(file.bytes for file in manifest.files.values()) or sum(
        file.stat().st_size for file in shard_files(opened.data, manifest.shards)
    )
    facts: list[list[Any]] = [
        ["tokens", manifest.tokens],
        ["documents", manifest.documents],
        ["shards", manifest.shards],
        [
            "tokenizer",
            f"{manifest.tokenizer or 'not known'} ({manifest.vocabulary:,} ids, {manifest.token_width} bytes a token)",
        ],
        ["size", f"{size / 1e6:,.1f} MB ({size / max(manifest.tokens, 1):.2f} bytes a token)"],
        *([["data", manifest.data]] if manifest.data else []),
        ["built", f"{manifest.created} by memindex {manifest.memindex_version}" if manifest.created else "elsewhere"],
    ]
    print_table(
        ["", opened.name],
        [[name, value if isinstance(value, str) else f"{value:,}"] for name, value in facts],
    )
    ranked = sorted(manifest.domains, key=lambda domain: -domain.tokens)
    rows = [[d.name, d.documents, d.tokens, f"{d.tokens / max(manifest.tokens, 1):.1%}"] for d in ranked]
    if rows:
        print_table(["domain", "documents", "tokens", "share"], rows)


@index.command()
@click.argument("directory", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(directory: str, as_json: bool) -> None:
    """Read every file of an index and prove it undamaged: checksums, and all that the tokens determine.

    The proofs (order of the table, keys, domains, offsets, counts of tokens) also serve an index without checksums.
    They need 4 bytes of memory per token of the largest shard. Exit code 0 when all is well; 2, and the file and place
    of the damage, when not.

    \b
    Example:
      memindex index verify pile-index
    """
    from memindex.cli.output import note

    try:
        opened = Index.open(directory)
        opened.verify(note)
    except MemindexError as error:
        if as_json:
            click.echo(json.dumps({"index": directory, "ok": False, "error": str(error)}))
        raise
    click.echo(json.dumps({"index": directory, "ok": True}) if as_json else f"{directory}: all files are as built")
