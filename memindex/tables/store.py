"""The Parquet store: one directory per table, one file per finished unit of work.

A file appears whole or not at all: it is written under a name that no reader looks at (`.UNIT.….tmp`),
synced, and renamed. A killed writer leaves such a file behind and nothing else, so a unit that `has` a file
is finished and a rerun skips it. Every file carries the schema version; one of another version is refused
instead of misread.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memindex.errors import MemindexError
from memindex.ragged import Ragged, from_matrix
from memindex.tables.schema import OLDEST_VERSION, SCHEMA_VERSION, TABLES, Column, Table

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
        contents = _conform(table, data)
        if facts is not None:
            contents = contents.replace_schema_metadata({**contents.schema.metadata, _FACTS_KEY: json.dumps(facts)})
        target = self.file(table_name, unit)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            with temporary.open("xb") as sink:
                pq.write_table(contents, sink, compression="zstd")
                sink.flush()
                os.fsync(sink.fileno())
            temporary.replace(target)
        except BaseException as error:
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
            MemindexError: A file that is no Parquet file of this table in this schema version.
        """
        folder = self.directory / _table(table_name).name
        if not folder.is_dir():
            return []
        found = sorted(f for f in folder.iterdir() if f.name.endswith(_SUFFIX) and not f.name.startswith("."))
        return [file for file in found if _is_of(file, table_name)]

    def lacking(self, table_name: str, files: Iterable[Path]) -> dict[tuple[str, ...], list[Path]]:
        """Files of a table by the columns that they lack, because they were written before there were such columns."""
        derived = [column.name for column in _table(table_name).columns if column.length_of]
        groups: dict[tuple[str, ...], list[Path]] = {}
        for file in files:
            names = pq.read_schema(file).names if derived else ()
            groups.setdefault(tuple(name for name in derived if name not in names), []).append(file)
        return groups

    def read(self, table_name: str, units: Iterable[str] | None = None) -> pa.Table:
        """Finished units of a table, in the order of their names; typed and empty when there are none.

        Args:
            table_name: A name in `memindex.tables.schema.TABLES`.
            units: Names of the units to read; None reads all. Unfinished ones are left out.
        """
        schema = _table(table_name).schema()
        files = self.files(table_name)
        if units is not None:
            wanted = {self.file(table_name, unit) for unit in units}
            files = [file for file in files if file in wanted]
        parts = [completed(_table(table_name), pq.ParquetFile(file).read()).cast(schema) for file in files]
        return pa.concat_tables(parts) if parts else schema.empty_table()


def _table(name: str) -> Table:
    if name not in TABLES:
        raise MemindexError(f"there is no table {name!r}; the tables are: {', '.join(TABLES)}")
    return TABLES[name]


def _is_of(file: Path, table_name: str) -> bool:
    """True for a file of this table in this version, False for one that is gone; another one raises MemindexError."""
    try:
        metadata = pq.read_schema(file).metadata or {}
    except FileNotFoundError:
        # Another process removed it: a unit that was stale.
        return False
    except (pa.ArrowInvalid, OSError) as error:
        raise MemindexError(f"{file} is not a readable Parquet file; delete it and rerun ({error})") from None
    version = metadata.get(_VERSION_KEY, b"none").decode()
    if version not in map(str, range(OLDEST_VERSION, SCHEMA_VERSION + 1)):
        raise MemindexError(
            f"{file} has schema version {version}, this memindex reads version {SCHEMA_VERSION}; "
            "move the study's tables away and fill them again with: memindex study run STUDY"
        )
    if metadata.get(_TABLE_KEY) != table_name.encode():
        raise MemindexError(f"{file} is not part of the table {table_name}; move it away")
    return True


def _conform(table: Table, data: pa.Table | Mapping[str, Any]) -> pa.Table:
    """The data as an Arrow table of exactly the table's schema."""
    columns = dict(zip(data.column_names, data.columns, strict=True)) if isinstance(data, pa.Table) else dict(data)
    columns |= _lengths(table, columns)
    names = [column.name for column in table.columns]
    missing = [name for name in names if name not in columns]
    extra = [name for name in columns if name not in names]
    if missing or extra or (isinstance(data, pa.Table) and len(set(data.column_names)) != data.num_columns):
        wrong = [f"lacks {', '.join(missing)}"] if missing else []
        wrong += [f"has unknown columns {', '.join(extra)}"] if extra else []
        raise MemindexError(f"table {table.name}: the data {' and '.join(wrong) or 'repeats a column'}")
    arrays = [_conform_column(table, column, columns[column.name]) for column in table.columns]
    lengths = {name: len(array) for name, array in zip(names, arrays, strict=True)}
    if len(set(lengths.values())) > 1:
        raise MemindexError(f"table {table.name}: columns differ in length: {lengths}")
    return pa.Table.from_arrays(arrays, schema=table.schema())


def _lengths(table: Table, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that tell the length of a list."""
    lists = {c.name: c for c in table.columns}
    return {
        c.name: pc.list_value_length(_conform_column(table, lists[c.length_of], columns[c.length_of]))
        for c in table.columns
        if c.length_of in columns
    }


def completed(table: Table, contents: pa.Table) -> pa.Table:
    """The columns of a table in their order; those that tell the length of a list may be missing before."""
    columns = dict(zip(contents.column_names, contents.columns, strict=True))
    columns |= _lengths(table, columns)
    return pa.table({column.name: columns[column.name] for column in table.columns})


def _conform_column(table: Table, column: Column, values: Any) -> pa.ChunkedArray:
    try:
        array = _arrow(column, values)
        if not _same_kind(array.type, column.type):
            raise pa.ArrowTypeError(f"got {array.type}")
        array = array.cast(column.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise MemindexError(f"table {table.name}, column {column.name}: expected {column.type}; {error}") from None
    if array.null_count and not column.nullable:
        raise MemindexError(f"table {table.name}, column {column.name}: {array.null_count} NULL, none may be")
    if pa.types.is_list(column.type) and any(chunk.flatten().null_count for chunk in array.chunks):
        raise MemindexError(f"table {table.name}, column {column.name}: a list has a NULL inside, none may")
    return array


def _arrow(column: Column, values: Any) -> pa.ChunkedArray:
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, np.ndarray) and values.ndim == 2:
        values = from_matrix(values)
    if isinstance(values, Ragged):
        offsets = pa.array(values.offsets.astype(np.int32))
        values = pa.ListArray.from_arrays(offsets, pa.array(values.values))
    elif not isinstance(values, pa.Array):
        # Without a type first, so that a column of floats is not silently cut to integers.
        values = pa.array(values) if isinstance(values, np.ndarray) else pa.array(values, type=column.type)
    return pa.chunked_array([values])


def _same_kind(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a checked cast between the types keeps the meaning: other widths yes, other kinds no."""
    kinds = pa.types
    if kinds.is_null(given):
        return True
    if kinds.is_list(wanted):
        nested = kinds.is_list(given) or kinds.is_large_list(given) or kinds.is_fixed_size_list(given)
        return nested and _same_kind(given.value_type, wanted.value_type)
    tests = (
        kinds.is_integer,
        kinds.is_floating,
        kinds.is_boolean,
        kinds.is_timestamp,
        lambda t: kinds.is_string(t) or kinds.is_large_string(t) or kinds.is_string_view(t),
    )
    return any(test(given) and test(wanted) for test in tests)


def _sync_directory(folder: Path) -> None:
    """Make the rename itself durable, where the system can (POSIX)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
