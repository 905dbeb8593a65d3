"""The options of `memindex index build` that say what is read: sources, fields, domains; a recipe has them all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memindex.errors import MemindexError

if TYPE_CHECKING:
    from memindex.corpus.documents import ReadOptions
    from memindex.index.manifest import Manifest
    from memindex.index.recipes import Recipe

OPTIONS = (
    click.option("--files", multiple=True, help="With a recipe: where its files are; repeatable. [default: its own]"),
    click.option(
        "-o", "--out", type=click.Path(), help="Directory of the new index. [default, with a recipe: indexes/NAME]"
    ),
    click.option(
        "--tokenizer",
        help="A tokenizer.json, a folder with one, a hub name, a family's name (pythia, olmo-2, …), or bytes.",
    ),
    click.option("--text-field", help="Dotted path of the text, or of lists of token ids. [default: text]"),
    click.option(
        "--domain-field",
        help="Dotted path of the domain. [default: the file's top folder; of a single file, its name without suffixes]",
    ),
    click.option(
        "--domain-sql",
        metavar="EXPRESSION",
        help="The domain as a DuckDB expression over a document's fields (which are text), and over text, domain, "
        "path, line and metadata.",
    ),
    click.option(
        "--domain-map",
        type=click.Path(),
        metavar="FILE",
        help='TOML file of new names for domains: "C++" = "cpp", "*" = "all others".',
    ),
    click.option(
        "--include",
        multiple=True,
        help="Shell pattern of file names to take from folders, as '*.py'; repeatable.",
    ),
    click.option(
        "--rows-per-step",
        type=click.IntRange(1),
        help="Token files: sequences are training rows, so many of them a step (Pythia: 1024).",
    ),
)

#: How the command gets them.
NAMES = (
    "files",
    "out",
    "tokenizer",
    "text_field",
    "domain_field",
    "domain_sql",
    "domain_map",
    "include",
    "rows_per_step",
)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Put the options on a command, in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Request:
    """What is to be read, and where the index goes."""

    sources: tuple[str, ...]
    out: str
    tokenizer: str
    options: ReadOptions
    recipe: Recipe | None = None


def request_from(sources: tuple[str, ...], given: dict[str, Any]) -> Request:
    """The request of a command line, whose options are taken out of `given`; they override those of a recipe.

    Raises:
        MemindexError: An option is missing, or goes with a recipe only.
    """
    from memindex.corpus.documents import ReadOptions
    from memindex.corpus.domains import read_domain_map
    from memindex.index.names import built_folder

    given = {name: given.pop(name) for name in NAMES}
    recipe = _recipe(sources)
    options = recipe.options() if recipe else ReadOptions()
    changed = {name: given[name] for name in ("text_field", "domain_field", "domain_sql", "rows_per_step", "include")}
    if given["domain_map"]:
        changed["domain_map"] = read_domain_map(given["domain_map"])
    options = replace(options, **{name: value for name, value in changed.items() if value not in (None, ())})
    if recipe is None:
        missing = next((name for name in ("out", "tokenizer") if not given[name]), None)
        if missing:
            _check_recipe_name(sources[0])
            raise click.UsageError(f"Missing option '--{missing}'.", click.get_current_context())
        if given["files"]:
            raise MemindexError(f"--files goes with a recipe; {sources[0]} is none: name all files as SRC")
        return Request(sources, given["out"], given["tokenizer"], options)
    files = given["files"] or recipe.files
    if not files:
        raise MemindexError(f"{recipe.name}: give its files by --files. {recipe.note}")
    out = given["out"] or str(built_folder() / recipe.name)
    return Request(tuple(files), out, given["tokenizer"] or recipe.tokenizer, options, recipe)


def check_room(request: Request) -> None:
    """Raise MemindexError when the whole corpus of a recipe is to be built where there is no room for its index."""
    recipe = request.recipe
    if recipe is None or request.sources != recipe.files:
        return
    there = Path(request.out).absolute()
    while not there.exists():
        there = there.parent
    free, disk = shutil.disk_usage(there).free, recipe.needs().disk
    if disk > free:
        raise MemindexError(
            f"{recipe.name}: an index of all of it takes about {disk / 1e12:,.1f} TB, and {free / 1e12:,.1f} TB are "
            f"free at {there}: give a part of the files by --files, or another --out"
        )


def difference(request: Request, manifest: Manifest) -> str | None:
    """What to tell when the whole corpus of a recipe came out otherwise than the recipe says."""
    recipe = request.recipe
    if recipe is None or request.sources != recipe.files or recipe.documents in (None, manifest.documents):
        return None
    return f"{recipe.name} was published with {recipe.documents:,} documents, these are {manifest.documents:,}"


def _recipe(sources: tuple[str, ...]) -> Recipe | None:
    from memindex.index.recipes import find_recipe

    recipe = find_recipe(sources[0])
    if recipe is None:
        return None
    if not sources[0].endswith(".toml") and Path(sources[0]).exists():
        raise MemindexError(
            f"{sources[0]} is a recipe, and {'a folder' if Path(sources[0]).is_dir() else 'a file'} here: "
            f"write ./{sources[0]} for that"
        )
    if len(sources) > 1:
        raise MemindexError(f"{sources[0]} is a recipe: name its files by --files, not as SRC")
    return recipe


def _check_recipe_name(source: str) -> None:
    """Raise MemindexError when a source without options looks like a recipe's name and is none."""
    from memindex.index.recipes import recipe_names
    from memindex.near_names import hint

    if source.replace("-", "").isalnum() and not Path(source).exists():
        raise MemindexError(f"{source}: no such file, folder or recipe; {hint(source, recipe_names())}")
