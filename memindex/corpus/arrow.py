"""Arrow files (.arrow), as Hugging Face `datasets` saves and caches them: one document a row.

A folder written by `Dataset.save_to_disk` names its files in state.json; other .arrow files there are caches of earlier
work, and no documents. The files themselves are Arrow IPC streams; the IPC file format is read too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa

from memindex.corpus.columns import check_columns, documents_of
from memindex.corpus.documents import BATCH_BYTES, BadDocuments, BytesRead, ReadOptions, SourceFile
from memindex.corpus.leftover import Leftover
from memindex.corpus.remote import Location
from memindex.corpus.slices import slices
from memindex.corpus.streams import arrow_file, opened
from memindex.errors import CorpusError, first_line

#: What `datasets` writes beside the documents.
DESCRIPTIONS = ("dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")

#: First bytes of the IPC file format.
FILE_MAGIC = b"ARROW1"


def read_arrow(
    source: SourceFile, options: ReadOptions, bad: BadDocuments, read: BytesRead
) -> Iterator[pa.RecordBatch]:
    """Yield the documents of one file; raises CorpusError with file and row."""
    with arrow_file(source.file) as raw:
        row, leftover = 1, Leftover(source)
        try:
            for batch in _batches(raw, source, options):
                read.inside = raw.tell()
                for part in slices(batch, BATCH_BYTES):
                    yield documents_of(part, source, options, row, bad, leftover)
                    row += len(part)
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise CorpusError(f"{source.file}: not readable as Arrow from row {row} on: {first_line(error)}") from None


def _batches(raw: pa.NativeFile, source: SourceFile, options: ReadOptions) -> Iterator[pa.RecordBatch]:
    is_file = raw.read(len(FILE_MAGIC)) == FILE_MAGIC
    raw.seek(0)
    reader = pa.ipc.open_file(raw) if is_file else pa.ipc.open_stream(raw)
    check_columns(reader.schema, source, options)
    if is_file:
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
        return
    yield from reader
    # A stream that was cut between two batches reads like a whole one.
    if raw.tell() < 8 or not _ended(raw):
        raise pa.ArrowInvalid("the file ends too early")


def _ended(raw: pa.NativeFile) -> bool:
    """Whether the stream's end mark (ffffffff 00000000) stands before the present place."""
    place = raw.tell()
    raw.seek(max(place - 8, 0))
    return bool(raw.read(8) == b"\xff\xff\xff\xff\0\0\0\0")


def without_caches(files: Sequence[tuple[str, Location]]) -> list[tuple[str, Location]]:
    """The files of a listing (names relative to its root) without what `datasets` wrote beside the documents."""
    if not any(name.endswith(".arrow") for name, _ in files):
        return list(files)
    named: dict[str, set[str]] = {}
    for name, location in files:
        folder, _, last = name.rpartition("/")
        if last == "state.json":
            named[folder] = _named_files(location)
    kept = []
    for name, location in files:
        folder, _, last = name.rpartition("/")
        cache = last.endswith(".arrow") and (last not in named.get(folder, {last}) or last.startswith("cache-"))
        if last not in DESCRIPTIONS and not cache:
            kept.append((name, location))
    return kept


def _named_files(state: Location) -> set[str]:
    try:
        with opened(state) as stream:
            return {str(entry["filename"]) for entry in json.loads(stream.read())["_data_files"]}
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{state}: not the state of a saved dataset: {error!r}") from None
