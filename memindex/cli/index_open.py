"""`memindex index open`: make an index of infini-gram files that were built elsewhere."""

from __future__ import annotations

import json

import click


@click.command("open")
@click.argument("directory", type=click.Path())
@click.option("-o", "--out", type=click.Path(), help="New folder for what is written, where DIRECTORY is read-only.")
@click.option(
    "--tokenizer",
    help="The tokenizer the index was built with, as for `index build`; without it the index counts ids only.",
)
@click.option(
    "--domain-path",
    help="Dotted path of the domain in the documents' metadata. [default: the top folder of their path]",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def open_index(directory: str, out: str | None, tokenizer: str | None, domain_path: str | None, as_json: bool) -> None:
    """Give a folder of infini-gram files (v4) what memindex keeps beside them.

    Such a folder opens as it is, for counts of ids. This writes index.json with checksums, the documents as a table,
    a key table for faster lookups, counts by domain, and the tokenizer: into DIRECTORY, or into --out. infini-gram's
    own files are never changed. Documents without a label at --domain-path get the domain `unlabelled`.

    \b
    Examples:
      memindex index open v4_pileval_llama --tokenizer llama-2/ --domain-path meta.pile_set_name
      memindex index open /mnt/readonly/v4_c4train_llama --out c4train --tokenizer llama-2/
    """
    from memindex.cli.output import print_table
    from memindex.cli.progress_bars import progress_bar
    from memindex.index.adopting import adopt_index

    with progress_bar() as progress:
        report = adopt_index(directory, out, tokenizer=tokenizer, domain_path=domain_path, progress=progress)
    manifest = report.manifest
    place = out or directory
    if as_json:
        facts = {
            "index": place,
            "data": directory,
            "documents": manifest.documents,
            "tokens": manifest.tokens,
            "domains": {d.name: {"documents": d.documents, "tokens": d.tokens} for d in manifest.domains},
            "seconds": {stage.replace(" ", "_"): round(seconds, 3) for stage, seconds in report.seconds.items()},
            "peak_memory": report.peak_memory,
        }
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    click.echo(f"{place}: {manifest.tokens:,} tokens in {manifest.documents:,} documents")
    print_table(["stage", "seconds"], list(map(list, report.seconds.items())), stderr=True)
