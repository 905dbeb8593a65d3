"""Intervals by document, against leaving documents out one by one, against resampling, and against the truth."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from synthetic_study import make_study

from memindex.sql import statistics
from memindex.sql.connection import connect
from memindex.sql.functions import readable
from memindex.sql.intervals import (
    Interval,
    enrichment_interval,
    mean_interval,
    median_interval,
    quotient_interval,
    rate_interval,
    ratio_interval,
    slope_interval,
    wilson,
)

#: The 97.5 % points of Student's t, from a printed table.
T_TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 7: 2.365, 10: 2.228, 30: 2.042, 59: 2.001, 120: 1.980}


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


def left_out(values: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """The mean of the sequences without each document in turn."""
    return np.array([values[documents != d].mean() for d in np.unique(documents)])


def jackknife(values: np.ndarray, documents: np.ndarray) -> float:
    """The jackknife's variance of the mean, around the mean of all sequences."""
    without = left_out(values, documents)
    return float((len(without) - 1) / len(without) * ((without - values.mean()) ** 2).sum())


def effective(documents: np.ndarray) -> float:
    """Kish's effective number of documents."""
    lengths = np.unique(documents, return_counts=True)[1].astype(float)
    return float(lengths.sum() ** 2 / (lengths**2).sum())


def t_point(degrees: float) -> float:
    """The 97.5 % point of Student's t, by integrating its density."""
    grid = np.linspace(0, 60, 600_001)
    density = (1 + grid**2 / degrees) ** (-(degrees + 1) / 2)
    mass = np.cumsum(density) - density / 2
    # Beyond the grid the density falls as a power.
    beyond = density[-1] * 60 / degrees / (grid[1] - grid[0])
    return float(grid[np.searchsorted(mass, 0.95 * (mass[-1] + beyond))])


@pytest.mark.parametrize("seed", range(4))
def test_a_mean_has_the_jackknifes_error_and_students_t(seed: int) -> None:
    values, documents = clustered(seed, documents=12)
    values = values + np.random.default_rng(seed).normal(size=len(values))
    mean, error = values.mean(), jackknife(values, documents) ** 0.5
    lengths = np.bincount(documents)
    residuals = np.bincount(documents, values) - mean * lengths
    carriers = (residuals**2).sum() ** 2 / (residuals**4).sum()
    degrees = min(carriers, effective(documents)) - 1
    half = t_point(degrees) * error
    found = mean_interval(values, documents)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), rel=1e-3)
    assert found.error == pytest.approx(error)
    assert found.documents == pytest.approx(effective(documents))


@pytest.mark.parametrize("seed", range(4))
def test_a_rate_has_wilsons_interval_over_its_effective_observations(seed: int) -> None:
    values, documents = clustered(seed, documents=60)
    rate, variance, kish = values.mean(), jackknife(values, documents), effective(documents)
    each = [values[documents == d] for d in range(60)]
    events = min(sum(v.any() for v in each), sum(not v.all() for v in each))
    measured = variance / (rate * (1 - rate))
    observations = 1 / ((events * measured + 4 * max(measured, 1 / kish)) / (events + 4))
    lengths = np.bincount(documents)
    residuals = np.bincount(documents, values) - rate * lengths
    carriers = (residuals**2).sum() ** 2 / (residuals**4).sum()
    # Equally many documents with one event each among as many documents.
    single = np.where(np.arange(60) < events, 1.0, 0.0) - events / 60
    likeness = min(carriers / ((single**2).sum() ** 2 / (single**4).sum()), 1) ** 2
    degrees = 1 / (likeness / (kish - 1) + (1 - likeness) / max(min(carriers, kish) - 1, 2))
    z = t_point(degrees)
    # The ends are the roots p of (rate - p)^2 = z^2 p (1 - p) / observations.
    ends = np.sort(np.roots([1 + z * z / observations, -(2 * rate + z * z / observations), rate**2]).real)
    found = rate_interval(values, documents)
    assert (found.low, found.high) == pytest.approx(ends.tolist(), rel=1e-3, abs=1e-6)


def test_the_error_is_that_of_documents_drawn_again() -> None:
    values, documents = clustered(3, documents=150)
    random = np.random.default_rng(0)
    members = [np.flatnonzero(documents == d) for d in range(150)]
    drawn = [values[np.concatenate([members[i] for i in random.integers(0, 150, 150)])].mean() for _ in range(2000)]
    assert rate_interval(values, documents).error == pytest.approx(np.std(drawn), rel=0.1)


def test_wilson_matches_its_defining_equation() -> None:
    """Its ends are the roots p of (k/n - p)² = z² p (1 - p) / n."""
    z = 1.959963984540054
    for k, n in [(0, 1), (0, 50), (1, 1), (3, 7), (50, 50), (13, 2000), (10**9, 10**10)]:
        share = k / n
        roots = np.sort(np.roots([1 + z * z / n, -(2 * share + z * z / n), share**2]).real)
        assert wilson(share, n, z) == pytest.approx((max(roots[0], 0), min(roots[1], 1)), rel=1e-6, abs=1e-9)


def test_a_single_document_has_no_interval_but_a_number_of_documents() -> None:
    one = np.array([3, 3, 3])
    for found in (
        rate_interval(np.array([1.0, 0.0, 1.0]), one),
        mean_interval(np.array([1.0, 5.0, 1.0]), one),
        median_interval(np.array([1.0, 5.0, 1.0]), one),
    ):
        assert found == Interval(None, None, 1.0)
    assert rate_interval(np.empty(0), np.empty(0, np.int64)) is None
    assert median_interval(np.empty(0), np.empty(0, np.int64)) is None


def test_where_nothing_is_memorized_each_document_is_one_observation() -> None:
    documents = np.repeat(np.arange(11), 5)
    for rate in (0.0, 1.0):
        found = rate_interval(np.full(55, rate), documents)
        assert (found.low, found.high) == pytest.approx(wilson(rate, 11, T_TABLE[10]), rel=1e-3)
    # One long document beside ten short ones is hardly more than one observation.
    uneven = np.concatenate([np.repeat(0, 1000), np.arange(1, 11)])
    assert rate_interval(np.zeros(1010), uneven).high > 0.9
    assert mean_interval(np.full(55, 7.0), documents) == Interval(None, None, pytest.approx(11))


def test_few_documents_with_all_that_was_memorized_give_no_narrow_interval() -> None:
    values = np.zeros(2000)
    values[7] = 1
    found = rate_interval(values, np.arange(2000))
    # Of 2,000 independent draws with one event, the exact (Clopper-Pearson) interval.
    assert found.low == pytest.approx(0.0000127, abs=1e-4)
    assert found.high == pytest.approx(0.00278, rel=0.1)


def test_a_document_that_holds_most_sequences_widens_the_interval() -> None:
    even = rate_interval(np.tile([1.0, 0.0], 200), np.repeat(np.arange(40), 10))
    uneven = rate_interval(np.tile([1.0, 0.0], 200), np.concatenate([np.repeat(0, 361), np.arange(1, 40)]))
    assert even.documents == pytest.approx(40)
    assert uneven.documents < 1.3
    assert uneven.high - uneven.low > 4 * (even.high - even.low)


def test_the_order_of_rows_and_the_names_of_documents_do_not_matter() -> None:
    values, documents = clustered(1)
    scores = np.clip(values + np.random.default_rng(0).random(len(values)) / 3, 0, 1)
    order = np.random.default_rng(2).permutation(len(values))
    tenths = np.random.default_rng(1).choice([0.1, 0.2, 0.3], len(values))  # 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1
    renamed = np.random.default_rng(3).permutation(1000)[documents]
    for make in (rate_interval, mean_interval, median_interval):
        assert make(scores, documents) == make(scores[order], documents[order])
        assert make(tenths, documents) == make(tenths[order], renamed[order])
        assert make(values, documents) == make(values[order], renamed[order])


COVERED = [
    ("even documents", lambda random: np.full(40, 6), 0.3),
    ("few and uneven documents", lambda random: np.ceil(random.lognormal(1.5, 1.5, 20)).astype(int), 0.3),
    ("rare", lambda random: random.geometric(0.25, 100), 0.03),
]


@pytest.mark.parametrize(("lengths", "rate"), [case[1:] for case in COVERED], ids=[case[0] for case in COVERED])
def test_intervals_of_rates_hold_the_truth(lengths, rate: float) -> None:
    random = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(400):
        n = lengths(random)
        k = random.binomial(n, random.beta(rate, 1 - rate, len(n)))
        found = ratio_interval(k.astype(float), n.astype(float))
        naive = wilson(k.sum() / n.sum(), n.sum(), 1.96)
        held += [found.low <= rate <= found.high, naive[0] <= rate <= naive[1]]
    by_document, by_sequence = held / 400
    assert by_document >= 0.93
    assert by_sequence < 0.85


def test_the_median_has_woodruffs_interval() -> None:
    random = np.random.default_rng(5)
    documents = np.repeat(np.arange(30), random.integers(1, 9, 30))
    values = np.rint(3 * (random.normal(size=30)[documents] + random.normal(size=len(documents))))
    median = np.median(values)
    below = rate_interval((values <= median).astype(float), documents)
    share = (values <= median).mean()
    ordered = np.sort(values)
    # The smallest value that at least that share of the values does not exceed.
    ends = [
        next(v for v in ordered if (ordered <= v).mean() >= end - 1e-12)
        for end in (0.5 + below.low - share, 0.5 + below.high - share)
    ]
    found = median_interval(values, documents)
    assert [found.low, found.high] == ends
    assert found.low <= median <= found.high


def test_the_slope_varies_with_the_documents() -> None:
    random = np.random.default_rng(4)
    x = np.array([0.0, 1.0, 1.5, 3.0])
    documents = np.repeat(np.arange(50), random.geometric(0.2, 50))
    liking = random.beta(0.5, 1, 50)[documents]
    marks = np.stack([random.random(len(documents)) < liking * (0.3 + 0.2 * place) for place in x]).astype(float)

    def slope(rows: np.ndarray) -> float:
        return float(np.polyfit(x, marks[:, rows].mean(axis=1), 1)[0])

    everything = np.arange(len(documents))
    without = np.array([slope(everything[documents != d]) for d in range(50)])
    error = float(49 / 50 * ((without - slope(everything)) ** 2).sum()) ** 0.5
    each = np.ones(len(documents), dtype=np.int64)
    rows = (
        np.concatenate([each * place for place in x]),
        np.concatenate([each * run for run in range(4)]),
        marks.reshape(-1),
        np.tile(documents, 4),
    )
    found = slope_interval(*rows)
    assert found.error == pytest.approx(error)
    half = t_point(found.degrees) * error
    assert (found.low, found.high) == pytest.approx((slope(everything) - half, slope(everything) + half), rel=1e-3)
    order = np.random.default_rng(1).permutation(len(rows[0]))
    assert slope_interval(rows[0][order], 9 - rows[1][order], rows[2][order], 99 - rows[3][order]) == found
    assert slope_interval(x * 0, np.arange(4), np.ones(4), np.arange(4)) is None
    assert slope_interval(x, np.arange(4), np.ones(4), np.arange(4) * 0) is None


def test_the_enrichment_varies_with_the_documents() -> None:
    random = np.random.default_rng(6)
    n = random.geometric(0.2, 120).astype(float)
    here = np.arange(120) < 40
    k = random.binomial(n.astype(int), np.where(here, 0.4, 0.2)).astype(float)

    def enrichment(chosen: np.ndarray) -> float:
        inside = here[chosen]
        memorized, sampled = k[chosen], n[chosen]
        return (memorized[inside].sum() / memorized.sum()) / (sampled[inside].sum() / sampled.sum())

    drawn = np.array([enrichment(random.integers(0, 120, 120)) for _ in range(4000)])
    found = enrichment_interval(k * here, k, n * here, n, np.ones(len(n)))
    assert found.error == pytest.approx(np.log(drawn).std(), rel=0.1)
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, (0.025, 0.975)).tolist(), rel=0.1)
    assert found.low * found.high == pytest.approx(enrichment(np.arange(120)) ** 2)
    nothing = enrichment_interval(k * 0, k, n * here, n, np.ones(len(n)))
    assert nothing.low == 0 < nothing.high < found.high
    assert enrichment_interval(k * here, k * 0, n * here, n, np.ones(len(n))) is None
    assert enrichment_interval(k * 0, k, n * 0, n, np.ones(len(n))) is None


def test_sql_gives_each_group_the_same_interval(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("SET threads = 2")
    values, documents = (np.concatenate(parts) for parts in zip(*map(clustered, range(30)), strict=True))
    group = np.concatenate([np.full(len(clustered(i)[0]), i) for i in range(30)])
    con.register("rows", pa.table({"g": group, "memorized": values > 0, "document": documents}))
    sql = """SELECT g, rate_interval(memorized, document), mean_interval(memorized::INTEGER, ('index', document)),
                    median_interval(document + memorized::INTEGER, document), rate_interval(memorized, document).high
             FROM rows GROUP BY g ORDER BY g"""
    answer = con.execute(sql).fetchall()
    assert len(answer) == 30
    for g, ends, means, medians, high in answer:
        chosen = group == g
        assert Interval(**ends) == rate_interval(values[chosen], documents[chosen])
        assert Interval(**means) == mean_interval(values[chosen], documents[chosen])
        assert Interval(**medians) == median_interval((documents + values)[chosen], documents[chosen])
        assert high == ends["high"]
    summed = con.execute(
        """SELECT ratio_interval(k, n), quotient_interval(-k, n)
           FROM (SELECT g, document, count_if(memorized) AS k, count(*) AS n FROM rows GROUP BY ALL)
           GROUP BY g ORDER BY g"""
    ).fetchall()
    assert [ratio for ratio, _ in summed] == [ends for _, ends, *_ in answer]
    for (_, opposite), (_, _, means, *_) in zip(summed, answer, strict=True):
        assert (-opposite["high"], -opposite["low"]) == pytest.approx((means["low"], means["high"]))


def test_points_of_students_t(con: duckdb.DuckDBPyConnection) -> None:
    for degrees, point in T_TABLE.items():
        [(found, p, none)] = con.execute(
            "SELECT t975($1), two_sided_p($2, $1), t975(NULL)", [degrees, -point]
        ).fetchall()
        assert found == pytest.approx(point, abs=6e-4)
        assert p == pytest.approx(0.05, rel=2e-3)
        assert none is None


def test_few_documents_are_reported(con: duckdb.DuckDBPyConnection) -> None:
    rows = "(SELECT i % 2 AS memorized, i AS document FROM range($n) AS t(i))"
    sql = f"SELECT few_documents(rate_interval(memorized, document)) FROM {rows}"
    assert [con.execute(sql, {"n": n}).fetchall()[0][0] for n in (1, 7, 8, 100)] == [True, True, False, False]


def test_values_that_are_no_numbers_count_for_nothing(con: duckdb.DuckDBPyConnection) -> None:
    rows = "(VALUES (1, 1), (0, 2), ('nan'::DOUBLE, 3), ('inf'::DOUBLE, 4), ('-inf'::DOUBLE, 1)) AS t(value, document)"
    [(rate, mean)] = con.execute(
        f"SELECT rate_interval(value, document), mean_interval(value, document) FROM {rows}"
    ).fetchall()
    assert Interval(**rate) == rate_interval(np.array([1.0, 0.0]), np.array([1, 2]))
    assert Interval(**mean) == mean_interval(np.array([1.0, 0.0]), np.array([1, 2]))


def test_null_values_count_for_nothing(con: duckdb.DuckDBPyConnection) -> None:
    rows = "(VALUES (true, 1), (false, 2), (NULL, 3), (NULL, 4)) AS t(memorized, document)"
    [(some, none)] = con.execute(
        f"SELECT rate_interval(memorized, document), rate_interval(CASE WHEN document > 2 THEN memorized END, document)"
        f" FROM {rows}"
    ).fetchall()
    assert Interval(**some) == rate_interval(np.array([1.0, 0.0]), np.array([1, 2]))
    assert none is None
    assert con.execute(f"SELECT rate_interval(memorized, document) FROM {rows} WHERE false").fetchall() == [(None,)]
    mixed = con.execute(
        f"SELECT document, rate_interval(memorized, document).documents FROM {rows} GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert mixed == [(1, 1.0), (2, 1.0), (3, None), (4, None)]


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

    def query(_: int) -> list[tuple]:
        cursor = con.cursor()
        started.wait(10)
        return cursor.execute(sql).fetchall()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(query, range(4))) == [expected] * 4


def test_quotients_of_any_number(con: duckdb.DuckDBPyConnection) -> None:
    numerators, denominators = np.array([3.0, -5.0, 8.0, 0.0]), np.array([2.0, 4.0, 1.0, 0.0])
    without = [(3 - 5) / 6, (3 + 8) / 3, (-5 + 8) / 5]
    error = (2 / 3 * sum((w - 6 / 7) ** 2 for w in without)) ** 0.5
    assert quotient_interval(numerators, denominators).error == pytest.approx(error)


def test_an_enrichment_that_one_document_decides_has_no_ends() -> None:
    here, anywhere = np.array([1.0, 1.0, 0.0]), np.array([1.0, 1.0, 50.0])
    sampled_here, sampled = np.array([1_000_000.0, 5.0, 0.0]), np.array([1_000_000.0, 5.0, 5.0])
    found = enrichment_interval(here, anywhere, sampled_here, sampled, np.ones(3))
    assert found is not None
    # The document holds all but ten of a million sequences: without it, the logarithm could be anything.
    assert (found.low, found.high) == (None, None)
    assert found.documents < 2
