"""`memindex plant`: copies of texts for a corpus, so that how often they stand there is set by experiment."""

from __future__ import annotations

import click

from memindex.cli.forms import form_options, print_objects
from memindex.cli.queries import index_option
from memindex.errors import MemindexError


@click.command()
@click.argument("sources", metavar="SRC…", nargs=-1, required=True)
@index_option
@click.option("--copies", required=True, metavar="N,…", help="How often texts are planted, as 0,1,2,4,8,16.")
@click.option("--sequences", default=100, show_default=True, help="Texts of each number of copies (and length).")
@click.option(
    "--length", default="64", show_default=True, metavar="N,…", help="Tokens of a text: prefix and suffix of a study."
)
@click.option("-o", "--out", required=True, type=click.Path(), help="Folder of what is planted; must not exist.")
@click.option("--text-field", default="text", show_default=True, help="Dotted path of the text in SRC, and in --out.")
@click.option("--domain-field", help="Dotted path in --out where the domain `planted` is put. [default: nowhere]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of texts and their order.")
@form_options("Print what was planted as JSON, one text per line.", "one line per planted text")
def plant(
    sources: tuple[str, ...],
    index_path: str,
    copies: str,
    sequences: int,
    length: str,
    out: str,
    text_field: str,
    domain_field: str | None,
    seed: int,
    form: str,
) -> None:
    """Choose texts of SRC that a corpus does not hold, and write copies of them to be indexed and trained with it.

    SRC are files or folders as `index build` takes them, such as held-out texts. One window is taken of each document;
    where there are fewer documents than texts, a second of each, and so on. Windows of one document don't overlap.
    OUT/documents holds the copies, shuffled, each a document of its own: give it to `index build` beside the corpus, or
    to `index add`. OUT/planted.parquet lists the texts, their tokens and copies; 0 copies are a control that is never
    planted. A study.toml with the line `planted = "OUT"` scores the texts, and checks that its index counts as many
    copies. With several lengths there are so many texts of each. Of longer ones a study scores what they begin with,
    end with and have in their middle (query rate_by_passage).

    \b
    Examples:
      memindex plant heldout/ -i corpus --copies 0,1,2,4,8,16,32 --sequences 200 --out planted
      memindex index build corpus/ planted/documents --out with-planted --tokenizer tokenizer.json
      memindex sql -s my-study rate_by_copies
    """
    from memindex.cli.output import note
    from memindex.corpus.documents import ReadOptions
    from memindex.index.index import Index
    from memindex.study import planting

    numbers, lengths = _numbers("--copies", copies), _numbers("--length", length)
    plan = planting.PlantPlan(numbers, sequences, lengths, seed, text_field, domain_field)
    done = planting.plant(Index.open(index_path), sources, out, plan, ReadOptions(text_field=text_field))
    if done.known:
        note(f"{done.known:,} drawn texts stand in {index_path} already, up to {done.most_known:,} times: left out")
    if form != "table":
        print_objects(form, done.table.to_pylist(), done.table.column_names)
        return
    tokens = length.replace(",", ", ")
    click.echo(
        f"{out}: {done.table.num_rows:,} texts of {tokens} tokens, {sequences:,} of each number of copies ({copies}), "
        f"in {done.documents:,} documents"
    )


def _numbers(option: str, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise MemindexError(f"{option} {value!r}: give whole numbers with commas, as 1,2,4,8") from None
