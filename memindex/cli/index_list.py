"""`memindex index list`: the recipes there are, and the indexes that were built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from memindex.cli.forms import form_options, print_objects

#: The columns of recipes and indexes.
LISTED = (
    *("kind", "name", "path", "title", "page", "files", "tokenizer", "documents", "tokens", "shards", "disk"),
    "memory",
)


@click.command("list")
@form_options("Print one JSON object with both lists.", "one line per recipe or index, its kind first")
def list_indexes(form: str) -> None:
    """List the recipes of corpora, and the indexes that go by a name.

    Those lie in the folder that MEMINDEX_INDEXES names, or else in `indexes` here; every INDEX may be such a name. Disk
    and memory of recipes are estimates of a build of the whole corpus.

    \b
    Examples:
      memindex index list
      memindex index list --json
    """
    from memindex.cli.output import note, print_table
    from memindex.index.names import built_folder
    from memindex.index.recipes import load_recipe, recipe_names, recipes_directory

    recipes = [load_recipe(recipes_directory() / f"{name}.toml") for name in recipe_names()]
    folder = built_folder()
    built, damaged = _built(folder)
    if form != "table":
        facts = [
            {
                "name": recipe.name,
                "title": recipe.title,
                "page": recipe.page,
                "files": list(recipe.files),
                "tokenizer": recipe.tokenizer,
                "documents": recipe.documents,
                "tokens": recipe.tokens,
                "shards": recipe.needs().shards,
                "disk": recipe.needs().disk,
                "memory": recipe.needs().memory,
            }
            for recipe in recipes
        ]
        if form == "json":
            print_objects(form, [{"recipes": facts, "indexes": built}])
        else:
            kinds = [("recipe", facts), ("index", built)]
            print_objects(form, [{"kind": kind} | one for kind, listed in kinds for one in listed], LISTED)
        return
    rows = [
        [r.name, r.title, r.tokenizer, f"{r.tokens / 1e9:,.0f}B", f"{r.needs().disk / 1e12:,.1f} TB", r.needs().shards]
        for r in recipes
    ]
    print_table(["recipe", "corpus", "tokenizer", "tokens", "disk", "shards"], rows)
    print_table(
        [f"index in {folder}", "documents", "tokens", "tokenizer"],
        [[facts["name"], facts["documents"], facts["tokens"], facts["tokenizer"]] for facts in built],
    )
    for line in damaged:
        note(line)


def _built(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """What the manifests in a folder say, and why some of them can't be read."""
    from memindex.errors import MemindexError
    from memindex.index.manifest import FILE, Manifest

    built, damaged = [], []
    for file in sorted(folder.glob(f"*/{FILE}")):
        try:
            manifest = Manifest.read(file.parent)
        except (MemindexError, OSError) as error:
            damaged.append(str(error))
            continue
        built.append(
            {
                "name": file.parent.name,
                "path": str(file.parent),
                "documents": manifest.documents,
                "tokens": manifest.tokens,
                "tokenizer": manifest.tokenizer,
            }
        )
    return built, damaged
