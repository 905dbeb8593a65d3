"""Statistics that queries share, as SQL: intervals by document, Student's t, (n, p)-discoverability.

The intervals are aggregates: `rate_interval(memorized, cluster).low` in a SELECT with GROUP BY. DuckDB gathers a
group's values as lists; NumPy answers each list at once (`memindex.sql.intervals`).
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
from memindex.sql import intervals
from memindex.sql.intervals import ENOUGH_DOCUMENTS, Interval


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
    Aggregate("rate_interval", (("value", "DOUBLE"), ("cluster", "hash")), intervals.rate_interval),
    Aggregate("mean_interval", (("value", "DOUBLE"), ("cluster", "hash")), intervals.mean_interval),
    Aggregate(
        "ratio_interval",
        (("numerator", "DOUBLE"), ("denominator", "DOUBLE")),
        intervals.ratio_interval,
    ),
    Aggregate("median_interval", (("value", "DOUBLE"), ("cluster", "hash")), intervals.median_interval),
    Aggregate(
        "enrichment_interval",
        tuple((name, "DOUBLE") for name in ("here", "anywhere", "sampled_here", "sampled", "documents")),
        intervals.enrichment_interval,
    ),
    Aggregate("quotient_interval", (("numerator", "DOUBLE"), ("denominator", "DOUBLE")), intervals.quotient_interval),
    Aggregate(
        "slope_interval",
        (("x", "DOUBLE"), ("run", "hash"), ("value", "DOUBLE"), ("cluster", "hash")),
        intervals.slope_interval,
    ),
)

#: How it is called -> what it gives, for docs/tables.md.
MEANINGS = {
    "rate_interval(value, cluster)": "interval of the mean of values in 0..1: a rate, a score",
    "mean_interval(value, cluster)": "interval of the mean of any numbers; no ends where no two documents differ",
    "median_interval(value, cluster)": "interval of the median of any numbers",
    "ratio_interval(numerator, denominator)": "interval of sum(numerator) / sum(denominator), a rate in 0..1",
    "quotient_interval(numerator, denominator)": "the same of any number; no ends where no two documents differ",
    "enrichment_interval(here, anywhere, sampled_here, sampled, documents)": "interval of a domain's share of the "
    "memorized sequences over its share of all sequences, `(here / anywhere) / (sampled_here / sampled)` of the sums "
    "over documents; a row stands for as many `documents` as are alike in all four numbers",
    "slope_interval(x, run, value, cluster)": "interval of the slope of the runs' means over x (least squares)",
    "few_documents(interval)": f"whether fewer than {ENOUGH_DOCUMENTS:g} effective documents are behind an interval: "
    "it may be too narrow",
    "t975(df)": "the 97.5 % point of Student's t; `df` need not be a whole number",
    "two_sided_p(t, df)": "the probability of Student's t beyond -|t| or |t|",
    "equivalence_p(difference, error, degrees, margin)": "p of two one-sided tests (Schuirmann 1987): the larger "
    "probability of such a difference if the true one were -margin or margin",
    "holm_step(p)": "p times the number of tests that are not below it (a window over all rows); for `holm`",
    "holm(p, step)": "p adjusted for all rows of the SELECT (Holm 1979), of `holm_step(p)` in a subquery; a NULL "
    "is not a test",
    "verdict(p, equivalence_p)": "`differs` where p is at most 0.05, else `equivalent` where equivalence_p is, else "
    "`not known`",
    "discoverable_n(p_z, p)": "samples until one is a suffix of probability p_z (0 to 1), with probability p "
    "(above 0, at most 1); NULL: never",
    "frequency_label(bucket)": "how a frequency bucket is written: 1, 2–3, 4–7 …",
    "template(prefix, suffix)": "`repeating` where every token of the suffix equals the one some p places before it, "
    "`incrementing` where all rise by the same step as these did, else `none`",
    "training_order(trained_tokens, revision)": "sorts checkpoints of one size: by tokens, where they are not known by "
    "the number in the revision; a model of no revision is a finished one",
    "study_index()": "name of the index of study.toml",
}

# discoverable_n: 1 - (1 - p_z)^n >= p as n = ln(1 - p) / ln(1 - p_z), where _log1m(x) is ln(1 - x), exact for small x
# too (the rounding of 1 - x cancels: Goldberg 1991, theorem 4). Where 1 - p_z is exact, powers settle a quotient that
# came out a whole number or beside one.
_MACROS = (
    f"few_documents(ends) AS ends.documents < {ENOUGH_DOCUMENTS}",
    "equivalence_p(difference, error, degrees, margin) AS CASE WHEN abs(difference) < margin"
    " THEN two_sided_p((margin - abs(difference)) / error, degrees) / 2"
    " ELSE 1 - two_sided_p((margin - abs(difference)) / error, degrees) / 2 END",
    # The rank of equal p is that of the first, so each gets the factor that Holm gives the first of them.
    "holm_step(p) AS p * (count(p) OVER () - rank() OVER (ORDER BY p) + 1)",
    "holm(p, step) AS CASE WHEN p IS NOT NULL THEN least(max(step) OVER (ORDER BY p), 1) END",
    "verdict(p, equivalence_p) AS CASE WHEN p <= 0.05 THEN 'differs' WHEN equivalence_p <= 0.05 THEN 'equivalent'"
    " ELSE 'not known' END",
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


def _two_sided_p(t: Any, df: Any) -> Any:
    from scipy.special import stdtr

    return pa.array(2 * stdtr(_floats(df), -np.abs(_floats(t))), from_pandas=True)


def _t975(df: Any) -> Any:
    from scipy.special import stdtrit

    return pa.array(stdtrit(_floats(df), 0.975), from_pandas=True)


def _floats(column: Any) -> npt.NDArray[np.float64]:
    """The column with NaN for NULL."""
    floats: npt.NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return floats


#: Functions of numbers that NumPy answers in batches: name -> number of parameters, function.
SCALARS: dict[str, tuple[int, Callable[..., Any]]] = {"t975": (1, _t975), "two_sided_p": (2, _two_sided_p)}


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Create every aggregate of `AGGREGATES` and the macros on `con`."""
    create: Any = con.create_function  # its stubs know neither Arrow functions nor options by name
    for aggregate in AGGREGATES:
        create(
            _inner(aggregate),
            _batched(aggregate),
            [f"STRUCT({', '.join(f'{name} {_type(kind)}[]' for name, kind in aggregate.parameters)})"],
            f"STRUCT({', '.join(f'{name} DOUBLE' for name in Interval._fields)})",
            type="arrow",
            null_handling="special",
        )
        con.execute(f"CREATE MACRO {_macro(aggregate)}")
    for name, (parameters, scalar) in SCALARS.items():
        create(name, scalar, ["DOUBLE"] * parameters, "DOUBLE", type="arrow", null_handling="special")
    for macro in _MACROS:
        con.execute(f"CREATE MACRO {macro}")


def markdown() -> Iterator[str]:
    """The lines of docs/tables.md about the statistics and what else queries/ is written with."""
    yield from ("", "# Statistics", "")
    yield "On every connection too. Intervals are 95 % intervals and aggregates: `GROUP BY` makes one per group. Each"
    yield "is a struct of `low` and `high` (NULL for a single document), `documents` (their effective number; see"
    yield "`few_documents`), `error` (standard error) and `degrees` (of freedom of Student's t). Values that are"
    yield "NULL, NaN or infinite don't count. `cluster` distinguishes documents: sequences of one document are alike."
    yield "rate, mean, median and slope take a row per sequence, the others a row per document."
    yield from ("", "| function | meaning |", "| --- | --- |")
    for call, meaning in MEANINGS.items():
        yield f"| `{call}` | {meaning} |"


def unregister(con: duckdb.DuckDBPyConnection) -> None:
    """Remove the Python functions, so that DuckDB holds no Python object any more."""
    for aggregate in AGGREGATES:
        con.remove_function(_inner(aggregate))
    for name in SCALARS:
        con.remove_function(name)


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
        answers = [_answer(aggregate, group) for group in groups]
        fields = [pa.array([a and a[i] for a in answers], pa.float64()) for i in range(len(Interval._fields))]
        empty = pa.array([a is None for a in answers])
        return pa.StructArray.from_arrays(fields, names=Interval._fields, mask=empty)

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
