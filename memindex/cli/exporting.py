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
@click.option("--batch", "batch_model", metavar="MODEL", help="Write requests of a batch for this model instead.")
def export(
    study: str, out: Path | None, sample: str | None, with_suffix: bool, no_text: bool, batch_model: str | None
) -> None:
    """Write a study's sequences as JSON lines, to be continued by another runner.

    One object per line: sequence_id, prefix (ids), suffix_length, prefix_text. Add the field continuation (ids or text)
    and read them back with memindex import jsonl.

    With --batch, each line is a request to /v1/completions in the format of OpenAI's batches, with the prefix's ids as
    its prompt. memindex import jsonl reads the batch's output file as it is.

    \b
    Examples:
      memindex export -s my-study --out sequences.jsonl
      memindex export -s my-study --batch my-model --out requests.jsonl
    """
    from memindex.importers.study_sequences import exported
    from memindex.index.manifest import writing_atomically
    from memindex.study.config import load_study
    from memindex.study.origins import open_index
    from memindex.tables.store import TableStore

    if batch_model is not None and (with_suffix or not batch_model):
        raise click.UsageError("--batch needs the name of a model, and writes no true continuations (--suffix)")
    config = load_study(study)
    index = None if no_text or batch_model is not None else open_index(config, config.index)
    lines = exported(TableStore(config.tables), index, sample, with_suffix, batch_model)
    if out is None:
        for line in lines:
            click.echo(line)
        return
    with writing_atomically(out) as stream:
        stream.writelines(f"{line}\n".encode() for line in lines)
