"""Queries of probes on made-up populations: what noise does to a model, and how alike the heads of domains can be."""

from __future__ import annotations

from collections import defaultdict

import duckdb
import numpy as np
import pandas as pd
import pytest
from leave_one_out import mean_ends
from scipy.stats import t as student

from memindex.sql import statistics
from memindex.sql.queries import run_query

LAYERS, HEADS, TOKENS = 4, 8, 32


def connection(**tables: pd.DataFrame) -> duckdb.DuckDBPyConnection:
    """A plain connection with these tables, and the statistics that queries are written with."""
    con = duckdb.connect()
    statistics.register(con)
    for name, table in tables.items():
        con.register(f"{name}_rows", table)
        con.execute(f"CREATE TABLE {name} AS FROM {name}_rows")
    return con


def probes(runs: list[str], probe: str) -> pd.DataFrame:
    return pd.DataFrame({"run_id": runs, "probe": probe, "sample": "uniform"})


def memorization(rows: pd.DataFrame) -> pd.DataFrame:
    known = rows[["run_id", "sequence_id", "cluster", "domain"]].drop_duplicates(["run_id", "sequence_id"])
    return known.assign(run_label=known["run_id"], non_embedding_parameters=1)


@pytest.fixture(scope="module")
def noise() -> pd.DataFrame:
    """Two models, one whose layers amplify noise; documents share what happens to their sequences."""
    rng = np.random.default_rng(0)
    rows = []
    for run, end in (("amplifies", -0.06), ("removes", 0.08)):
        shift = rng.normal(0, 0.01, 12)
        for sequence in range(90):
            document, outcome = int(rng.integers(12)), ("memorized", "half-memorized", "unmemorized")[sequence % 3]
            for draw in range(2):
                first = 0.894 + rng.normal(0, 0.002)
                last = first + end * (1 + sequence % 3) / 2 + shift[document] + rng.normal(0, 0.003)
                curve = [first, first - 0.2, first - 0.15, last]
                facts = {"run_id": run, "sequence_id": sequence, "outcome": outcome, "drawn": True, "pair": None}
                rows.append(facts | {"alpha": 0.5, "draw": draw, "similarity": curve, "cluster": document})
    return pd.DataFrame(rows).assign(domain="text", pair=pd.array([None] * len(rows), "Int64"))


def difference_ends(a: pd.DataFrame, b: pd.DataFrame) -> tuple[float, float]:
    """Ends of the interval of the difference of two means whose sequences come from the same documents."""
    documents = sorted(set(a["cluster"]) | set(b["cluster"]))
    influence, sizes = np.zeros(len(documents)), np.zeros(len(documents))
    for sign, part in ((1, a), (-1, b)):
        residuals = part["change"] - part["change"].mean()
        for place, document in enumerate(documents):
            own = (part["cluster"] == document).to_numpy()
            influence[place] += sign * residuals[own].sum() / len(part)
            sizes[place] += own.sum()
    left = influence / (1 - sizes / sizes.sum())
    variance = (len(documents) - 1) / len(documents) * (left**2).sum()
    even = sizes.sum() ** 2 / (sizes**2).sum()
    carriers = (influence**2).sum() ** 2 / (influence**4).sum()
    half = student.ppf(0.975, max(min(even, carriers) - 1, 1)) * variance**0.5
    middle = a["change"].mean() - b["change"].mean()
    return middle - half, middle + half


def test_the_change_under_noise_has_a_sign(noise: pd.DataFrame) -> None:
    columns = ["run_id", "sequence_id", "outcome", "alpha", "draw", "drawn", "pair", "similarity"]
    con = connection(
        noise=noise[columns], probes=probes(["amplifies", "removes"], "noise"), memorization=memorization(noise)
    )
    answer = run_query(con, "noise_recovery").to_pandas().set_index(["run_label", "outcome"])
    curves = np.stack(noise["similarity"])
    of_draw = noise.assign(
        change=curves[:, -1] - curves[:, 0],
        lowest=curves.min(axis=1),
        first=curves[:, 0],
        last=curves[:, -1],
        recovery=[max(curve[int(np.argmin(curve)) :]) - min(curve) for curve in curves],
    )
    names = ["change", "lowest", "first", "last", "recovery"]
    means = of_draw.groupby(["run_id", "outcome", "sequence_id", "cluster"], as_index=False)[names].mean()
    groups = dict(iter(means.groupby(["run_id", "outcome"])))
    assert len(answer) == len(groups) == 6
    for (run, outcome), part in groups.items():
        row, others = answer.loc[(run, outcome)], groups[run, "unmemorized"]
        assert row["sequences"] == len(part) == 30
        assert row["sample"] == "uniform"
        for name in names:
            assert row[name] == pytest.approx(part[name].mean())
        for name in ("change", "recovery"):
            ends = mean_ends(part[name].to_numpy(), part["cluster"].to_numpy())
            assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(ends)
        if outcome == "unmemorized":
            assert row[["difference", "difference_low", "deficit", "recovery_deficit"]].isna().all()
            continue
        assert row["difference"] == pytest.approx(part["change"].mean() - others["change"].mean())
        assert (row["difference_low"], row["difference_high"]) == pytest.approx(difference_ends(part, others))
        assert row["recovery_deficit"] == pytest.approx(1 - part["recovery"].mean() / others["recovery"].mean())
        if run == "amplifies":
            assert pd.isna(row["deficit"])
        else:
            assert row["deficit"] == pytest.approx(1 - part["change"].mean() / others["change"].mean())
    # The peak says nothing of layers that amplify noise after it.
    assert (answer["recovery"] > 0.01).all()
    assert (answer.loc["amplifies", "change_high"] < 0).all()
    assert (answer.loc["removes", "change_low"] > 0).all()


def heads_of(run: str, rng: np.random.Generator, domains: int, spread: float) -> pd.DataFrame:
    """A model whose heads matter as much in every domain, and differ by `spread` from document to document."""
    needed = np.clip(rng.normal(0.1, 0.02, (LAYERS, HEADS)), 0.02, 1)
    rows = []
    for domain in range(domains):
        for document, size in enumerate([*rng.integers(1, 4, 8 + 8 * domain), 9]):
            own = np.clip(needed + rng.normal(0, 1, needed.shape) * spread, 0, 1)
            facts = {"run_id": run, "domain": f"{domain}", "cluster": 100 * domain + document}
            for right in TOKENS - rng.binomial(TOKENS, own, (size, LAYERS, HEADS)):
                rows.append(facts | {"sequence_id": len(rows), "right": right.tolist()})
    return pd.DataFrame(rows)


def by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table head_importance."""
    parts = [
        rows[["run_id", "sequence_id"]].assign(layer=layer + 1, right=[right[layer] for right in rows["right"]])
        for layer in range(LAYERS)
    ]
    return pd.concat(parts).assign(continuation_length=TOKENS, layers=LAYERS)


Models = tuple[duckdb.DuckDBPyConnection, pd.DataFrame]


def models(spread: float) -> Models:
    """Many models, the domains of each alike."""
    rng = np.random.default_rng(1)
    rows = pd.concat([heads_of(f"model {n:02}", rng, 3, spread) for n in range(40)], ignore_index=True)
    # A document that two domains have sequences of, more of them in the first.
    rows.loc[(rows["cluster"] == 100) & (rows["sequence_id"] % 3 == 0), "cluster"] = 8
    runs = sorted(set(rows["run_id"]))
    return connection(
        head_importance=by_layer(rows), probes=probes(runs, "head_importance"), memorization=memorization(rows)
    ), rows


@pytest.fixture(scope="module")
def alike() -> Models:
    return models(0.0)


@pytest.fixture(scope="module")
def varied() -> Models:
    return models(0.12)


def halves_of(rows: pd.DataFrame, order: dict[int, int]) -> dict[int, int]:
    """The half of each document, dealt by hand in the domain that has most of its sequences."""
    counts = rows.groupby(["cluster", "domain"]).size().reset_index(name="n")
    counts = counts.sort_values(["n", "domain"], ascending=[False, True])
    home, total = counts.groupby("cluster")["domain"].first(), counts.groupby("cluster")["n"].sum()
    half = {}
    for _, own in home.groupby(home):
        sums = [0, 0]
        for cluster in sorted(own.index, key=lambda cluster: (-total[cluster], order[cluster])):
            half[cluster] = int(sums[0] > sums[1])
            sums[half[cluster]] += total[cluster]
    return half


def top(rows: pd.DataFrame, chosen: int) -> tuple[set[int], set[int]]:
    """The important heads that are sure, and those that may be, where equally important ones are at the edge."""
    importance = (1 - np.stack(rows["right"].map(np.array)) / TOKENS).mean(axis=0).ravel()
    edge = np.sort(importance)[-chosen]
    sure = set(np.flatnonzero(importance > edge + 1e-12).tolist())
    return sure, set(np.flatnonzero(importance >= edge - 1e-12).tolist())


def test_halves_are_of_whole_documents_and_equal_size(varied: Models) -> None:
    con, rows = varied
    answer = run_query(con, "head_overlap", least=8).to_pandas()
    order = dict(con.execute("SELECT DISTINCT cluster, hash(cluster) FROM memorization").fetchall())
    places = dict(con.execute("SELECT DISTINCT sequence_id, hash(sequence_id) FROM memorization").fetchall())
    chosen = round(0.2 * LAYERS * HEADS)
    for run, own in rows.groupby("run_id"):
        half = halves_of(own, order)
        parts = defaultdict(list)
        for row in own.itertuples():
            parts[row.domain, half[row.cluster]].append(row.sequence_id)
        smaller = {name: min(len(parts[name, 0]), len(parts[name, 1])) for name in ("0", "1", "2")}
        compared = [name for name, size in smaller.items() if size >= 4]
        size = min(smaller[name] for name in compared)
        tops = {
            (name, n): top(own[own["sequence_id"].isin(sorted(parts[name, n], key=places.__getitem__)[:size])], chosen)
            for name in compared
            for n in (0, 1)
        }
        of_run = answer[answer["run_label"] == run]
        assert len(of_run) == len(compared) ** 2
        assert set(of_run["sequences_a"]) == set(of_run["sequences_b"]) == {size}
        for row in of_run.itertuples():
            pairs = [(tops[row.domain_a, n], tops[row.domain_b, 1 - n]) for n in ((0,) if row.split_half else (0, 1))]
            least = [len(a[0] & b[0]) for a, b in pairs]
            most = [len(a[1] & b[1]) for a, b in pairs]
            assert min(least) <= row.shared <= min(most)
            means = [np.mean([n / (2 * chosen - n) for n in counts]) for counts in (least, most)]
            assert means[0] - 1e-9 <= row.jaccard <= means[1] + 1e-9
        cells = of_run.set_index(["domain_a", "domain_b"])["jaccard"]
        assert all(cells[a, b] == pytest.approx(cells[b, a]) for a, b in cells.index)


def of_random_halves(rows: pd.DataFrame, rng: np.random.Generator) -> float:
    """How much more two whole domains share than halves of one that are split by sequence: the earlier ceiling."""
    chosen = round(0.2 * LAYERS * HEADS)
    side = rng.random(len(rows)) < 0.5
    domains = [rows["domain"] == name for name in sorted(set(rows["domain"]))]

    def alike(a: pd.Series, b: pd.Series) -> float:
        sets = [top(rows[which], chosen)[0] for which in (a, b)]
        return len(sets[0] & sets[1]) / len(sets[0] | sets[1])

    across = [alike(a, b) for n, a in enumerate(domains) for b in domains[:n]]
    return float(np.mean(across) - np.mean([alike(domain & side, domain & ~side) for domain in domains]))


@pytest.mark.parametrize(("population", "sign"), [("alike", 1), ("varied", -1)])
def test_domains_that_are_alike_reach_the_ceiling_and_not_more(
    population: str, sign: int, request: pytest.FixtureRequest
) -> None:
    con, rows = request.getfixturevalue(population)
    answer = run_query(con, "head_overlap", least=8).to_pandas()
    of_run = answer.groupby(["run_label", "split_half"])["jaccard"].mean().unstack()
    gap = of_run[False] - of_run[True]
    assert len(gap) == 40
    assert abs(gap.mean()) < 3 * gap.std() / len(gap) ** 0.5
    # Halves of half the size, split by sequence: too low a ceiling, or too high where documents differ.
    rng = np.random.default_rng(2)
    before = [of_random_halves(own, rng) for _, own in rows.groupby("run_id")]
    assert sign * np.mean(before) > 3 * np.std(before) / len(before) ** 0.5


def test_a_domain_of_one_document_is_not_compared() -> None:
    rng = np.random.default_rng(3)
    rows = heads_of("one", rng, 2, 0.1)
    rows.loc[rows["domain"] == "1", "cluster"] = 999
    con = connection(
        head_importance=by_layer(rows), probes=probes(["one"], "head_importance"), memorization=memorization(rows)
    )
    answer = run_query(con, "head_overlap", least=0)
    assert answer["domain_a"].to_pylist() == answer["domain_b"].to_pylist() == ["0"]
