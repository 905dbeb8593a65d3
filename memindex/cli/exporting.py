"""`memindex export`: a study's sequences for another runner."""

from __future__ import annotations

from pathlib import Path

import click

from memindex.cli.sql import study_option


@click.command("export")
@study_option()
@click.option("-o", "--out", type=click.Path(path_type=Path), help="File to write.  [default: stdout]")
@click.option(
    "--sample",
    type=click.Choice(["uniform", "bucket", "domain", "heldout", "planted", "imported"]),
    help="Only this sample.",
)
@click.option("--suffix", "with_suffix", is_flag=True, help="Write the true continuations too.")
@click.option("--no-text", is_flag=True, help="Write ids only.")
def export(study: str, out: Path | None, sample: str | None, with_suffix: bool, no_text: bool) -> None:
    """Write a study's sequences as JSON lines, to be continued by another runner.

    One object per line: sequence_id, prefix (ids), suffix_length, prefix_text. Add the field continuation (ids or text)
    and read them back with memindex import jsonl.

    \b
    Example:
      memindex export -s my-study --out sequences.jsonl
    """
    from memindex.importers.study_sequences import exported
    from memindex.index.manifest import writing_atomically
    from memindex.study.config import load_study
    from memindex.tables.origins import open_index
    from memindex.tables.store import TableStore

    config = load_study(study)
    index = None if no_text else open_index(config, config.index)
    lines = exported(TableStore(config.tables), index, sample, with_suffix)
    if out is None:
        for line in lines:
            click.echo(line)
        return
    with writing_atomically(out) as stream:
        stream.writelines(f"{line}\n".encode() for line in lines)
