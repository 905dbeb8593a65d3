"""`memindex index pull`: transfer a published infini-gram index and make an index of it."""

from __future__ import annotations

import click

from memindex.cli.forms import form_options, print_objects
from memindex.errors import MemindexError


@click.command("pull")
@click.argument("name", required=False)
@click.option("-o", "--out", type=click.Path(), help="Directory of the index.  [default: the index's name]")
@click.option("--tokenizer", help="The tokenizer the index was built with; without it the index counts ids only.")
@click.option(
    "--domain-path",
    help="Dotted path of the domain in the documents' metadata. [default: of published indexes the known one, else "
    "the top folder of their path]",
)
@click.option("--endpoint", metavar="URL", help="A server that speaks S3, as https://host:9000, instead of Amazon's.")
@click.option("--list", "as_list", is_flag=True, help="List the published indexes.")
@form_options("Print what was pulled, or the list, as JSON.", "one line per index")
def pull(
    name: str | None,
    out: str | None,
    tokenizer: str | None,
    domain_path: str | None,
    endpoint: str | None,
    as_list: bool,
    form: str,
) -> None:
    """Transfer an infini-gram index (v4) from S3, without an account, and open it as `index open` does.

    NAME is a published index (--list), or any s3://bucket/prefix that anybody may read. A pull that was stopped goes on
    where it was when the same command is given again; files that changed on the server meanwhile are pulled anew. Sizes
    are checked against the listing, and the room on the disk before anything is transferred. Needs the extra `s3`.

    \b
    Examples:
      memindex index pull --list
      memindex index pull v4_pileval_llama --tokenizer llama-2/tokenizer.json
      memindex index pull s3://corpora/index/v4_mine --endpoint https://minio.example.org:9000 --out mine
    """
    from memindex.cli.output import note
    from memindex.cli.progress_bars import progress_bar
    from memindex.cli.stopping import resumable
    from memindex.corpus.tokenizer import load_tokenizer
    from memindex.index.adopting import adopt_index
    from memindex.index.published import find_address, published
    from memindex.index.pulling import finish, pull_files

    if as_list:
        _list(form)
        return
    if name is None:
        raise MemindexError("name a published index, or an s3://bucket/prefix: memindex index pull --list")
    address, known = find_address(name), published(name)
    # Before minutes of transfer, not after.
    loaded = None if tokenizer is None else load_tokenizer(tokenizer)
    target = out or address.name
    with progress_bar() as progress, resumable("downloaded files"):
        pulled = pull_files(address, target, endpoint=endpoint, progress=progress)
    if domain_path is None and known is not None:
        domain_path = known.domain_path
    if loaded is None and known is not None:
        note(f"built with the tokenizer of {known.tokenizer}; without --tokenizer the index counts ids only")
    with progress_bar() as progress, resumable("downloaded files"):
        manifest = adopt_index(pulled.folder, tokenizer=loaded, domain_path=domain_path, progress=progress).manifest
    finish(pulled.folder)
    if form != "table":
        facts = {
            "index": target,
            "url": f"s3://{address.bucket}/{address.prefix}",
            "files": pulled.files,
            "bytes": pulled.bytes,
            "transferred": pulled.transferred,
            "seconds": round(pulled.seconds, 3),
            "documents": manifest.documents,
            "tokens": manifest.tokens,
            "domains": {d.name: {"documents": d.documents, "tokens": d.tokens} for d in manifest.domains},
        }
        print_objects(form, [facts])
        return
    note(f"{pulled.transferred / 1e6:,.1f} of {pulled.bytes / 1e6:,.1f} MB transferred in {pulled.seconds:,.1f} s")
    click.echo(f"{target}: {manifest.tokens:,} tokens in {manifest.documents:,} documents")


def _list(form: str) -> None:
    from memindex.cli.output import print_table
    from memindex.index.published import FREE, PUBLISHED

    if form != "table":
        listed = [
            index._asdict() | {"size": index.bytes, "url": index.url, "free": index.bucket == FREE}
            for index in PUBLISHED
        ]
        print_objects(form, [{"indexes": listed}] if form == "json" else listed)
        return
    rows = [
        [index.name, index.corpus, index.tokenizer, index.documents, index.tokens, index.size, index.bucket == FREE]
        for index in PUBLISHED
    ]
    print_table(["name", "corpus", "tokenizer", "documents", "tokens", "size", "without account"], rows)
