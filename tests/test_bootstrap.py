"""Intervals by document against a bootstrap that really draws documents, and against the truth they should hold."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import ROUND_CEILING, Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from synthetic_study import make_study

from memindex.tables import bootstrap, statistics
from memindex.tables.bootstrap import mean_interval, rate_interval, replicates, slope_interval, wilson
from memindex.tables.connection import connect
from memindex.tables.functions import readable


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    statistics.register(con)
    yield con
    statistics.unregister(con)


def clustered(seed: int, documents: int = 80, rate: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Memorized or not, and the document, of sequences whose documents differ in length and in rate."""
    random = np.random.default_rng(seed)
    document = np.repeat(np.arange(documents), random.geometric(0.2, documents))
    rates = random.beta(rate, 1 - rate, documents)
    return (random.random(len(document)) < rates[document]).astype(np.float64), document


def drawn_one_by_one(values: np.ndarray, documents: np.ndarray, times: int = 4000) -> np.ndarray:
    """The mean of all sequences of documents drawn with replacement, as often as asked."""
    random = np.random.default_rng(99)
    members = [values[documents == d] for d in np.unique(documents)]
    means = [
        np.concatenate([members[i] for i in random.integers(0, len(members), len(members))]).mean()
        for _ in range(times)
    ]
    return np.array(means)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["memorized", "score"])
def test_replicates_vary_like_documents_drawn_one_by_one(seed: int, kind: str) -> None:
    values, documents = clustered(seed)
    if kind == "score":  # every sum is another one: documents are drawn instead of counts
        values = np.clip(values + np.random.default_rng(seed).random(len(values)) / 2, 0, 1)
    expected = drawn_one_by_one(values, documents)
    low, high = mean_interval(values, documents)
    spread = expected.std()
    # The 2.5th percentile of 1,000 draws has a standard error of 8.4 % of the spread, that of 4,000 half of it.
    assert abs(low - np.quantile(expected, 0.025)) < 0.35 * spread
    assert abs(high - np.quantile(expected, 0.975)) < 0.35 * spread
    sums, counts = np.bincount(documents, values), np.bincount(documents)
    drawn = replicates(np.stack([sums, counts], axis=1))
    ratios = drawn[:, 0] / drawn[:, 1]
    assert drawn.shape == (bootstrap.REPLICATES, 2)
    assert abs(ratios.mean() - expected.mean()) < 0.2 * spread
    assert ratios.std() == pytest.approx(spread, rel=0.1)


def test_both_ways_of_drawing_have_the_same_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    values, documents = clustered(5, documents=400)
    sums = np.stack([np.bincount(documents, values), np.bincount(documents)], axis=1)
    found = []
    for cost in (0, 10**9):  # always counts, always documents
        monkeypatch.setattr(bootstrap, "_COUNT_COST", cost)
        drawn = replicates(sums)
        found.append(drawn[:, 0] / drawn[:, 1])
    assert found[0].mean() == pytest.approx(found[1].mean(), abs=0.2 * found[1].std())
    assert found[0].std() == pytest.approx(found[1].std(), rel=0.1)
    assert found[0].tolist() != found[1].tolist()


@pytest.mark.parametrize("seed", range(3))
def test_the_farther_end_of_percentiles_and_wilsons_interval_counts(seed: int) -> None:
    values, documents = clustered(seed, documents=60)
    expected = drawn_one_by_one(values, documents)
    rate, spread, n = values.mean(), expected.std(), len(np.unique(documents))
    observations = rate * (1 - rate) / (spread**2 * n / (n - 1))
    z = 2.001  # Student's t with 59 degrees of freedom, from a table
    ends = np.sort(np.roots([1 + z * z / observations, -(2 * rate + z * z / observations), rate**2]).real)
    low = min(ends[0], np.quantile(expected, 0.025))
    high = max(ends[1], np.quantile(expected, 0.975))
    assert rate_interval(values, documents) == pytest.approx((low, high), abs=0.35 * spread)


def test_very_few_documents_are_not_a_large_sample() -> None:
    values = np.array([1, 1, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0], dtype=np.float64)
    documents = np.repeat(np.arange(4), 3)
    observations = values.mean() * (1 - values.mean()) / (drawn_one_by_one(values, documents).var() * 4 / 3)
    expected = wilson(values.mean(), observations, 3.182)  # Student's t with 3 degrees of freedom, from a table
    assert rate_interval(values, documents) == pytest.approx(expected, abs=0.02)


def test_wilson_matches_its_defining_equation() -> None:
    """Its ends are the roots p of (k/n - p)² = z² p (1 - p) / n."""
    for k, n in [(0, 1), (0, 50), (1, 1), (3, 7), (50, 50), (13, 2000), (10**9, 10**10)]:
        z2, share = 1.959963984540054**2, k / n
        roots = np.sort(np.roots([1 + z2 / n, -(2 * share + z2 / n), share**2]).real)
        assert wilson(share, n) == pytest.approx((max(roots[0], 0), min(roots[1], 1)), rel=1e-6, abs=1e-9)


def test_where_documents_agree_each_is_one_observation() -> None:
    documents = np.repeat(np.arange(12), 5)
    for rate in (0.0, 1.0):
        assert rate_interval(np.full(60, rate), documents) == pytest.approx(wilson(rate, 12))
    assert rate_interval(np.tile([1.0, 0, 0, 0, 0], 12), documents) == pytest.approx(wilson(0.2, 12))
    assert rate_interval(np.array([1.0, 0.0]), np.array([3, 3])) == pytest.approx(wilson(0.5, 1))
    assert mean_interval(np.full(60, 7.0), documents) is None
    assert rate_interval(np.empty(0), np.empty(0, np.int64)) is None


def test_few_documents_with_all_that_was_memorized_give_no_narrow_interval() -> None:
    values = np.zeros(2000)
    values[7] = 1
    low, high = rate_interval(values, np.arange(2000))
    assert low == 0
    assert high == pytest.approx(wilson(1 / 2000, 2000).high, rel=0.05)


def test_the_order_of_rows_and_the_names_of_documents_do_not_matter() -> None:
    values, documents = clustered(1)
    scores = np.clip(values + np.random.default_rng(0).random(len(values)) / 3, 0, 1)
    order = np.random.default_rng(2).permutation(len(values))
    tenths = np.random.default_rng(1).choice([0.1, 0.2, 0.3], len(values))  # 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1
    renamed = np.random.default_rng(3).permutation(1000)[documents]
    assert rate_interval(scores, documents) == rate_interval(scores[order], documents[order])
    assert rate_interval(tenths, documents) == rate_interval(tenths[order], renamed[order])
    assert rate_interval(values, documents) == rate_interval(values[order], renamed[order])


def test_intervals_by_document_hold_the_truth_and_intervals_by_sequence_do_not() -> None:
    random = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(400):
        documents = np.repeat(np.arange(150), random.geometric(0.2, 150))
        values = (random.random(len(documents)) < random.beta(0.3, 0.7, 150)[documents]).astype(np.float64)
        ends = rate_interval(values, documents), wilson(values.mean(), len(values))
        held += [low <= 0.3 <= high for low, high in ends]
    by_document, by_sequence = held / 400
    assert 0.92 < by_document < 0.985
    assert by_sequence < 0.75


def test_the_slope_varies_with_the_documents() -> None:
    random = np.random.default_rng(4)
    x = np.array([0.0, 1.0, 1.5, 3.0])
    documents = np.repeat(np.arange(50), random.geometric(0.2, 50))
    liking = random.beta(0.5, 1, 50)[documents]
    marks = np.stack([random.random(len(documents)) < liking * (0.3 + 0.2 * place) for place in x]).astype(float)
    members = [np.flatnonzero(documents == d) for d in range(50)]
    slopes = []
    for _ in range(2000):
        rows = np.concatenate([members[i] for i in random.integers(0, 50, 50)])
        slopes.append(np.polyfit(x, marks[:, rows].mean(axis=1), 1)[0])
    each = np.ones(len(documents), dtype=np.int64)
    found = slope_interval(
        np.concatenate([each * place for place in x]),
        np.concatenate([each * run for run in range(4)]),
        marks.reshape(-1),
        np.tile(documents, 4),
    )
    assert found == pytest.approx(np.quantile(slopes, [0.025, 0.975]).tolist(), abs=0.35 * np.std(slopes))
    assert slope_interval(x * 0, np.arange(4), np.ones(4), np.arange(4)) is None


def test_sql_gives_each_group_the_same_interval(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("SET threads = 2")
    values, documents = (np.concatenate(parts) for parts in zip(*map(clustered, range(30)), strict=True))
    group = np.concatenate([np.full(len(clustered(i)[0]), i) for i in range(30)])
    table = {"g": group, "memorized": values > 0, "document": documents}
    con.register("rows", pa.table(table))
    sql = """SELECT g, rate_interval(memorized, document), mean_interval(memorized::INTEGER, ('index', document)),
                    rate_interval(memorized, document).high
             FROM rows GROUP BY g ORDER BY g"""
    answer = con.execute(sql).fetchall()
    assert len(answer) == 30
    for g, ends, means, high in answer:
        chosen = group == g
        assert (ends["low"], ends["high"]) == rate_interval(values[chosen], documents[chosen])
        assert (means["low"], means["high"]) == mean_interval(values[chosen], documents[chosen])
        assert high == ends["high"]
    summed = con.execute(
        """SELECT ratio_interval(k, n), quotient_interval(-k, n)
           FROM (SELECT g, document, count_if(memorized) AS k, count(*) AS n FROM rows GROUP BY ALL)
           GROUP BY g ORDER BY g"""
    ).fetchall()
    assert [ratio for ratio, _ in summed] == [ends for _, ends, _, _ in answer]
    # The documents are drawn in the order of their sums, which the minus turns round.
    for (_, opposite), (_, _, means, _) in zip(summed, answer, strict=True):
        width = means["high"] - means["low"]
        assert (-opposite["high"], -opposite["low"]) == pytest.approx((means["low"], means["high"]), abs=0.2 * width)


def test_values_that_are_no_numbers_count_for_nothing(con: duckdb.DuckDBPyConnection) -> None:
    rows = "(VALUES (1, 1), (0, 2), ('nan'::DOUBLE, 3), ('inf'::DOUBLE, 4), ('-inf'::DOUBLE, 1)) AS t(value, document)"
    [(rate, mean)] = con.execute(
        f"SELECT rate_interval(value, document), mean_interval(value, document) FROM {rows}"
    ).fetchall()
    assert (rate["low"], rate["high"]) == rate_interval(np.array([1.0, 0.0]), np.array([1, 2]))
    assert (mean["low"], mean["high"]) == mean_interval(np.array([1.0, 0.0]), np.array([1, 2]))


def test_null_values_count_for_nothing(con: duckdb.DuckDBPyConnection) -> None:
    rows = "(VALUES (true, 1), (false, 2), (NULL, 3), (NULL, 4)) AS t(memorized, document)"
    [(some, none)] = con.execute(
        f"SELECT rate_interval(memorized, document), rate_interval(CASE WHEN document > 2 THEN memorized END, document)"
        f" FROM {rows}"
    ).fetchall()
    assert (some["low"], some["high"]) == rate_interval(np.array([1.0, 0.0]), np.array([1, 2]))
    assert none is None
    assert con.execute(f"SELECT rate_interval(memorized, document) FROM {rows} WHERE false").fetchall() == [(None,)]
    mixed = con.execute(
        f"SELECT document, rate_interval(memorized, document).low FROM {rows} GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert mixed == [(1, pytest.approx(wilson(1, 1).low)), (2, 0.0), (3, None), (4, None)]


@pytest.mark.parametrize("value", ["2", "-0.5"])
def test_what_is_no_rate_is_one_clear_line(con: duckdb.DuckDBPyConnection, value: str) -> None:
    with pytest.raises(duckdb.Error) as caught:
        con.execute(f"SELECT rate_interval({value}, 1)").fetchall()
    line = "rate_interval: a rate is of values between 0 and 1; for other numbers use mean_interval"
    assert line in str(readable(caught.value))
    assert "\n" not in str(readable(caught.value))


def test_restricted_connections_and_cursors_in_threads_have_the_aggregates(tmp_path: Path) -> None:
    con = connect(make_study(tmp_path, rows=400), restricted=True)
    sql = "SELECT run_id, rate_interval(memorized, cluster) FROM memorization GROUP BY ALL ORDER BY ALL"
    expected = con.execute(sql).fetchall()
    assert len(expected) == 5
    started = threading.Barrier(4)

    def ask(_: int) -> list[tuple]:
        cursor = con.cursor()
        started.wait(10)
        return cursor.execute(sql).fetchall()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [expected] * 4


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
