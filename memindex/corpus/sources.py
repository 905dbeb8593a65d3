"""From the sources on a command line to a stream of document batches.

A source is a file or a folder. A folder whose files all have a corpus format is read as that corpus; one without such
files is a folder of text files, a document each; one that holds both is refused, for half of it would be lost. Files
are taken in sorted order, so a build gives the same index every time.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from memindex.corpus.documents import BadDocuments, BytesRead, SourceFile
from memindex.errors import CorpusError

if TYPE_CHECKING:
    import pyarrow as pa

JSONL = tuple(base + packed for base in (".jsonl", ".json", ".ndjson") for packed in ("", ".gz", ".zst"))
PARQUET = (".parquet",)


@dataclass(frozen=True)
class ReadOptions:
    """How documents are found in files.

    Attributes:
        text_field: Dotted path of the text, in JSON lines and Parquet.
        domain_field: Dotted path of the domain; None takes the name of the folder.
        include: Shell patterns of file names to take from folders; none means all.
    """

    text_field: str = "text"
    domain_field: str | None = None
    include: tuple[str, ...] = ()


def find_files(sources: Sequence[str | Path], options: ReadOptions) -> list[SourceFile]:
    """The corpus files below the sources, sorted; raises CorpusError when a source is missing or holds none."""
    found: list[SourceFile] = []
    paths = [Path(source) for source in sources]
    for source, label in zip(paths, _labels(paths), strict=True):
        if source.is_dir():
            found.extend(_files_of_folder(source, label if len(paths) > 1 else "", options))
        elif source.is_file():
            name = _printable(source.name)
            found.append(SourceFile(source, _printable(label), name.split(".")[0] or name, _format(source)))
        else:
            raise CorpusError(f"{source}: no such file or folder")
    return found


def _labels(sources: Sequence[Path]) -> list[str]:
    """A name for each source that no other has: its own, with as many folders before it as that takes.

    All get the same number of parts, so that no label with a file's path behind it can equal another.
    """
    # Not resolve: a linked source keeps the name that it was given by.
    parts = [Path(os.path.abspath(source)).parts for source in sources]  # noqa: PTH100
    depth = 1
    while len({p[-depth:] for p in parts}) < len(set(parts)):
        depth += 1
    return ["/".join(p[1:][-depth:]) for p in parts]


def _files_of_folder(root: Path, label: str, options: ReadOptions) -> list[SourceFile]:
    files = _listed(root, options)
    if not files:
        raise CorpusError(f"{root}: no files to read{' that match --include' if options.include else ''}")
    is_corpus = _is_corpus(root, files)
    if is_corpus:
        files = [p for p in files if not _describes(p)]
    top = root.resolve().name
    return [
        SourceFile(
            p,
            _printable((label / p.relative_to(root)).as_posix()),
            _printable(_folder(p.relative_to(root), top)),
            _format(p) if is_corpus else "text",
        )
        for p in files
    ]


def _listed(root: Path, options: ReadOptions) -> list[Path]:
    """The files of a folder that are not hidden, sorted."""
    files = sorted(p for p in _walk(root) if p.is_file() and not p.name.startswith("."))
    if options.include:
        return [p for p in files if any(fnmatch.fnmatch(p.name, pattern) for pattern in options.include)]
    return files


def _describes(file: Path) -> bool:
    """Whether a file says something about the corpus it lies beside, and is no part of it."""
    return _format(file) == "text" and file.name.upper().startswith(("README", "LICENSE", "LICENCE", "CITATION"))


def _is_corpus(root: Path, files: Sequence[Path]) -> bool:
    """Whether the files are a corpus rather than text files; raises CorpusError when they are both."""
    corpus_files = [p for p in files if _format(p) != "text"]
    others = len(files) - len(corpus_files)
    # A source tree holds stray .json files (settings, fixtures); they make it no corpus of JSON lines.
    if all(p.name.lower().endswith(".json") for p in corpus_files):
        return len(corpus_files) == len(files)
    others -= sum(map(_describes, files))
    if others:
        raise CorpusError(
            f"{others} text files beside {len(corpus_files)} corpus files in {root}: choose with --include"
        )
    return True


def _walk(root: Path) -> Iterator[Path]:
    """Everything below root but hidden folders; a folder that can't be listed is an error, not an empty one."""

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names)


def _format(file: Path) -> Literal["jsonl", "parquet", "text"]:
    name = file.name.lower()
    return "jsonl" if name.endswith(JSONL) else "parquet" if name.endswith(PARQUET) else "text"


def _folder(relative: Path, top: str) -> str:
    return relative.parts[0] if len(relative.parts) > 1 else top


def _printable(name: str) -> str:
    """The name as text that any file can hold: bytes of a file name that are no UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def read_documents(
    files: Sequence[SourceFile], options: ReadOptions, bad: BadDocuments, read: BytesRead | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield all documents of the files as record batches (`documents.SCHEMA`), each file in its own format.

    `read` is kept at what was read when a batch comes; a batch may be empty.
    """
    from memindex.corpus.jsonl import read_jsonl
    from memindex.corpus.parquet import read_parquet
    from memindex.corpus.text import read_text

    read = read or BytesRead()
    for kind, group in itertools.groupby(files, key=lambda file: file.format):
        if kind == "text":
            yield from read_text(_without_fields(group, options), bad, read)
            continue
        reader = read_jsonl if kind == "jsonl" else read_parquet
        for file in group:
            yield from reader(file, options.text_field, options.domain_field, bad, read)
            read.finish(file.file.stat().st_size)


def _without_fields(files: Iterable[SourceFile], options: ReadOptions) -> Iterator[SourceFile]:
    for file in files:
        if options.domain_field:
            raise CorpusError(f"{file.file}: text files have no fields: leave --domain-field out to use folders")
        yield file
