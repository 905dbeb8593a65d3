"""Statistics that queries share, as SQL: intervals by document, Student's t, (n, p)-discoverability.

The intervals are aggregates: `rate_interval(memorized, cluster).low` in a SELECT with GROUP BY. DuckDB gathers a
group's values as lists; NumPy answers each list at once (`memindex.tables.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.errors import QueryError
from memindex.tables import bootstrap
from memindex.tables.bootstrap import Interval


@dataclass(frozen=True)
class Aggregate:
    """One aggregate: its parameters with DuckDB's types, and what makes an interval of a group's values.

    A parameter of type `hash` may be anything that tells rows apart. Rows where a number is NULL, NaN or infinite don't
    count.
    """

    name: str
    parameters: tuple[tuple[str, str], ...]
    answer: Callable[..., Interval | None]


AGGREGATES = (
    Aggregate("rate_interval", (("value", "DOUBLE"), ("cluster", "hash")), bootstrap.rate_interval),
    Aggregate("mean_interval", (("value", "DOUBLE"), ("cluster", "hash")), bootstrap.mean_interval),
    Aggregate(
        "ratio_interval",
        (("numerator", "DOUBLE"), ("denominator", "DOUBLE")),
        bootstrap.ratio_interval,
    ),
    Aggregate("quotient_interval", (("numerator", "DOUBLE"), ("denominator", "DOUBLE")), bootstrap.quotient_interval),
    Aggregate(
        "slope_interval",
        (("x", "DOUBLE"), ("run", "hash"), ("value", "DOUBLE"), ("cluster", "hash")),
        bootstrap.slope_interval,
    ),
)

#: How it is called -> what it gives, for docs/tables.md.
MEANINGS = {
    "rate_interval(value, cluster)": "interval of the mean of values in 0..1: a rate, a score",
    "mean_interval(value, cluster)": "interval of the mean of any numbers; NULL where no two documents differ",
    "ratio_interval(numerator, denominator)": "interval of sum(numerator) / sum(denominator), a rate in 0..1",
    "quotient_interval(numerator, denominator)": "the same of any number; NULL where no two documents differ",
    "slope_interval(x, run, value, cluster)": "interval of the slope of the runs' means over x (least squares)",
    "t975(df)": "the 97.5 % point of Student's t",
    "discoverable_n(p_z, p)": "samples until one is a suffix of probability p_z (0 to 1), with probability p "
    "(above 0, at most 1); NULL: never",
    "frequency_label(bucket)": "how a frequency bucket is written: 1, 2–3, 4–7 …",
    "template(prefix, suffix)": "`repeating` where every token of the suffix equals the one some p places before it, "
    "`incrementing` where all rise by the same step as these did, else `none`",
    "training_order(trained_tokens, revision)": "sorts checkpoints of one size: by tokens, where they are not known by "
    "the number in the revision; a model of no revision is a finished one",
    "study_index()": "name of the index of study.toml",
}

_T975 = "[" + ", ".join(map(str, bootstrap.T975)) + "]::DOUBLE[]"
_T975_ABOVE = " + ".join(f"{c} / df ** {power}" for power, c in enumerate(bootstrap.T975_ABOVE))

# discoverable_n: 1 - (1 - p_z)^n >= p as n = ln(1 - p) / ln(1 - p_z), where _log1m(x) is ln(1 - x), exact for small x
# too (the rounding of 1 - x cancels: Goldberg 1991, theorem 4). Where 1 - p_z is exact, powers settle a quotient that
# came out a whole number or beside one.
_MACROS = (
    f"t975(df) AS CASE WHEN df > {len(bootstrap.T975)} THEN {_T975_ABOVE} ELSE list_extract({_T975}, df::BIGINT) END",
    "_log1m(x) AS CASE WHEN 1 - x = 1 THEN -x ELSE ln(1 - x) * x / (1 - (1 - x)) END",
    "_tries(p_z, p) AS greatest(ceil(_log1m(p) / _log1m(p_z)), 1)",
    "_settled(p_z, p, n) AS CASE WHEN 1 - (1 - p_z) <> p_z THEN n"
    " WHEN n > 1 AND pow(1 - p_z, n - 1) <= 1 - p THEN n - 1 WHEN pow(1 - p_z, n) > 1 - p THEN n + 1 ELSE n END",
    "discoverable_n(p_z, p) AS CASE"
    " WHEN NOT (p::DOUBLE > 0 AND p::DOUBLE <= 1)"
    " THEN error('discoverable_n: p must be above 0 and at most 1, not ' || p)"
    " WHEN isnan(p_z::DOUBLE) THEN NULL"
    " WHEN NOT p_z::DOUBLE BETWEEN 0 AND 1 THEN error('discoverable_n: p_z must be between 0 and 1, not ' || p_z)"
    " WHEN p_z = 1 THEN 1::DOUBLE"
    " WHEN p_z > 0 AND p < 1 THEN"
    " _settled(p_z::DOUBLE, p::DOUBLE, _tries(p_z::DOUBLE, p::DOUBLE)) END",
    "training_order(trained_tokens, revision) AS (coalesce(trained_tokens, if(revision IS NULL, 1::BIGINT << 62, 0)),"
    " coalesce(try_cast(regexp_extract(revision, '[0-9]+$') AS BIGINT), 0))",
    # 0 is '1', 1 is '2-3', 2 is '4-7', …, with an en dash (U+2013)
    "frequency_label(bucket) AS CASE WHEN bucket = 0 THEN '1'"
    " ELSE (1::BIGINT << bucket)::VARCHAR || chr(8211) || ((1::BIGINT << (bucket + 1)) - 1)::VARCHAR END",
)


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Create every aggregate of `AGGREGATES` and the macros on `con`."""
    create: Any = con.create_function  # its stubs know neither Arrow functions nor options by name
    for aggregate in AGGREGATES:
        create(
            _inner(aggregate),
            _batched(aggregate),
            [f"STRUCT({', '.join(f'{name} {_type(kind)}[]' for name, kind in aggregate.parameters)})"],
            "STRUCT(low DOUBLE, high DOUBLE)",
            type="arrow",
            null_handling="special",
        )
        con.execute(f"CREATE MACRO {_macro(aggregate)}")
    for macro in _MACROS:
        con.execute(f"CREATE MACRO {macro}")


def markdown() -> Iterator[str]:
    """The lines of docs/tables.md about the statistics and what else queries/ is written with."""
    yield from ("", "# Statistics", "")
    yield "On every connection too. Intervals are of 95 %, structs of `low` and `high`, aggregates: `GROUP BY` makes"
    yield "one per group. Values that are NULL, NaN or infinite don't count. `cluster` tells documents apart: sequences"
    yield "of one document are alike. The first two take a row per sequence, the next two a row per document."
    yield from ("", "| function | meaning |", "| --- | --- |")
    for call, meaning in MEANINGS.items():
        yield f"| `{call}` | {meaning} |"


def unregister(con: duckdb.DuckDBPyConnection) -> None:
    """Remove the Python functions, so that DuckDB holds no Python object any more."""
    for aggregate in AGGREGATES:
        con.remove_function(_inner(aggregate))


def _inner(aggregate: Aggregate) -> str:
    return f"_{aggregate.name}"


def _type(kind: str) -> str:
    return "UBIGINT" if kind == "hash" else kind


def _macro(aggregate: Aggregate) -> str:
    """The macro that gathers a group's values in lists and passes them on."""
    names = ", ".join(name for name, _ in aggregate.parameters)
    numbers = " AND ".join(f"isfinite({name}::DOUBLE)" for name, kind in aggregate.parameters if kind != "hash")
    counted = f"FILTER (WHERE {numbers})"
    lists = [
        f"{name} := list({f'hash({name})' if kind == 'hash' else f'{name}::{kind}'}) {counted}"
        for name, kind in aggregate.parameters
    ]
    return f"{aggregate.name}({names}) AS {_inner(aggregate)}(struct_pack({', '.join(lists)}))"


@cache  # kept for ever: a connection's cursors call it even when the connection is gone
def _batched(aggregate: Aggregate) -> Callable[..., Any]:
    """The function that DuckDB calls; a row is a group, as a struct of one list per parameter."""

    def call(rows: Any) -> Any:
        columns = _combined(rows).flatten()
        groups = zip(*(_lists(column) for column in columns), strict=True)
        intervals = [_answer(aggregate, group) for group in groups]
        ends = [pa.array([i and i[end] for i in intervals], pa.float64()) for end in (0, 1)]
        empty = pa.array([i is None for i in intervals])
        return pa.StructArray.from_arrays(ends, names=["low", "high"], mask=empty)

    return call


def _answer(aggregate: Aggregate, group: tuple[npt.NDArray[Any], ...]) -> Interval | None:
    if not len(group[0]):
        return None
    try:
        return aggregate.answer(*group)
    except ValueError as error:
        raise QueryError(f"{aggregate.name}: {error}") from None


def _combined(array: Any) -> Any:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _lists(array: Any) -> list[npt.NDArray[Any]]:
    """The list of each group as an array; an empty one for NULL, which is what list() makes of no rows."""
    if array.null_count == len(array):
        return [np.empty(0)] * len(array)
    values = array.values.to_numpy(zero_copy_only=False)
    starts, lengths = array.offsets.to_numpy()[:-1], np.nan_to_num(array.value_lengths().to_numpy(zero_copy_only=False))
    return [values[start : start + length] for start, length in zip(starts, lengths.astype(np.int64), strict=True)]
