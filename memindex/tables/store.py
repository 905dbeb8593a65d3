"""The Parquet store: one directory per table, one file per finished unit of work.

A file appears whole or not at all: it is written under a name that no reader looks at (`.UNIT.….tmp`),
synced, and renamed. A killed writer leaves such a file behind and nothing else, so a unit that `has` a file
is finished and a rerun skips it; the next writer of the table removes what is left over. Every file carries the schema
version; those of an older one can be asked (`readable`), but a run that would add to them may be refused.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from memindex.errors import MemindexError
from memindex.near_names import hint
from memindex.tables.conforming import completed, conform
from memindex.tables.files import contents, damage, is_abandoned, machine, read_through
from memindex.tables.schema import OLDEST_VERSION, SCHEMA_VERSION, TABLES, Table

_SUFFIX = ".parquet"
_VERSION_KEY = b"memindex.schema_version"
_TABLE_KEY = b"memindex.table"
_FACTS_KEY = b"memindex.facts"


class TableStore:
    """The tables of a study as Parquet files: `DIRECTORY/TABLE/UNIT.parquet`.

    A unit is any text that names a piece of work (a model id, a run id); characters a file name can't have
    are percent-encoded. Processes may write different units of a table at the same time.
    """

    def __init__(self, directory: str | Path) -> None:
        """A store in `directory`, which is made by the first write."""
        self.directory = Path(directory)
        self._tidied: set[Path] = set()

    def write(
        self,
        table_name: str,
        unit: str,
        data: pa.Table | Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write one unit of a table and return its file; a unit written before is replaced.

        Args:
            table_name: A name in `memindex.tables.schema.TABLES`.
            unit: Name of the finished piece of work.
            data: An Arrow table, or columns by name: a sequence, a NumPy array of shape (rows,) or, for a
                list column, (rows, length), an Arrow array, or a `Ragged`. The order of the columns is free. Columns
                that tell the length of a list are filled in, whether they are there or not.
            facts: What else the file says about how the unit was made (JSON values); see `facts`.

        Raises:
            MemindexError: A missing or unknown column, a wrong type, a NULL where none may be; or the disk is full.
        """
        table = _table(table_name)
        contents = conform(table, data)
        if facts is not None:
            contents = contents.replace_schema_metadata({**contents.schema.metadata, _FACTS_KEY: json.dumps(facts)})
        target = self.file(table_name, unit)
        if target.is_dir():
            raise MemindexError(f"can't write {target}: a directory lies there; move it away")
        temporary = target.parent / f".{target.name}.{machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers(target.parent)
            with temporary.open("xb") as sink:
                pq.write_table(contents, sink, compression="zstd")
                sink.flush()
                os.fsync(sink.fileno())
            temporary.replace(target)
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise MemindexError(f"can't write {target}: {error.strerror or error}") from error
            raise
        _sync_directory(target.parent)
        return target

    def file(self, table_name: str, unit: str) -> Path:
        """The file of a unit, whether it exists or not."""
        name = quote(unit, safe=" ")
        if name.startswith("."):
            name = "%2E" + name[1:]
        if not name or len(name) > 200:
            raise MemindexError(f"{unit!r} can't name a unit of work: give it 1 to 200 characters")
        return self.directory / _table(table_name).name / (name + _SUFFIX)

    def has(self, table_name: str, unit: str) -> bool:
        """Whether this unit is finished."""
        return self.file(table_name, unit).is_file()

    def facts(self, table_name: str, unit: str) -> dict[str, Any]:
        """What a finished unit's file says about how it was made; empty when nothing was said."""
        metadata = pq.read_schema(self.file(table_name, unit)).metadata or {}
        facts: dict[str, Any] = json.loads(metadata.get(_FACTS_KEY, b"{}"))
        return facts

    def units(self, table_name: str) -> list[str]:
        """The finished units of a table, sorted."""
        return [unquote(file.name.removesuffix(_SUFFIX)) for file in self.files(table_name)]

    def files(self, table_name: str) -> list[Path]:
        """The files of a table's finished units, sorted by name; each is checked for its schema version.

        Raises:
            MemindexError: A file that is no Parquet file of this table, or whose schema version can't be added to.
        """
        return self._files(table_name, OLDEST_VERSION)

    def readable(self, table_name: str) -> list[Path]:
        """The same, with files of any older version; what these lack is in `lacking`."""
        return self._files(table_name, 1)

    def _files(self, table_name: str, oldest: int) -> list[Path]:
        folder = self.directory / _table(table_name).name
        if not folder.is_dir():
            return []
        found = sorted(f for f in folder.iterdir() if f.name.endswith(_SUFFIX) and not f.name.startswith("."))
        return [file for file in found if _is_of(file, table_name, oldest)]

    def lacking(self, table_name: str, files: Iterable[Path]) -> dict[tuple[str, ...], list[Path]]:
        """Files of a table by the columns that they lack, because they were written before there were such columns."""
        # A column that was there from the first on is lacking nowhere: DuckDB says so where a file was tampered with.
        later = [c.name for c in _table(table_name).columns if c.nullable or c.length_of or c.before is not None]
        groups: dict[tuple[str, ...], list[Path]] = {}
        for file in files:
            with suppress(FileNotFoundError):  # another process removed it since: a unit that was stale
                names = pq.read_schema(file).names
                groups.setdefault(tuple(name for name in later if name not in names), []).append(file)
        return groups

    def read(self, table_name: str, units: str | Iterable[str] | None = None) -> pa.Table:
        """Finished units of a table, in the order of their names; typed and empty when there are none.

        Args:
            table_name: A name in `memindex.tables.schema.TABLES`.
            units: Names of the units to read; None reads all. Unfinished ones are left out.
        """
        schema = _table(table_name).schema()
        files = self.files(table_name)
        if units is not None:
            wanted = {self.file(table_name, unit) for unit in ([units] if isinstance(units, str) else units)}
            files = [file for file in files if file in wanted]
        parts = [completed(_table(table_name), contents(file)).cast(schema) for file in files]
        return pa.concat_tables(parts) if parts else schema.empty_table()

    def read_unit(self, table_name: str, unit: str, columns: list[str]) -> pa.Table:
        """Columns of one finished unit.

        Raises:
            FileNotFoundError: There is no such unit (any more).
            MemindexError: Its file is damaged.
        """
        return contents(self.file(table_name, unit), columns)

    def damaged(self) -> Iterator[MemindexError]:
        """What is wrong with each damaged file of the store; reads all of them to the end, a row group at a time."""
        for name in TABLES:
            for file in self.readable(name):
                try:
                    read_through(file)
                except MemindexError as error:
                    yield error

    def _remove_leftovers(self, folder: Path) -> None:
        """Unfinished files of writers that are gone; looked for once in each folder."""
        if folder in self._tidied:
            return
        self._tidied.add(folder)
        for file in folder.glob(".*.tmp"):
            with suppress(OSError):  # another writer may remove it, too
                if is_abandoned(file):
                    file.unlink()


def _table(name: str) -> Table:
    if name not in TABLES:
        raise MemindexError(f"there is no table {name!r}; {hint(name, TABLES)}")
    return TABLES[name]


def _is_of(file: Path, table_name: str, oldest: int) -> bool:
    """True for a file of this table in this version, False for one that is gone; another one raises MemindexError."""
    try:
        metadata = pq.read_schema(file).metadata or {}
    except FileNotFoundError:
        # Another process removed it: a unit that was stale.
        return False
    except (pa.ArrowException, OSError) as error:
        raise MemindexError(damage(file, str(error))) from None
    if metadata.get(_TABLE_KEY) != table_name.encode():
        raise MemindexError(f"{file} is not part of the table {table_name}; move it away")
    _check_version(file, metadata.get(_VERSION_KEY, b"none").decode(), oldest)
    return True


def _check_version(file: Path, version: str, oldest: int) -> None:
    if not version.isdecimal() or int(version) < 1:
        raise MemindexError(f"{file} has schema version {version}, which is none of memindex's; move it away")
    if int(version) > SCHEMA_VERSION:
        raise MemindexError(
            f"{file} has schema version {version}, this memindex reads up to {SCHEMA_VERSION}: update memindex"
        )
    if int(version) < oldest:
        raise MemindexError(
            f"{file} was written by an older memindex: memindex sql and memindex report still read it, but nothing can "
            "be added; move the study's tables away and fill them again with: memindex study run STUDY"
        )


def _sync_directory(folder: Path) -> None:
    """Make the rename itself durable, where the system can (POSIX)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
