"""`memindex models`: the families of published models whose training data is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from memindex.cli.forms import form_options, print_objects
from memindex.errors import MemindexError
from memindex.near_names import hint

if TYPE_CHECKING:
    from memindex.models.families import Family


@click.command()
@click.argument("family", required=False)
@form_options("Print one JSON object.", "one line per family, or per checkpoint of the FAMILY")
def models(family: str | None, form: str) -> None:
    """List the families of models, or the checkpoints and revisions of one FAMILY.

    Any checkpoint's name is a model for `study init --model`; so is a folder, and any other causal language model that
    transformers has the code of.

    \b
    Examples:
      memindex models
      memindex models pythia
    """
    from memindex.cli.output import note, print_table
    from memindex.models.families import FAMILIES

    if family is None:
        if form != "table":
            facts = [_facts(one) for one in FAMILIES.values()]
            print_objects(form, [{"families": facts}] if form == "json" else facts)
            return
        rows = [
            [f.name, f.title, f.architecture, f.corpus, f.tokenizer, f"u{8 * f.token_width}", len(f.checkpoints)]
            for f in FAMILIES.values()
        ]
        print_table(["family", "title", "architecture", "corpus", "tokenizer", "ids", "checkpoints"], rows)
        return
    if family not in FAMILIES:
        raise MemindexError(f"there is no family {family}; {hint(family, FAMILIES)}")
    chosen = FAMILIES[family]
    if form != "table":
        listed = _facts(chosen)
        print_objects(form, [listed] if form == "json" else listed["checkpoints"])
        return
    columns = ["checkpoint", "parameters", "outside embeddings", "layers", "hidden", "heads", "training tokens"]
    rows = [[c.name, c.parameters, c.non_embedding, c.layers, c.hidden, c.heads, c.tokens] for c in chosen.checkpoints]
    print_table(columns, rows)
    note(f"revisions: {chosen.revisions or 'main only'}")


def _facts(family: Family) -> dict[str, Any]:
    from memindex.models.families import PATHS

    return {
        "family": family.name,
        "title": family.title,
        "architecture": family.architecture,
        "corpus": family.corpus,
        "index": family.index,
        "tokenizer": family.tokenizer,
        "token_width": family.token_width,
        "context": family.context,
        "revisions": list(family.revision_names),
        "revision_patterns": list(family.revision_patterns),
        "modules": vars(PATHS[family.architecture]),
        "checkpoints": [
            vars(c) | {"corpus": c.corpus or family.corpus, "tokenizer": c.tokenizer or family.tokenizer}
            for c in family.checkpoints
        ],
    }
