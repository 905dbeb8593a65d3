"""The SQL functions beside the Python API, on the same rows in the same run.

    python benchmarks/sql.py INDEX [--rows N] [--length N] [--rounds N]

Rows are n-grams at random places of the corpus, in a table of DuckDB. Each round measures, one after the other:

    SQL              the function over the whole table, on all of DuckDB's threads
    in chunks        the method of Index, called with as many rows at a time as DuckDB gives a function
    one batch        the same called once with all rows
    nothing          (ngram_count only) an Arrow function of DuckDB that looks at no row: what handing over costs

Every answer of SQL is compared with that of the API.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import samples
from rounds import Table, once

from memindex import Index
from memindex.ragged import from_matrix
from memindex.sql.functions import Indexes, register

#: Rows of a chunk, in DuckDB.
CHUNK = 2048


class Case(NamedTuple):
    """One function: an aggregate over the table, and the API's call whose answers add up to the same number."""

    sql: str
    call: Callable[[Index, np.ndarray], Any]
    total: Callable[[Any], int]
    share: float  # of --rows: slow functions get fewer


def decode(index: Index, queries: np.ndarray) -> list[str]:
    """Texts of ids."""
    return index.tokenizer.decode_batch(queries.tolist())


CASES = {
    "ngram_count": Case(
        "sum(ngram_count('index', q))", lambda i, q: i.count(from_matrix(q)), lambda found: int(found.sum()), 1
    ),
    "ngram_count_by_domain": Case(
        "sum(list_sum(map_values(ngram_count_by_domain('index', q))))",
        lambda i, q: i.count_by_domain(from_matrix(q)),
        lambda found: int(found.sum()),
        1,
    ),
    "longest_matches": Case(
        "sum(list_sum(list_transform(longest_matches('index', q), lambda m: m.length)))",
        lambda i, q: i.longest_match(from_matrix(q)),
        lambda found: int(found.lengths.sum(dtype=np.int64)),
        0.1,
    ),
    "detokenize": Case("sum(length(detokenize('index', q)))", decode, lambda texts: sum(map(len, texts)), 0.1),
}


def main() -> None:
    """Measure every case in rounds and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--length", type=int, default=32, help="tokens of each n-gram")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    index = Index.open(arguments.index)
    samples.warm(index.path)
    queries = samples.present(index, arguments.length, arguments.rows, 0).astype(np.int32)
    con = connection(index, queries)
    [(threads,)] = con.execute("SELECT current_setting('threads')").fetchall()
    print(f"{index.name}: {index.manifest.tokens:,} tokens; {arguments.rows:,} rows of {arguments.length} tokens")
    print(f"DuckDB {duckdb.__version__}, {threads} threads")
    table = Table("function", "rows/s")
    for _ in range(arguments.rounds):
        for name, case in CASES.items():
            table.round(name, measured(con, index, queries[: int(case.share * len(queries))], name, case))
    table.print(["SQL"])


def connection(index: Index, queries: np.ndarray) -> duckdb.DuckDBPyConnection:
    """A database with the functions, the n-grams as a table, and a function that does nothing."""
    con = duckdb.connect(config={"threads": len(os.sched_getaffinity(0))})
    register(con, Indexes({"index": Path(index.path)}, lambda path: index))
    con.create_function(
        "nothing",
        lambda names, rows: pa.array(np.zeros(len(rows), dtype=np.int64)),
        ["VARCHAR", "INTEGER[]"],
        "BIGINT",
        type="arrow",
        null_handling="special",
    )
    lists = pa.FixedSizeListArray.from_arrays(pa.array(queries.reshape(-1)), queries.shape[1])
    con.register("arrow_rows", pa.table({"q": lists.cast(pa.list_(pa.int32()))}))
    con.execute("CREATE TABLE asked AS SELECT q FROM arrow_rows")
    con.unregister("arrow_rows")
    return con


def measured(
    con: duckdb.DuckDBPyConnection, index: Index, queries: np.ndarray, name: str, case: Case
) -> dict[str, Callable[[], float]]:
    """What a round measures of one function; SQL has to give the API's numbers."""
    rows = len(queries)
    statement = f"SELECT {case.sql} FROM asked WHERE rowid < {rows}"
    chunks = [queries[start : start + CHUNK] for start in range(0, rows, CHUNK)]
    expected = case.total(case.call(index, queries))

    def ask() -> None:
        [(answer,)] = con.execute(statement).fetchall()
        assert answer == expected, f"{name}: {answer} in SQL, {expected} from the API"

    work = {
        "SQL": ask,
        "in chunks": lambda: [case.call(index, chunk) for chunk in chunks],
        "one batch": lambda: case.call(index, queries),
    }
    if name == "ngram_count":
        work["nothing"] = lambda: con.execute("SELECT sum(nothing('index', q)) FROM asked").fetchall()
    return {column: once(do, rows) for column, do in work.items()}


if __name__ == "__main__":
    main()
