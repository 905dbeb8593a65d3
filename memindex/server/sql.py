"""Read-only SQL over one study for people nobody knows; runs inside a worker process (`memindex.server.study_worker`).

Every request has a cursor of its own on a locked connection. What DuckDB can't be trusted to stop (a text of gigabytes,
a list of billions: its memory limit does not see them, and an interruption waits for them) ends with the process.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from memindex.errors import DamagedTableError, MemindexError, shortened
from memindex.index.names import identity_of
from memindex.server.refusals import RefusalError, without_folders
from memindex.server.sql_guard import Guard
from memindex.server.sql_writing import Written, written
from memindex.server.study_limits import StudyLimits
from memindex.sql.connection import connect, damage_behind
from memindex.sql.functions import LOOKED_AT, readable
from memindex.sql.queries import Parameter
from memindex.sql.statements import explained
from memindex.study.config import load_study

#: Values that a query's $parameters may have.
Values = Mapping[str, Parameter | bool | None]

#: How DuckDB wraps what functions say of an index whose files are damaged or gone.
_BAD_INDEX = re.compile(r"executing the UDF: (?:CorruptIndexError|\w*NotFoundError|PermissionError|OSError): ")
#: And what is said of one whose folder is gone.
_NO_INDEX = re.compile(r'is not an index|is not at |no such folder: |Cannot access file ".*documents\.parquet')

_TOO_LITTLE = ("failed to allocate", "bad_alloc", "Out of Memory", "out of memory")


class StudySql:
    """One study, locked; not for several threads at a time."""

    def __init__(self, study: Path, limits: StudyLimits) -> None:
        """Connect.

        Raises:
            MemindexError: No study there, or tables that can't be read.
        """
        config = load_study(study)
        settings: dict[str, int | str] = {"threads": limits.threads, "memory_limit": f"{limits.memory >> 20}MiB"}
        self.config, self.limits = config, limits
        self.con = connect(study, restricted=True, settings=settings)
        self._folders = [config.directory, config.tables, *config.indexes().values(), config.directory.parent]
        self._present = {name: path for name, path in config.indexes().items() if identity_of(path) is not None}
        self._guard = Guard(self.con)

    def close(self) -> None:
        """Let go of the study."""
        self.con.close()

    def ask(self, text: str, values: Values | None = None, form: str = "json", rows: int | None = None) -> Written:
        """The answer to a stranger's SQL.

        Args:
            text: One SELECT.
            values: What stands in it as $name.
            form: json, csv or arrow.
            rows: Rows at most; never more than the limit.

        Raises:
            RefusalError: It may not run, takes too long or too much, or DuckDB can't run it.
        """
        most = self.limits.rows if rows is None else min(rows, self.limits.rows)
        with self.cursor(text) as cursor:
            statement = self._guard.check(cursor, text)
            relation = cursor.sql(statement.query, params=dict(values) if values else None)
            return written(relation, form, self.limits, most)

    @contextmanager
    def cursor(self, text: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor that is interrupted when its time is over; what goes wrong with `text` leaves as RefusalError."""
        cursor = self.con.cursor()
        over = threading.Event()

        def stop() -> None:
            over.set()
            cursor.interrupt()

        timer = threading.Timer(self.limits.seconds, stop)
        timer.start()
        try:
            yield cursor
        except RefusalError as error:
            raise RefusalError(error.status, self.shown(error)) from None
        except DamagedTableError:
            raise unreadable() from None
        except MemindexError as error:
            raise RefusalError(400, self.shown(error)) from None
        except (MemoryError, pa.ArrowMemoryError, duckdb.OutOfMemoryException):
            raise too_much_memory(self.limits) from None
        except (duckdb.Error, RuntimeError, ValueError, OverflowError, pa.ArrowException) as error:
            raise self._refusal(error, text, over.is_set()) from None
        finally:
            timer.cancel()
            cursor.close()

    def shown(self, error: Exception) -> str:
        """An error's line for strangers."""
        return without_folders(str(error), self._folders)

    def _removed_indexes(self) -> list[str]:
        """Indexes whose folder was there when this study was opened."""
        return [name for name, path in self._present.items() if identity_of(path) is None]

    def _refusal(self, error: Exception, text: str, over: bool) -> RefusalError:
        line = shortened(str(error), LOOKED_AT)
        if over or isinstance(error, duckdb.InterruptException):
            return too_slow(self.limits)
        if any(words in line for words in _TOO_LITTLE):
            return too_much_memory(self.limits)
        if damage_behind(self.con, error):
            return unreadable()
        if _BAD_INDEX.search(line):
            return RefusalError(503, f"an index of the study can't be read: {self.shown(readable(error))}")
        if _NO_INDEX.search(line) and (gone := self._removed_indexes()):
            return RefusalError(503, f"the folder of the index {', '.join(gone)} is gone: tell who runs this server")
        told = str(explained(self.con, error, text)) if isinstance(error, duckdb.Error) else line
        return RefusalError(400, without_folders(" ".join(told.split()), self._folders))


def unreadable() -> RefusalError:
    """Files of the tables that are damaged, or that changed meanwhile."""
    return RefusalError(503, "the study's tables changed or can't be read: ask again, or tell who runs this")


def too_slow(limits: StudyLimits) -> RefusalError:
    """A query that took all of its time."""
    return RefusalError(408, f"stopped after {limits.seconds:g} seconds: ask for less, or for fewer rows first")


def too_much_memory(limits: StudyLimits) -> RefusalError:
    """A query that took all of its memory."""
    return RefusalError(413, f"the query needs more memory than the {limits.memory >> 20} MiB that it may use")
