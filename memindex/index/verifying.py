"""`Index.verify`: checksums of all files, then proof of everything that the tokens determine.

The proofs also serve indexes without checksums, and name the entry where a checksum only names a block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from memindex import _core
from memindex.errors import CorruptIndexError, MemindexError
from memindex.index.checksums import check_checksums_file, damaged_bytes
from memindex.index.manifest import CHECKSUMS_FILE, DOCUMENTS_FILE, FILE, TOKENIZER_FILE, Manifest
from memindex.index.opening import check_files, check_shards


def verify(
    directory: Path, manifest: Manifest, shards: list[_core.Shard], progress: Callable[[str], None] | None = None
) -> None:
    """Fail with a CorruptIndexError that names file and place, unless everything is undamaged."""
    progress = progress or (lambda _: None)
    _check_manifest(directory, manifest)
    check_files(directory, manifest)
    check_shards(directory, manifest, shards)
    check_checksums_file(manifest.files, directory)
    for name in sorted(manifest.files, key=_order):
        if manifest.files[name].blake3:
            progress(f"checksum of {name}")
            _verify_checksum(directory, name, manifest, shards)
    _check_tokenizer(directory, manifest)
    for number, shard in enumerate(shards):
        progress(f"documents of shard {number}")
        shard.verify_documents()
    labels = _domains_of_documents(directory, manifest, shards)
    for number, shard in enumerate(shards):
        progress(f"order of table.{number}")
        shard.verify_suffixes(labels[number] if labels else None)


def _check_manifest(directory: Path, manifest: Manifest) -> None:
    """index.json must be what was read at open; a folder of infini-gram files has none."""
    if not manifest.files and not (directory / FILE).exists():
        return
    now = Manifest.read(directory)
    # A tokenizer may have been given at open.
    if not now.tokenizer:
        given = {name: getattr(manifest, name) for name in ("tokenizer", "tokenizer_checksum", "vocabulary")}
        now = replace(now, **given)
    if now != manifest:
        raise CorruptIndexError(f"{directory / FILE}: the content changed since the index was opened")


def _order(name: str) -> tuple[int, str]:
    """The checksums of blocks first, then the document table: they say where the others are damaged."""
    return ((CHECKSUMS_FILE, DOCUMENTS_FILE).index(name) if name in {CHECKSUMS_FILE, DOCUMENTS_FILE} else 2, name)


def _verify_checksum(directory: Path, name: str, manifest: Manifest, shards: list[_core.Shard]) -> None:
    where = damaged_bytes(directory, name, manifest)
    if where is None:
        return
    proof = _what_a_proof_says(directory, name, manifest, shards)
    raise CorruptIndexError(f"{manifest.file(directory, name)}: {where}: its BLAKE3 is not that of the build{proof}")


def _what_a_proof_says(directory: Path, name: str, manifest: Manifest, shards: list[_core.Shard]) -> str:
    """The first entry of a damaged file that contradicts the tokens, for the end of an error's line."""
    number = name.rpartition(".")[2]
    if not number.isdecimal() or int(number) >= len(shards):
        return ""
    shard = shards[int(number)]
    try:
        shard.verify_documents()
        labels = _domains_of_documents(directory, manifest, shards)
        shard.verify_suffixes(labels[int(number)] if labels else None)
    except MemindexError as error:
        return f"; {str(error).removeprefix(f'{manifest.file(directory, name)}: ').removeprefix(f'{directory}/')}"
    return ""


def _check_tokenizer(directory: Path, manifest: Manifest) -> None:
    if TOKENIZER_FILE in manifest.files:
        checksum = hashlib.sha256((directory / TOKENIZER_FILE).read_bytes()).hexdigest()
        if checksum != manifest.tokenizer_checksum:
            raise CorruptIndexError(f"{directory / TOKENIZER_FILE}: its SHA-256 is not the one in {FILE}")


def _domains_of_documents(directory: Path, manifest: Manifest, shards: list[_core.Shard]) -> list[bytes] | None:
    """The domain of each document of each shard, little-endian uint16; None when the index has no document table."""
    if DOCUMENTS_FILE not in manifest.files:
        return None
    shard, document, first, tokens, codes = _read_documents(directory, manifest)
    labels = []
    for number in range(len(shards)):
        rows = np.flatnonzero(shard == number)
        rows = rows[np.argsort(document[rows], kind="stable")]
        starts = (
            np.fromfile(manifest.file(directory, f"offset.{number}"), dtype="<u8").astype(np.int64)
            // manifest.token_width
        )
        ends = np.append(starts, len(shards[number]))[1:]
        if len(rows) != len(starts):
            raise CorruptIndexError(
                f"{directory / DOCUMENTS_FILE}: {len(rows)} documents of shard {number}, "
                f"offset.{number} has {len(starts)}"
            )
        expected = np.arange(len(rows)), starts + 1, ends - starts - 1
        wrong = np.any([document[rows], first[rows], tokens[rows]] != np.array(expected), axis=0)
        if wrong.any():
            row = int(rows[np.argmax(wrong)])
            raise CorruptIndexError(
                f"{directory / DOCUMENTS_FILE}: row {row + 1}: the document does not stand there in shard {number}"
            )
        labels.append(codes[rows].astype("<u2").tobytes())
    # Sums are taken of numbers that were found to be the documents' lengths.
    _check_domains(directory, manifest, codes, tokens)
    return labels


def _read_documents(directory: Path, manifest: Manifest) -> list[npt.NDArray[np.int64]]:
    """Columns of documents.parquet (shard, document, first_token, tokens), and the code of the domain."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = ["shard", "document", "first_token", "tokens"]
    try:
        table = pq.read_table(directory / DOCUMENTS_FILE, columns=[*columns, "domain"])
    except (pa.ArrowException, KeyError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        # Arrow calls damage an OSError without a number, in several lines.
        raise CorruptIndexError(f"{directory / DOCUMENTS_FILE}: {str(error).splitlines()[0]}") from None
    if len(table) != manifest.documents or any(column.null_count for column in table.columns):
        raise CorruptIndexError(
            f"{directory / DOCUMENTS_FILE}: {len(table)} rows, or NULL in them: "
            f"{FILE} says {manifest.documents} documents"
        )
    codes = pc.index_in(table["domain"], value_set=pa.array(manifest.domain_names(), pa.string()))
    if codes.null_count:
        row = pc.index(codes.is_null(), True).as_py()
        raise CorruptIndexError(f"{directory / DOCUMENTS_FILE}: row {row + 1}: the domain is not one of {FILE}")
    return [column.to_numpy().astype(np.int64) for column in (*(table[name] for name in columns), codes)]


def _check_domains(
    directory: Path, manifest: Manifest, codes: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]
) -> None:
    size = len(manifest.domains)
    documents = np.bincount(codes, minlength=size)
    held = np.bincount(codes, weights=tokens, minlength=size).astype(np.int64)
    for i, domain in enumerate(manifest.domains):
        if (domain.documents, domain.tokens) != (int(documents[i]), int(held[i])):
            raise CorruptIndexError(
                f"{directory / DOCUMENTS_FILE}: {documents[i]} documents and {held[i]} tokens of domain "
                f"{domain.name!r}, {FILE} says {domain.documents} and {domain.tokens}"
            )
