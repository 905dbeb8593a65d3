"""(n, p)-discoverability in SQL, against exact arithmetic."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, localcontext
from fractions import Fraction

import duckdb
import numpy as np
import pytest

from memindex.sql import statistics


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    statistics.register(con)
    yield con
    statistics.unregister(con)


def tries(p_z: float, p: float) -> int:
    """The smallest n with 1 - (1 - p_z)^n >= p, for exactly these doubles."""
    missed, wanted = 1 - Fraction(p_z), 1 - Fraction(p)
    n, left = 1, missed
    while left > wanted:
        n, left = n + 1, left * missed
    return n


def test_discoverable_n_is_the_smallest_n(con: duckdb.DuckDBPyConnection) -> None:
    random = np.random.default_rng(0)
    pairs = [(0.5, 0.75), (0.25, 0.4375), (0.75, 0.9375), (0.5, 0.5), (0.3, 0.3), (0.1, 0.9), (1 - 2**-53, 0.5)]
    # Quotients of logarithms that are whole numbers, but come out beside them: ln(2^29) / ln(2) is 29.000000000000004.
    pairs += [(0.5, 1 - 2.0**-n) for n in range(1, 53)] + [(0.75, 1 - 4.0**-n) for n in range(1, 27)]
    pairs += [(1 - 2**-20, 1 - 2**-40), (1.0, 0.9), (0.5, 1 - 2**-30)]
    pairs += [
        (float(p_z), float(p)) for p_z, p in zip(10 ** random.uniform(-2, 0, 150), random.random(150), strict=True)
    ]
    for p_z, p in pairs:
        [(n,)] = con.execute("SELECT discoverable_n($1, $2)", [p_z, p]).fetchall()
        assert n == tries(p_z, p), (p_z, p)


@pytest.mark.parametrize("p", [0.5, 0.9, 0.01])
def test_discoverable_n_is_right_for_tiny_probabilities(con: duckdb.DuckDBPyConnection, p: float) -> None:
    for p_z in (1e-3, 1.2345e-5, 3e-8, 1e-12, 1e-16, 1e-17, 1e-100, 1e-300):
        with localcontext() as context:
            context.prec = 700
            exact = (1 - Decimal(p)).ln() / (1 - Decimal(p_z)).ln()
            expected = exact.to_integral_value(ROUND_CEILING)
        [(n,)] = con.execute("SELECT discoverable_n($1, $2)", [p_z, p]).fetchall()
        assert n == expected if expected < 10**9 else n == pytest.approx(float(expected), rel=1e-14)


def test_discoverable_n_has_no_answer_where_there_is_none(con: duckdb.DuckDBPyConnection) -> None:
    asked = "discoverable_n(0, 0.5), discoverable_n(NULL, 0.5), discoverable_n(0.5, 1), discoverable_n(0.5, NULL)"
    assert con.execute(f"SELECT {asked}").fetchall() == [(None, None, None, None)]
    assert con.execute("SELECT discoverable_n(1, 0.3), discoverable_n(1, 1)").fetchall() == [(1, 1)]


@pytest.mark.parametrize("call", ["0.3, 0", "0.3, -1", "0.3, 1.5", "0.3, 'nan'::DOUBLE", "0.3, 'inf'::DOUBLE"])
def test_e8_p_beyond_a_probability_is_an_error(con: duckdb.DuckDBPyConnection, call: str) -> None:
    with pytest.raises(duckdb.Error, match="discoverable_n: p must be above 0 and at most 1, not "):
        con.execute(f"SELECT discoverable_n({call})").fetchall()
    con.execute("CREATE TABLE t AS SELECT 0.3 AS p_z")
    with pytest.raises(duckdb.Error, match="p must be above 0"):
        con.execute(f"SELECT discoverable_n(p_z, {call.partition(', ')[2]}) FROM t").fetchall()


@pytest.mark.parametrize("p_z", ["1.0000001", "-0.1", "2", "'inf'::DOUBLE"])
def test_e8_p_z_beyond_a_probability_is_an_error(con: duckdb.DuckDBPyConnection, p_z: str) -> None:
    with pytest.raises(duckdb.Error, match="discoverable_n: p_z must be between 0 and 1, not "):
        con.execute(f"SELECT discoverable_n({p_z}, 0.5)").fetchall()
