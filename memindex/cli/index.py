"""`memindex index`: build, describe and verify indexes; the other commands have modules of their own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from memindex.cli import NamingGroup
from memindex.cli.build_report import print_build
from memindex.cli.forms import form_options, print_rows
from memindex.cli.index_list import list_indexes
from memindex.cli.index_open import open_index
from memindex.cli.index_path import INDEX
from memindex.cli.index_pull import pull
from memindex.cli.index_reading import check_room, difference, reading_options, request_from
from memindex.cli.index_revising import add, remove
from memindex.cli.index_scale import print_estimate, resumable, scale_options, timing_option
from memindex.cli.index_stats import stats
from memindex.errors import MemindexError, ReplacedIndexError
from memindex.index.index import Index

if TYPE_CHECKING:
    pass


#: Times that `verify` begins anew because another version of the index took its place.
_VERIFICATIONS = 3


@click.group(cls=NamingGroup)
def index() -> None:
    """Build, list, describe and verify indexes."""


index.add_command(open_index)
index.add_command(list_indexes)
index.add_command(pull)
index.add_command(stats)
index.add_command(add)
index.add_command(remove)


@index.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(), metavar="SRC…|RECIPE")
@reading_options
@click.option("--token-width", type=int, help="Bytes per token: 1, 2 or 4. [default: the least that holds all ids]")
@click.option(
    "--key-stride",
    default=8,
    show_default=True,
    help="Suffixes per key: fewer take more space and read less of the text.",
)
@scale_options
@click.option(
    "--dry-run", is_flag=True, help="Only say which units there are, and estimate disk, memory and time from samples."
)
@click.option("--skip-bad", is_flag=True, help="Leave malformed documents out and report them, instead of stopping.")
@timing_option
@click.option("--json", "as_json", is_flag=True, help="Print what was built as JSON.")
def build(
    sources: tuple[str, ...],
    token_width: int | None,
    key_stride: int,
    dry_run: bool,
    skip_bad: bool,
    timing: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Build an index of the documents in SRC, or of the corpus that a RECIPE describes.

    SRC is a file, a folder, a pattern ('data/*.jsonl.gz', ** for folders below), the address of one of these
    (https://, s3://, hf://datasets/…), or @ and a file that lists addresses. RECIPE is a name that
    `memindex index list` shows, or a .toml file like those.

    Formats: .jsonl, .ndjson, .json (one object per line), .wet and .warc (text of Common Crawl), .parquet, .arrow and
    folders of `datasets`, .idx with .bin (Megatron, GPT-NeoX: token ids). Any other file is one document of plain text,
    .csv too. Lines, records and texts may be packed with gzip, zstd, xz or bzip2 (.gz, .zst, .xz, .bz2): the first
    bytes of a file decide, not its name. Archives and other binary files are refused by name; --skip-bad skips them.

    A folder that holds both corpus and text files is refused: choose with --include. Plain .json files next to text
    files are text too. Hidden files are not read. Links are followed, and each file and folder is read once.

    A corpus file that changes during the build is reported; the index has the documents that were read. A packed file
    whose window does not fit into --memory stops the build, even with --skip-bad.

    A build that was stopped or killed goes on where it was when the same command is given again; the files come out the
    same. What it finished lies in a hidden folder beside DIR until then. Shards hold up to 2 billion tokens, and take 6
    (ids of 4 bytes: 8) bytes of memory per token while they are sorted; --memory decides how many there must be.

    \b
    Examples:
      memindex index build pile --files 'pile/train/*.jsonl.zst' --out pile-index
      memindex index build pile/ --out pile-index --tokenizer pythia --domain-field meta.pile_set_name
      memindex index build s3://bucket/texts --out texts --tokenizer olmo-2 --domain-sql "split_part(path, '/', 2)"
      memindex index build the-stack/ --out stack --tokenizer tokenizer.json --text-field content --domain-field lang
      memindex index build src/ --out mine --tokenizer bytes --include '*.py' --include '*.md'
      memindex index build dolma/ --out dolma --tokenizer olmo-1 --memory 100GB --dry-run
    """
    from memindex.cli.output import note
    from memindex.cli.progress_bars import progress_bar
    from memindex.index.builder import build_index
    from memindex.index.estimating import estimate_build

    wanted = request_from(sources, given)
    how = {"tokenizer": wanted.tokenizer, "options": wanted.options, "token_width": token_width, **given}
    if dry_run:
        print_estimate(estimate_build(wanted.sources, wanted.out, key_stride=key_stride, **how), as_json)
        return
    check_room(wanted)
    with progress_bar() as progress, resumable(wanted.out):
        report = build_index(
            wanted.sources, wanted.out, key_stride=key_stride, skip_bad=skip_bad, progress=progress, **how
        )
    print_build(wanted.out, report, as_json, timing)
    if told := difference(wanted, report.manifest):
        note(told)


@index.command()
@click.argument("directory", type=INDEX)
@form_options("Print the whole manifest as JSON.", "one line per domain")
def info(directory: str, form: str) -> None:
    """Say what an index holds.

    \b
    Example:
      memindex index info pile-index
    """
    opened = Index.open(directory)
    manifest = opened.manifest
    if form == "json":
        click.echo(json.dumps(dataclasses.asdict(manifest), ensure_ascii=False))
        return
    ranked = sorted(manifest.domains, key=lambda domain: -domain.tokens)
    if form != "table":
        shares = ([d.name, d.documents, d.tokens, d.tokens / max(manifest.tokens, 1)] for d in ranked)
        print_rows(form, ["domain", "documents", "tokens", "share"], shares)
        return
    from memindex.cli.output import Share, print_table
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
        *([f"{r.kind} at {r.created}", f"{r.documents:,} documents, {r.tokens:,} tokens"] for r in manifest.revisions),
    ]
    print_table(
        ["", opened.name],
        [[name, value if isinstance(value, str) else f"{value:,}"] for name, value in facts],
    )
    rows = [[d.name, d.documents, d.tokens, Share(d.tokens / max(manifest.tokens, 1))] for d in ranked]
    if rows:
        print_table(["domain", "documents", "tokens", "share"], rows)


@index.command()
@click.argument("directory", type=INDEX)
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
        _verify(directory, note)
    except MemindexError as error:
        if as_json:
            click.echo(json.dumps({"index": directory, "ok": False, "error": str(error)}))
        raise
    click.echo(json.dumps({"index": directory, "ok": True}) if as_json else f"{directory}: all files are as built")


def _verify(directory: str, note: Callable[[str], None]) -> None:
    """Verify the version that is there; anew where another one takes its place meanwhile."""
    for _ in range(_VERIFICATIONS):
        try:
            return Index.open(directory).verify(note)
        except ReplacedIndexError as error:
            note(f"memindex: {error}: verifying that")
    return Index.open(directory).verify(note)
