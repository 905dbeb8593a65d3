"""Recipes: what a published corpus needs to become an index, one TOML file each in `indexes/`.

A recipe says where the files are, where text and domain stand in them, which tokenizer belongs to the models trained on
it, and how large it is. Disk and memory are computed from its size (`needs`). Adding a corpus is adding a file.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from memindex.corpus.documents import ReadOptions
from memindex.corpus.domains import checked_domain_map
from memindex.corpus.remote import is_address
from memindex.errors import MemindexError
from memindex.near_names import hint

#: Tokens and separators of a shard, as many as one holds with some room.
SHARD_TOKENS = 2_000_000_000

#: Peak memory per token of the process that sorts a shard, by bytes per token (docs/benchmarks.md).
SORTING_BYTES = {1: 5.5, 2: 6.5, 4: 8.5}

#: Memory of the process that reads and tokenizes, in bytes.
READING_BYTES = 400_000_000

#: Domain column with its sums, and key table: bytes per token on disk.
SIDECAR_BYTES = 2.4

#: Row in documents.parquet, metadata and their offsets: bytes per document on disk, a rough mean.
DOCUMENT_BYTES = 250


@dataclass(frozen=True)
class Needs:
    """What a build takes: shards, bytes on disk, and bytes of memory for one shard at a time."""

    shards: int
    disk: int
    memory: int


@dataclass(frozen=True)
class Recipe:
    """One corpus.

    Attributes:
        name: Name of the file without .toml, and of the index.
        title: As people call the corpus.
        about: What it is, in a sentence or two.
        page: Where it is described.
        files: Sources as `build_index` takes them: addresses, patterns, `@` and a list; empty where none are published.
        tokenizer: Name or file of the tokenizer of the models trained on it.
        token_width: Bytes per token with that tokenizer.
        text_field, domain_field, domain_sql, include, rows_per_step: As in `ReadOptions`.
        domains: New names for domains, `ReadOptions.domain_map`.
        documents: Documents as published; None where nobody says.
        tokens: Tokens as published.
        download: Bytes of the files as they are published (packed).
        numbers: What the numbers are of, and who says so.
        note: What to know before a build.
    """

    name: str
    title: str
    about: str
    tokenizer: str
    token_width: int
    tokens: int
    page: str = ""
    files: tuple[str, ...] = ()
    text_field: str = "text"
    domain_field: str | None = None
    domain_sql: str | None = None
    domains: dict[str, str] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    rows_per_step: int | None = None
    documents: int | None = None
    download: int | None = None
    numbers: str = ""
    note: str = ""

    def options(self) -> ReadOptions:
        """How its files are read."""
        return ReadOptions(
            text_field=self.text_field,
            domain_field=self.domain_field,
            include=self.include,
            domain_sql=self.domain_sql,
            domain_map=self.domains,
            rows_per_step=self.rows_per_step,
        )

    def needs(self) -> Needs:
        """Disk and memory of a build, for as many shards as its tokens need."""
        return needs(self.tokens, self.documents or 0, self.token_width)


def needs(tokens: int, documents: int, width: int) -> Needs:
    """What a build of that many tokens and documents takes.

    Of n tokens and separators, `shards` is n / 2 billion, rounded up. On disk a token takes its width, a pointer of as
    many bytes as the largest shard's place numbers need, and 2.4 bytes of sidecars; a document takes about 250 bytes.
    Memory is that of sorting one shard (5.5, 6.5 or 8.5 bytes per token of 1, 2 or 4 bytes) and 0.4 GB for reading.
    """
    entries = tokens + documents
    shards = max(1, -(-entries // SHARD_TOKENS))
    largest = -(-entries // shards)
    pointer = max(1, -(-((largest * width - 1).bit_length()) // 8))
    disk = entries * (width + pointer + SIDECAR_BYTES) + documents * DOCUMENT_BYTES
    return Needs(shards, int(disk), int(READING_BYTES + SORTING_BYTES[width] * largest))


def recipes_directory() -> Path:
    """Where the recipes lie: beside the package in a checkout, inside it when it is installed."""
    package = Path(__file__).resolve().parent.parent
    # As for the queries: an editable install leaves an outdated copy inside the package.
    checkout = [package.parent / "indexes"] if (package.parent / "pyproject.toml").is_file() else []
    for folder in (*checkout, package / "_recipes"):
        if any(folder.glob("*.toml")):
            return folder
    raise MemindexError("the files of indexes/ are not installed; reinstall memindex")


def recipe_names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(file.stem for file in recipes_directory().glob("*.toml"))


def find_recipe(name: str) -> Recipe | None:
    """The recipe of that name or in that .toml file; None when it is neither.

    Raises:
        MemindexError: The file is no recipe.
    """
    if name.endswith(".toml"):
        return load_recipe(Path(name))
    if name in recipe_names():
        return load_recipe(recipes_directory() / f"{name}.toml")
    return None


def load_recipe(file: Path) -> Recipe:
    """A recipe from its file; MemindexError in one line when a key is unknown, missing or of a wrong type."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise MemindexError(f"{file}: no such recipe; {hint(file.stem, recipe_names())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MemindexError(f"{file}: not TOML: {error}") from None
    table |= {"domains": checked_domain_map(table.get("domains", {}), f"{file}: [domains]")}
    known = {f.name: f for f in fields(Recipe) if f.name != "name"}
    unknown = next((key for key in table if key not in known), None)
    if unknown is not None:
        raise MemindexError(f"{file}: unknown key {unknown}; {hint(unknown, known)}")
    missing = [key for key in ("title", "about", "tokenizer", "token_width", "tokens") if key not in table]
    if missing:
        raise MemindexError(f"{file}: the key {missing[0]} is missing")
    values = {key: _checked(value, str(known[key].type), f"{file}: {key}") for key, value in table.items()}
    if values["token_width"] not in SORTING_BYTES:
        raise MemindexError(f"{file}: token_width must be 1, 2 or 4, not {values['token_width']}")
    values["tokenizer"] = _beside(file, values["tokenizer"], only_existing=True)
    values["files"] = tuple(_beside(file, source) for source in values.get("files", ()))
    return Recipe(name=file.stem, **values)


def _beside(file: Path, source: str, only_existing: bool = False) -> str:
    """A path as seen from the folder of the recipe; addresses, and names of tokenizers, are what they are."""
    path = file.parent / source
    if is_address(source.removeprefix("@")) or (only_existing and not path.exists()):
        return source
    return f"@{file.parent / source[1:]}" if source.startswith("@") else str(path)


def _checked(value: Any, kind: str, place: str) -> Any:
    """The value as a field of that type holds it."""
    if kind.startswith("tuple") and isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    if kind.startswith("dict"):
        return value
    if kind.startswith("int") and isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if kind.startswith("str") and isinstance(value, str):
        return value
    wanted = {"t": 'a list of texts: ["…", "…"]', "i": "a whole number above 0", "s": "text in quotes"}[kind[0]]
    raise MemindexError(f"{place} must be {wanted}, not {str(value)[:40]!r}")
