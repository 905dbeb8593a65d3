"""index.json: what an index consists of. Written last and atomically; a directory without it is no index.

Standard library and core only: reading it is part of every `memindex count`.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from memindex import _core
from memindex.errors import CorruptIndexError, MemindexError

FILE = "index.json"
TOKENIZER_FILE = "tokenizer.json"
DOCUMENTS_FILE = "documents.parquet"
CHECKSUMS_FILE = "checksums.bin"
#: Files that decide what an index answers; keys, document tables and checksums may be made anew.
_DECIDING = ("tokenized", "offset", "domain")

#: A line for each document that was left out as malformed; there only when some were.
SKIPPED_FILE = "skipped.txt"
#: A row for each corpus file that went into the index; none in indexes of earlier versions, or built elsewhere.
SOURCES_FILE = "sources.parquet"
FORMAT = "memindex-1"

#: What infini-gram's builder writes for each shard, as tokenized.0; all other files are memindex's.
INFINI_GRAM_FILES = ("tokenized", "table", "offset", "metadata", "metaoff", "unigram")

#: What stands between the other fields of index.json and the checksum of all bytes before it.
CHECKSUM = b',\n "checksum": "'


@dataclass(frozen=True)
class FileFacts:
    """Size in bytes and BLAKE3 (hex) of one file."""

    bytes: int
    blake3: str


@dataclass(frozen=True)
class DomainFacts:
    """One domain: its name, documents, and tokens (separators not counted)."""

    name: str
    documents: int
    tokens: int


@dataclass(frozen=True)
class Revision:
    """What was done to a finished index.

    Attributes:
        kind: `add` or `remove`.
        request: SHA-256 of what was asked for, so that a repeated command is recognized.
        revised: Checksum of the index.json before.
        documents: How many came or went, and their tokens (separators not counted).
        created: When, in UTC.
    """

    kind: str
    request: str
    revised: str
    documents: int
    tokens: int
    created: str


@dataclass(frozen=True)
class Manifest:
    """The content of index.json.

    Attributes:
        tokenizer: Name of the tokenizer; its tokenizer.json lies beside, unless it is `bytes`. Empty when it is not
            known, as in folders built elsewhere.
        vocabulary: One more than the largest id the tokenizer gives.
        token_width: Bytes per token in tokenized.S: 1, 2 or 4.
        documents: Documents in all shards.
        tokens: Tokens in all shards, separators not counted.
        shards: Number of shards.
        domains: The domains; the code in domain.S is the place in this list.
        domain_block: Suffixes between two rows of domainsum.S.
        files: Every file of the index but this one; without checksum (an empty text) where none was made.
        text_field, domain_field, domain_sql, domain_map, rows_per_step: How documents were read (`ReadOptions`).
        data: Folder of infini-gram's files, absolute, when they do not lie beside index.json.
        shard_domains: Domains and `domain_block` of each shard, where a shard was built when there were fewer domains;
            empty where all shards have those of the index.
        revisions: What was added and removed since the index was built, in order.
        checksum: BLAKE3 of what stands before it in index.json; empty until it is written.
    """

    name: str
    tokenizer: str
    tokenizer_checksum: str
    vocabulary: int
    token_width: int
    documents: int
    tokens: int
    shards: int
    domains: tuple[DomainFacts, ...]
    domain_block: int
    files: dict[str, FileFacts]
    created: str
    memindex_version: str
    text_field: str = "text"
    domain_field: str | None = None
    domain_sql: str | None = None
    domain_map: dict[str, str] = field(default_factory=dict)
    rows_per_step: int | None = None
    skipped_documents: int = 0
    data: str | None = None
    shard_domains: tuple[tuple[int, int], ...] = ()
    revisions: tuple[Revision, ...] = ()
    format: str = field(default=FORMAT)
    checksum: str = field(default="", compare=False)

    def domain_names(self) -> list[str]:
        """Names of the domains in the order of their codes."""
        return [domain.name for domain in self.domains]

    def domains_of_shard(self, shard: int) -> tuple[int, int]:
        """Domains, and suffixes between two rows of domainsum.S, of a shard's domain column."""
        return self.shard_domains[shard] if self.shard_domains else (len(self.domains), self.domain_block)

    def contents(self) -> list[str]:
        """Checksums of the files that say what the index holds: not of the one that says where its corpus lay."""
        return [facts.blake3 for name, facts in self.files.items() if name != SOURCES_FILE]

    def folder_of_data(self, directory: Path) -> Path:
        """Where infini-gram's files lie, for a manifest in `directory`."""
        return Path(self.data) if self.data else directory

    def file(self, directory: Path, name: str) -> Path:
        """Where a file of the index lies, for a manifest in `directory`."""
        kind = name.split(".", maxsplit=1)[0]
        return (self.folder_of_data(directory) if kind in INFINI_GRAM_FILES else directory) / name

    def write(self, directory: Path) -> None:
        """Write index.json atomically."""
        write_atomically(directory / FILE, sealed(asdict(self)))

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read index.json; raises MemindexError when there is none, CorruptIndexError when it is damaged."""
        file = directory / FILE
        try:
            content = _read_regular(file)
            raw: dict[str, Any] = json.loads(content)
        except (FileNotFoundError, NotADirectoryError):
            from memindex.mistaken_paths import not_an_index

            raise MemindexError(not_an_index(directory)) from None
        except (ValueError, RecursionError) as error:
            raise CorruptIndexError(f"{file}: not JSON: {error}") from None
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise CorruptIndexError(f"{file}: format is not {FORMAT}: made by another version of memindex?")
        if "checksum" in raw and content != _with_checksum(content.rpartition(CHECKSUM)[0]):
            raise CorruptIndexError(f"{file}: the content changed: its checksum is not that of the build")
        try:
            raw["domains"] = tuple(DomainFacts(**domain) for domain in raw["domains"])
            raw["shard_domains"] = tuple((domains, block) for domains, block in raw.get("shard_domains", ()))
            raw["revisions"] = tuple(Revision(**revision) for revision in raw.get("revisions", ()))
            raw["files"] = {str(name): FileFacts(**facts) for name, facts in raw["files"].items()}
            manifest = cls(**raw)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise CorruptIndexError(f"{file}: a field is missing, unknown or of a wrong type: {error}") from None
        wrong = manifest._damage()
        if wrong:
            raise CorruptIndexError(f"{file}: {wrong}")
        return manifest

    def _damage(self) -> str | None:
        """What can't be true of an index, or None."""
        whole = ("vocabulary", "token_width", "documents", "tokens", "shards", "domain_block", "skipped_documents")
        texts = ("name", "tokenizer", "tokenizer_checksum", "created", "memindex_version", "text_field")
        wrong = [name for name in whole if not _is_count(getattr(self, name))]
        wrong += [name for name in texts if not isinstance(getattr(self, name), str)]
        if wrong:
            return f"{wrong[0]} is {str(getattr(self, wrong[0]))[:40]!r}"
        if self.token_width not in (1, 2, 4) or self.shards < 1 or self.domain_block < 1:
            return "token_width, shards or domain_block is out of range"
        if self.data is not None and not (isinstance(self.data, str) and self.data.startswith("/")):
            return f"data is {str(self.data)[:40]!r}, which is no absolute path"
        return self._damaged_domains() or self._damaged_shards() or self._damaged_files()

    def _damaged_domains(self) -> str | None:
        if not all(isinstance(d.name, str) and _is_count(d.documents) and _is_count(d.tokens) for d in self.domains):
            return "a domain's name is no text, or its numbers are no counts"
        if len(set(self.domain_names())) < len(self.domains):
            return "two domains have the same name"
        sums = sum(d.documents for d in self.domains), sum(d.tokens for d in self.domains)
        if sums != (self.documents, self.tokens):
            return f"the domains hold {sums[0]} documents and {sums[1]} tokens, not {self.documents} and {self.tokens}"
        return None

    def _damaged_shards(self) -> str | None:
        if self.shard_domains and len(self.shard_domains) != self.shards:
            return f"shard_domains tells of {len(self.shard_domains)} shards, there are {self.shards}"
        for shard, (domains, block) in enumerate(self.shard_domains):
            if not (_is_count(domains) and _is_count(block) and domains <= len(self.domains) and block):
                return f"shard_domains of shard {shard} is out of range"
        return None

    def _damaged_files(self) -> str | None:
        for name, facts in self.files.items():
            if "/" in name or "\0" in name or not name or name.startswith("."):
                return f"the file name {name[:40]!r} leads out of the index"
            if not _is_count(facts.bytes) or not isinstance(facts.blake3, str):
                return f"size or checksum of {name} is not one"
        return None


def _is_count(number: object) -> bool:
    """Whether it is a whole number that an index can reach; JSON knows no bounds, and true is an int in Python."""
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 63


def _read_regular(file: Path) -> bytes:
    # Opening a pipe would wait for a writer for ever.
    if not stat.S_ISREG(file.stat().st_mode):
        raise CorruptIndexError(f"{file}: not a regular file")
    return file.read_bytes()


def sealed(fields: dict[str, Any]) -> bytes:
    """The bytes of index.json: these fields, and last the checksum of all before it."""
    rest = {name: value for name, value in fields.items() if name != "checksum"}
    return _with_checksum(json.dumps(rest, indent=1).encode().removesuffix(b"\n}"))


def _with_checksum(before: bytes) -> bytes:
    return before + CHECKSUM + _core.checksum_bytes(before).encode() + b'"\n}\n'


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with writing_atomically(file) as stream:
        stream.write(content)


@contextmanager
def writing_atomically(file: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes the file when all of it was written.

    Raises:
        MemindexError: The file can't be written, or its name is that of a directory, a device or a pipe.
    """
    if file.exists() and not file.is_file():
        # Renaming would put a file in the place of a device or a pipe.
        raise MemindexError(f"can't write {file}: it is no file; choose another name")
    if not file.absolute().parent.is_dir():
        raise MemindexError(f"can't write {file}: there is no folder {file.parent}; make it first, or choose another")
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        raise MemindexError(f"can't write {file}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def index_checksum(manifest: Manifest) -> str:
    """Tells two states of an index apart by its tokens, domains and tokenizer; BLAKE3 in hex.

    Where a file of the index has no checksum, its size counts.
    """
    files = {
        name: [facts.bytes, facts.blake3]
        for name, facts in sorted(manifest.files.items())
        if name.split(".", maxsplit=1)[0] in _DECIDING
    }
    state = [files, manifest.token_width, manifest.domain_names(), manifest.tokenizer_checksum]
    return _core.checksum_bytes(json.dumps(state).encode())
