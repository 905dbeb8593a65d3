"""Files of the Parquet store: read with a clear word about damage, and told from what killed writers left."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from memindex.errors import MemindexError
from memindex.tables.schema import TABLES

#: An unfinished file that did not grow for so long is nobody's; seconds.
_DAY = 86_400


def machine() -> str:
    """Names this machine among those that share a directory; 8 hex digits."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def is_abandoned(file: Path) -> bool:
    """Whether nobody writes an unfinished file any more: its process is gone, or it has not grown for a day."""
    writer = re.search(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp$", file.name)
    if writer and writer[1] == machine() and os.name == "posix":
        try:
            os.kill(int(writer[2]), 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            return False
    return time.time() - file.stat().st_mtime > _DAY


def contents(file: Path, columns: list[str] | None = None) -> pa.Table:
    """Columns of a file, all by default; MemindexError says what to do with a damaged one."""
    with telling_damage(file):
        return pq.ParquetFile(file).read(columns=columns)


def read_through(file: Path) -> None:
    """Read a file to its end and keep nothing; MemindexError when it is damaged."""
    with suppress(FileNotFoundError):
        for _ in batches(file):
            pass


def batches(file: Path, columns: list[str] | None = None, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
    """A file's columns, so many rows at a time; MemindexError when it is damaged."""
    with telling_damage(file):
        yield from pq.ParquetFile(file).iter_batches(rows, columns=columns)


@contextmanager
def telling_damage(file: Path) -> Iterator[None]:
    """What Arrow can't read in `file` leaves as one line; that it is gone stays FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise MemindexError(damage(file, str(error))) from None


def damage(file: Path, what: str) -> str:
    """One line about a damaged file of a table, with what to do about it."""
    table = TABLES.get(file.parent.name)
    again = "put back a whole one"
    if table is not None:
        also = f" and {run}" if (run := _row_of_run(file)) else ""
        again = f"delete it{also}, then fill the table again with: {table.filled_by}"
    return f"{file} is not a readable Parquet file: {again} ({' '.join(what.split())})"


def _row_of_run(file: Path) -> Path | None:
    """The file with the row of the run of a file of continuations: with its row a run counts as finished."""
    words = unquote(file.stem).split(" ")[:-2]
    names = [" ".join(words), " ".join(words[1:])] if file.parent.name == "continuations" else []
    files = [file.parent.parent / "runs" / f"{quote(name, safe=' ')}.parquet" for name in names if name]
    return next((found for found in files if found.is_file()), None)
