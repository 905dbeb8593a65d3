"""From the sources on a command line to a stream of document batches.

A source is a file, a folder, a pattern of files (`data/*.jsonl.gz`, `**` for folders below), the address of one of
these, or `@` and a file that lists addresses. A folder whose files all have a corpus format is read as that corpus; one
without such files is a folder of text files, a document each; one that holds both is refused, for half of it would be
lost. Links are followed, and each real file and folder is read once. Files are taken in sorted order, so a build gives
the same index every time.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from memindex.corpus import packing
from memindex.corpus.documents import BadDocuments, BytesRead, Format, ReadOptions, SourceFile
from memindex.corpus.listing import Listing, labels_of, list_source
from memindex.corpus.remote import Location
from memindex.errors import CorpusError

if TYPE_CHECKING:
    import pyarrow as pa

    Reader: TypeAlias = Callable[[SourceFile, ReadOptions, BadDocuments, BytesRead], Iterator[pa.RecordBatch]]

__all__ = ["ReadOptions", "find_files", "read_documents"]

_PACKINGS = ("", *packing.SUFFIXES)
SUFFIXES: dict[Format, tuple[str, ...]] = {
    "jsonl": tuple(base + packed for base in (".jsonl", ".json", ".ndjson") for packed in _PACKINGS),
    "parquet": (".parquet",),
    "arrow": (".arrow",),
    "warc": tuple(base + packed for base in (".warc", ".wet") for packed in _PACKINGS),
    "megatron": (".idx",),
}

#: What an unreadable file raises, and not a machine in trouble.
UNREADABLE = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO)


def find_files(sources: str | Path | Sequence[str | Path], options: ReadOptions) -> list[SourceFile]:
    """The corpus files that the sources (or a single one) name, sorted within each.

    Raises:
        CorpusError: A source is missing or holds no file, two of them hold the same file, or a folder holds both corpus
            and text files.
    """
    if isinstance(sources, str | Path):  # a text is also a sequence, of letters
        sources = [sources]
    listings = [list_source(source, options) for source in sources]
    found: list[SourceFile] = []
    for listing, label in zip(listings, labels_of(listings), strict=True):
        if listing.alone:
            found.append(_single(listing, label))
        else:
            found.extend(_files_of_folder(listing, label if len(listings) > 1 else "", options))
    _refuse_duplicates(found, len(listings))
    return found


def _single(listing: Listing, label: str) -> SourceFile:
    name, file = listing.files[0]
    kind: Format = _format(name)
    parts: tuple[Location, ...] = ()
    if name.endswith((".bin", ".idx")):
        if not isinstance(file, Path):
            raise CorpusError(f"{file}: name the folder instead, or a pattern, that holds .idx and .bin")
        file, parts = _token_files(file)
        kind = "megatron"
    return SourceFile(file, _printable(label), _printable(name.split(".")[0] or name), kind, parts)


def _token_files(file: Path) -> tuple[Path, tuple[Location, ...]]:
    """The .idx that a .bin or .idx belongs to, with its .bin files; the file alone where there are none."""
    from memindex.corpus.megatron import with_parts

    beside = [(p.name, p) for p in file.parent.iterdir() if p.suffix in (".bin", ".idx")]
    for name, parts in with_parts(beside)[1].items():
        if file.name == name or file in parts:
            return file.with_name(name), tuple(parts)
    if file.suffix == ".idx":
        raise CorpusError(f"{file}: no .bin file of that name beside it")
    raise CorpusError(f"{file}: no .idx file of that name beside it: it says where documents begin")


def _files_of_folder(listing: Listing, label: str, options: ReadOptions) -> list[SourceFile]:
    from memindex.corpus.arrow import without_caches
    from memindex.corpus.megatron import with_parts

    files, parts = with_parts(without_caches(listing.files))
    if not files:
        raise CorpusError(f"{listing.source}: no files to read{' that match --include' if options.include else ''}")
    is_corpus = _is_corpus(listing.source, [name for name, _ in files], parts)
    if is_corpus:
        files = [(name, file) for name, file in files if not _describes(name)]
    else:
        parts = {}
    top = listing.parts[-1] if len(listing.parts) > 1 else ""
    return [
        SourceFile(
            file,
            _printable((PurePosixPath(label) / name).as_posix()),
            _printable(name.split("/")[0] if "/" in name else top),
            _format(name) if is_corpus else "text",
            tuple(parts.get(name, ())),
        )
        for name, file in files
    ]


def _describes(name: str) -> bool:
    """Whether a file says something about the corpus it lies beside, and is no part of it."""
    last = name.rpartition("/")[2]
    return _format(name) == "text" and last.upper().startswith(("README", "LICENSE", "LICENCE", "CITATION"))


def _is_corpus(source: str, names: Sequence[str], parts: Iterable[str]) -> bool:
    """Whether the files are a corpus rather than text files; raises CorpusError when they are both."""
    # Other programs write .idx files, too: without its .bin, one is no token file.
    corpus_files = [n for n in names if _format(n) not in ("text", "megatron") or n in parts]
    others = len(names) - len(corpus_files)
    # A source tree holds stray .json files (settings, fixtures); they make it no corpus of JSON lines.
    if all(name.lower().endswith(".json") for name in corpus_files):
        return len(corpus_files) == len(names)
    others -= sum(map(_describes, names))
    if others:
        raise CorpusError(
            f"{others} text files beside {len(corpus_files)} corpus files in {source}: choose with --include"
        )
    return True


def _refuse_duplicates(files: Sequence[SourceFile], sources: int) -> None:
    """Raise CorpusError when two sources hold the same file: all its counts would be doubled."""
    many = sources > 1
    places = Counter(os.path.realpath(f.file) if many and isinstance(f.file, Path) else str(f.file) for f in files)
    twice = [place for place, count in places.items() if count > 1]
    if twice:
        more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
        raise CorpusError(f"{twice[0]}{more}: given twice: name each file by one source only")


def _format(name: str) -> Format:
    lower = name.lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if lower.endswith(suffixes)), "text")


def _printable(name: str) -> str:
    """The name as text that any file can hold: bytes of a file name that are no UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def read_documents(
    files: Sequence[SourceFile], options: ReadOptions, bad: BadDocuments, read: BytesRead | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield all documents of the files as record batches, each file in its own format.

    Batches have `documents.SCHEMA`, or TOKENS_SCHEMA where documents were tokenized before; `tokens.tokens_of` takes
    both. `read` is kept at what was read when a batch comes; a batch may be empty. Where bad documents are skipped, the
    rest of a damaged file is one of them.
    """
    from memindex.corpus.domains import Labels

    read = read or BytesRead()
    labels = Labels(options)
    for batch in _batches(files, options, bad, read):
        yield labels.apply(batch, bad)


def _batches(
    files: Sequence[SourceFile], options: ReadOptions, bad: BadDocuments, read: BytesRead
) -> Iterator[pa.RecordBatch]:
    from memindex.corpus.text import read_text

    for kind, group in itertools.groupby(files, key=lambda file: file.format):
        if kind == "text":
            yield from read_text(_without_fields(group, options), bad, read)
            continue
        reader = _reader(kind)
        for file in group:
            yield from _readable(file, reader(file, options, bad, read), bad)
            # A file may be gone by now.
            with suppress(OSError):
                read.finish(file.bytes)


def _reader(kind: Format) -> Reader:
    if kind == "jsonl":
        from memindex.corpus.jsonl import read_jsonl

        return read_jsonl
    if kind == "parquet":
        from memindex.corpus.parquet import read_parquet

        return read_parquet
    if kind == "arrow":
        from memindex.corpus.arrow import read_arrow

        return read_arrow
    if kind == "warc":
        from memindex.corpus.warc import read_warc

        return read_warc
    from memindex.corpus.megatron import read_megatron

    return read_megatron


def _readable(source: SourceFile, batches: Iterator[pa.RecordBatch], bad: BadDocuments) -> Iterator[pa.RecordBatch]:
    """What can be read of a file; with --skip-bad, the rest of a damaged one is noted and left out."""
    try:
        yield from batches
    except CorpusError as error:
        if not bad.skip:
            raise
        bad.note(f"{error}; the rest of the file is left out")
    except OSError as error:
        if not bad.skip or error.errno not in UNREADABLE:
            raise
        bad.note(f"{source.file}: {error.strerror}: left out")


def _without_fields(files: Iterable[SourceFile], options: ReadOptions) -> Iterator[SourceFile]:
    for file in files:
        if options.domain_field:
            raise CorpusError(f"{file.file}: text files have no fields: leave --domain-field out to use folders")
        yield file
