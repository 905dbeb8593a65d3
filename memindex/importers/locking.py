"""One import at a time: two would both write the sequences that both find missing, and every row would count twice."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from memindex.tables.store import TableStore

_FILE = ".import.lock"


@contextmanager
def alone(store: TableStore) -> Iterator[None]:
    """Wait until no other process imports into the study, and keep others waiting meanwhile."""
    store.directory.mkdir(parents=True, exist_ok=True)
    with (store.directory / _FILE).open("ab") as file:
        # Some network file systems know no locks. The system takes that of a killed process away.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
