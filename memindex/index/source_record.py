"""sources.parquet: the corpus files that went into an index, so that none goes in a second time by mistake.

A row for each file of the build and of every `add`, in their order; rows stay when documents leave. Where a file lay
stands there as a hash, so that an index that is passed on tells nothing of the machine it was built on. Indexes of
earlier versions have no such file, and those that documents were added to later know of the added files only.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memindex.corpus.documents import SourceFile
from memindex.corpus.remote import Location
from memindex.errors import CorruptIndexError, MemindexError
from memindex.index.manifest import SOURCES_FILE, Manifest, writing_atomically
from memindex.index.units import identity_of

#: path: as in documents.parquet; place: hash of the file's path, or of its address; bytes: size; stamp: hash of sizes
#: and times of change of the file and its parts; revision: 0 for the build, else the place in the manifest's revisions
#: (from 1).
SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("place", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
    ]
)


#: Sizes in bytes and times of change in nanoseconds, of a file and its parts.
Facts: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class GivenFile:
    """A corpus file as it was when a command began: its name, where it is, the columns of the record, sizes and times.

    It is described before it is read: should it change meanwhile, the record must not say that the change is in.
    """

    name: str
    shown: str
    place: str
    bytes: int
    stamp: str
    facts: Facts


def describe(files: Sequence[SourceFile]) -> list[GivenFile]:
    """What the record will say of corpus files."""
    return [_describe(file) for file in files]


def _describe(source: SourceFile) -> GivenFile:
    facts = facts_of(source)
    size = sum(size for size, _ in facts)
    return GivenFile(source.name, str(source.file), identity_of(_place(source.file)), size, identity_of(facts), facts)


def facts_of(source: SourceFile) -> Facts:
    """Size and time of change of a file and its parts as they are now; of a remote one, as they were when found."""
    return tuple((found.st_size, found.st_mtime_ns) for found in (file.stat() for file in (source.file, *source.parts)))


def _place(file: Location) -> str:
    """What a file is known by, whatever folder or link it was given by; of an address, what carries no secrets."""
    return os.path.realpath(file) if isinstance(file, Path) else str(file)


def read_sources(directory: Path, manifest: Manifest) -> pa.Table:
    """The rows of an index's record; none where it has no record."""
    if SOURCES_FILE not in manifest.files:
        return SCHEMA.empty_table()
    file = directory / SOURCES_FILE
    try:
        return pq.read_table(file).select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        # Arrow calls damage an OSError without a number, in several lines.
        raise CorruptIndexError(f"{file}: {str(error).splitlines()[0]}") from None


def write_sources(
    directory: Path, given: Sequence[GivenFile], before: pa.Table | None = None, revision: int = 0
) -> None:
    """Write the rows `before`, and those of the files that a build or a revision takes in."""
    columns = {
        "path": [file.name for file in given],
        "place": [file.place for file in given],
        "bytes": [file.bytes for file in given],
        "stamp": [file.stamp for file in given],
        "revision": [revision] * len(given),
    }
    rows = pa.table(columns, schema=SCHEMA)
    # Not into the file that may stand there: in a work folder it may be a link to that of the index.
    with writing_atomically(directory / SOURCES_FILE) as stream:
        # In one piece, for how rows lie in memory must not decide on the bytes.
        table = pa.concat_tables([before, rows] if before is not None else [rows]).combine_chunks()
        pq.write_table(table, stream, compression="zstd")


def refuse_held(directory: Path, given: Sequence[GivenFile], record: pa.Table) -> None:
    """Raise MemindexError when one of the files went into the index before, as it is now or as it was then."""
    places = pa.array([file.place for file in given], pa.string())
    rows = record.filter(pc.is_in(record["place"], places)).to_pylist()
    stamps = {(row["place"], row["stamp"]) for row in rows}
    held = [file for file in given if (file.place, file.stamp) in stamps]
    if held:
        raise MemindexError(
            f"{directory}: {_first_of(held, given)} went into it before: leave out what did, or add it all the same, "
            "once more or after a removal, with --again"
        )
    known = {row["place"]: row["path"] for row in rows}
    changed = [file for file in given if file.place in known]
    if changed:
        raise MemindexError(
            f"{directory}: {_first_of(changed, given)} went into it before, and changed since: take out what it held "
            f"({_how_to_remove(known[changed[0].place], record)}), then --again adds it as it is now"
        )


def _how_to_remove(path: str, record: pa.Table) -> str:
    """The command that takes out the documents of a file, where its path tells them from those of all others."""
    places = record.filter(pc.equal(record["path"], path))["place"]
    if len(places.unique()) > 1:
        return f"memindex index remove, but --path {shlex.quote(path)} means other files too: see --where"
    return f"memindex index remove INDEX --path {shlex.quote(path)}"


def _first_of(some: Sequence[GivenFile], given: Sequence[GivenFile]) -> str:
    more = f" (one of {len(some):,} such files of {len(given):,})" if len(some) > 1 else ""
    return f"{some[0].shown}{more}"
