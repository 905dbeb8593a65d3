"""From the sources on a command line to a stream of document batches.

A source is a file or a folder. A folder that holds files of a corpus format is read as that corpus; any other folder
is one of text files, a document each. Files are taken in sorted order, so a build gives the same index every time.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memindex.corpus.documents import BadDocuments, SourceFile
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
    for source in map(Path, sources):
        if source.is_dir():
            found.extend(_files_of_folder(source, options))
        elif source.is_file():
            found.append(SourceFile(source, source.name, source.name.split(".")[0] or source.name))
        else:
            raise CorpusError(f"{source}: no such file or folder")
    return found


def _files_of_folder(root: Path, options: ReadOptions) -> list[SourceFile]:
    files = sorted(p for p in root.rglob("*") if p.is_file() and not _hidden(p.relative_to(root)))
    if options.include:
        files = [p for p in files if any(fnmatch.fnmatch(p.name, pattern) for pattern in options.include)]
    corpus_files = [p for p in files if p.name.lower().endswith(JSONL + PARQUET)]
    # A source tree holds stray .json files (settings, fixtures); they make it no corpus of JSON lines.
    packed = [p for p in corpus_files if not p.name.lower().endswith(".json")]
    files = corpus_files if packed or len(corpus_files) == len(files) else files
    if not files:
        raise CorpusError(f"{root}: no files to read{' that match --include' if options.include else ''}")
    top = root.resolve().name
    return [SourceFile(p, p.relative_to(root).as_posix(), _folder(p.relative_to(root), top)) for p in files]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _folder(relative: Path, top: str) -> str:
    return relative.parts[0] if len(relative.parts) > 1 else top


def read_documents(files: Sequence[SourceFile], options: ReadOptions, bad: BadDocuments) -> Iterator[pa.RecordBatch]:
    """Yield all documents of the files as record batches (`documents.SCHEMA`), each file in its own format."""
    from memindex.corpus.jsonl import read_jsonl
    from memindex.corpus.parquet import read_parquet
    from memindex.corpus.text import read_text

    texts: list[SourceFile] = []
    for file in files:
        name = file.file.name.lower()
        if name.endswith(JSONL):
            yield from read_jsonl(file, options.text_field, options.domain_field, bad)
        elif name.endswith(PARQUET):
            yield from read_parquet(file, options.text_field, options.domain_field, bad)
        else:
            texts.append(file)
    if texts and options.domain_field:
        raise CorpusError(f"{texts[0].file}: text files have no fields: leave --domain-field out to use folders")
    yield from read_text(texts, bad)
