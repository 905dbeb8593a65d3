"""A folder of infini-gram files (v4) without a manifest: what it holds, as far as sizes and samples can tell.

Standard library only, as reading a manifest is: `memindex count` opens such folders too. What is checked here costs a
few dozen small reads a shard; `Index.verify` checks the rest.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import memindex
from memindex.errors import CorruptIndexError, MemindexError
from memindex.index.manifest import INFINI_GRAM_FILES, Manifest

if TYPE_CHECKING:
    from memindex.corpus.tokenizer import Tokenizer

#: Files that every shard has; the others of `INFINI_GRAM_FILES` it may have.
NEEDED = ("tokenized", "table", "offset")

#: Shards are numbered as Python writes numbers: tokenized.07 is no shard.
SHARD_FILE = re.compile(rf"(?:{'|'.join(NEEDED)})\.(0|[1-9]\d*)")

WIDTHS = (1, 2, 4)

#: Document starts that are looked at in each shard when a folder is opened.
SAMPLED = 16

HOW_TO_BUILD = "memindex reads v4: build it with python -m infini_gram.indexing --version 4"


class Layout(NamedTuple):
    """Bytes per token, and documents and tokens (separators included) of every shard."""

    token_width: int
    documents: tuple[int, ...]
    tokens: tuple[int, ...]


def read_layout(folder: Path) -> Layout | None:
    """What the infini-gram files of a folder hold; None when there are none. Other files may lie beside them.

    Raises:
        MemindexError: The files have a layout of infini-gram that memindex does not read (v5, v6).
        CorruptIndexError: A shard or one of its files is missing, or sizes and offsets do not fit; names the file.
    """
    shards = _shards(folder)
    if not shards:
        return None
    _refuse_reversed(folder)
    widths = [_token_width(folder, shard) for shard in range(shards)]
    width = next(filter(None, widths), None)
    if width is None:
        raise CorruptIndexError(f"{folder / 'tokenized.0'}: no tokens in any shard")
    for shard, other in enumerate(widths):
        if other not in {None, width}:
            raise CorruptIndexError(
                f"{folder / f'table.{shard}'}: its size means {other}-byte tokens, other shards have {width}-byte ones"
            )
    return Layout(
        width,
        tuple(_check_documents(folder, shard, width) for shard in range(shards)),
        tuple(_size(folder / f"tokenized.{shard}") // width for shard in range(shards)),
    )


def plain_manifest(folder: Path, layout: Layout) -> Manifest:
    """The manifest of a folder that has none: no tokenizer, no domains, no checksums."""
    documents = sum(layout.documents)
    return Manifest(
        name=folder.name,
        tokenizer="",
        tokenizer_checksum="",
        vocabulary=(1 << 8 * layout.token_width) - 1,
        token_width=layout.token_width,
        documents=documents,
        tokens=sum(layout.tokens) - documents,
        shards=len(layout.documents),
        domains=(),
        domain_block=1,
        files={},
        created="",
        memindex_version=memindex.__version__,
    )


def tokenizer_for(name: str | Path | Tokenizer, token_width: int) -> Tokenizer:
    """Load a tokenizer for an index that was built elsewhere; MemindexError when its ids don't fit the tokens."""
    from memindex.corpus.tokenizer import Tokenizer, load_tokenizer

    loaded = name if isinstance(name, Tokenizer) else load_tokenizer(name)
    if loaded.token_width() > token_width:
        raise MemindexError(
            f"tokenizer {loaded.name}: its {loaded.vocabulary} ids don't fit {token_width}-byte tokens: "
            "the index was built with another one"
        )
    return loaded


def shard_files(folder: Path, shards: int) -> list[Path]:
    """Every infini-gram file of the shards that is there, shard by shard."""
    listed = (folder / f"{kind}.{shard}" for shard in range(shards) for kind in INFINI_GRAM_FILES)
    return [file for file in listed if file.is_file()]


def _shards(folder: Path) -> int:
    """How many shards there are; every one from 0 on must be whole."""
    try:
        names = {entry.name for entry in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return 0
    found = {int(match[1]) for match in map(SHARD_FILE.fullmatch, names) if match}
    if not found:
        _refuse_unnumbered(folder, names)
        return 0
    shards = max(found) + 1
    for shard in range(shards):
        for kind in NEEDED:
            file = folder / f"{kind}.{shard}"
            if not file.is_file():
                raise CorruptIndexError(f"{file}: missing or no file; the folder has shards up to {shards - 1}")
    return shards


def _refuse_unnumbered(folder: Path, names: set[str]) -> None:
    if any((place / "tokenized").is_file() for place in (folder, *(folder / name for name in sorted(names)))):
        raise MemindexError(
            f"{folder}: an infini-gram index of version 6 (files without a shard's number); {HOW_TO_BUILD}"
        )


def _refuse_reversed(folder: Path) -> None:
    # The bytes do not tell: a text read backwards is a text. The published ones have the version in their names.
    if re.match(r"v[56][_-]", folder.name):
        raise MemindexError(
            f"{folder}: by its name an infini-gram index of version {folder.name[1]}, whose tokens run backwards; "
            f"{HOW_TO_BUILD} (or rename the folder, if it is one)"
        )


def _size(file: Path) -> int:
    return file.stat().st_size


def _pointer_width(text_bytes: int) -> int:
    """Bytes of a table's pointers: ceil(log2(text_bytes) / 8), and at least one."""
    return max(1, -(-(text_bytes - 1).bit_length() // 8))


def _token_width(folder: Path, shard: int) -> int | None:
    """Bytes per token; None for a shard without tokens.

    The pointers' width depends on the bytes of the text alone, so the table's size is another for every token width.
    """
    text, table = _size(folder / f"tokenized.{shard}"), _size(folder / f"table.{shard}")
    if text == table == 0:
        return None
    for width in WIDTHS:
        if text and text % width == 0 and table == text // width * _pointer_width(text):
            return width
    raise CorruptIndexError(
        f"{folder / f'table.{shard}'}: {table} bytes don't fit the {text} bytes of tokenized.{shard} with tokens of "
        "1, 2 or 4 bytes: one of them is cut off, or of another index"
    )


def _check_documents(folder: Path, shard: int, width: int) -> int:
    """The number of documents; a sample of their starts must ascend from 0 and lead to separators."""
    file, text = folder / f"offset.{shard}", folder / f"tokenized.{shard}"
    size, text_bytes = _size(file), _size(text)
    documents = size // 8
    if size % 8:
        raise CorruptIndexError(f"{file}: {size} bytes are no whole number of 8-byte offsets")
    if not documents and text_bytes:
        raise CorruptIndexError(f"{file}: no documents, but {text.name} has {text_bytes} bytes")
    with file.open("rb") as offsets, text.open("rb") as tokens:
        for document in sorted({documents * i // SAMPLED for i in range(SAMPLED)} | {documents - 1}):
            if document < 0 or document >= documents:
                continue
            pair = os.pread(offsets.fileno(), 16, 8 * document)
            start = int.from_bytes(pair[:8], "little")
            end = int.from_bytes(pair[8:], "little") if len(pair) == 16 else text_bytes
            first = document > 0 or start == 0
            if not first or start % width or not start < end <= text_bytes:
                raise CorruptIndexError(f"{file}: byte {8 * document}: {start} can't be where a document starts")
            if os.pread(tokens.fileno(), width, start) != b"\xff" * width:
                raise CorruptIndexError(f"{text}: byte {start}: no separator where {file.name} has a document start")
    metaoff = folder / f"metaoff.{shard}"
    if metaoff.is_file() and _size(metaoff) != size:
        raise CorruptIndexError(f"{metaoff}: {_size(metaoff)} bytes, but {file.name} has {size}")
    return documents
