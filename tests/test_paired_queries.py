"""The paired comparisons and half doses against own code, and their error rates on made-up populations."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from families_study import make_families_study
from leave_one_out import _facts, rate_ends
from scipy.stats import t as student
from synthetic_study import model_row, run_row, sample, write_continuations

from memindex.errors import QueryError
from memindex.sql.connection import connect
from memindex.sql.queries import run_query
from memindex.sql.statistics import register
from memindex.tables.store import TableStore


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_families_study(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def con(study: Path) -> duckdb.DuckDBPyConnection:
    return connect(study)


@pytest.fixture(scope="module")
def joined(study: Path) -> pd.DataFrame:
    store = TableStore(study / "tables")
    tables = {name: store.read(name).to_pandas() for name in ("models", "runs", "sequences", "continuations")}
    rows = tables["continuations"].merge(tables["runs"][["run_id", "model_id", "control"]], on="run_id")
    rows = rows.merge(tables["models"].drop(columns="control", errors="ignore"), on="model_id")
    rows = rows.merge(tables["sequences"], on="sequence_id")
    rows = rows.merge(store.read("frequencies").to_pandas().drop(columns="index"), on="sequence_id")
    return rows[rows["control"].isna()]


def holm(p: np.ndarray) -> np.ndarray:
    """Step by step: the smallest p times m, the next times m - 1, never below the one before."""
    adjusted, before, left = np.full(len(p), np.nan), 0.0, int((~np.isnan(p)).sum())
    for place in np.argsort(p)[:left]:
        before = max(before, min(1.0, p[place] * left))
        adjusted[place] = before
        left -= 1
    return adjusted


def both_p(values: np.ndarray, clusters: np.ndarray, margin: float) -> tuple[float, float]:
    """p of a difference and of two one-sided tests; NaN where no two documents differ."""
    mean, variance, documents, carriers, sums, rows = _facts(values, clusters)
    if np.ptp(sums / rows) <= 1e-12:
        return np.nan, np.nan
    error, degrees = variance**0.5, max(min(documents, carriers) - 1, 1)
    above = student.sf((mean + margin) / error, degrees)
    below = student.cdf((mean - margin) / error, degrees)
    return 2 * student.sf(abs(mean) / error, degrees), max(above, below)


def check_tests(answer: pd.DataFrame, wanted: list[tuple[float, float]]) -> None:
    p, equal = np.array(wanted).T
    for name, values in (("p", p), ("equivalence_p", equal)):
        assert answer[name].to_numpy(float) == pytest.approx(values, rel=1e-6, abs=1e-12, nan_ok=True)
        assert answer[f"{name}_holm"].to_numpy(float) == pytest.approx(holm(values), rel=1e-6, abs=1e-12, nan_ok=True)
    verdicts = np.where(holm(p) <= 0.05, "differs", np.where(holm(equal) <= 0.05, "equivalent", "not known"))
    assert answer["verdict"].tolist() == verdicts.tolist()


@pytest.mark.parametrize(("pairs", "margin"), [("one size", 0.002), ("all", 0.3)])
def test_pairs_of_models(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame, pairs: str, margin: float) -> None:
    answer = run_query(con, "paired_rates", pairs=pairs, margin=margin).to_pandas()
    uniform = joined[joined["sample"] == "uniform"]
    marks = uniform.pivot(index="sequence_id", columns="model_id", values="memorized").astype(int)
    document = uniform.drop_duplicates("sequence_id").set_index("sequence_id")["document"].loc[marks.index].to_numpy()
    size = uniform.drop_duplicates("model_id").set_index("model_id")["non_embedding_parameters"]
    near = [
        {a, b}
        for i, a in enumerate(marks.columns)
        for b in marks.columns[i + 1 :]
        if pairs == "all" or max(size[a], size[b]) <= 1.1 * min(size[a], size[b])
    ]
    asked = [{row.first, row.second} for row in answer.itertuples()]
    assert sorted(map(sorted, asked)) == sorted(map(sorted, near))
    wanted = []
    for row in answer.itertuples():
        a, b = marks[row.first].to_numpy(), marks[row.second].to_numpy()
        assert size[row.first] <= size[row.second]
        assert row.sequences == len(a)
        counts = (row.only_first, row.only_second, row.memorized_both)
        assert counts == ((a > b).sum(), (b > a).sum(), (a & b).sum())
        assert (row.rate_first, row.rate_second) == pytest.approx((a.mean(), b.mean()))
        assert row.difference == pytest.approx((b - a).mean())
        assert (row.difference_low + row.difference_high) / 2 == pytest.approx(row.difference)
        assert (row.difference_high - row.difference_low) / 2 == pytest.approx(
            student.ppf(0.975, row.degrees) * row.error
        )
        wanted.append(both_p((b - a).astype(float), document, margin))
    check_tests(answer, wanted)
    assert {"differs", "not known"} <= set(answer["verdict"])
    if margin == 0.3:
        assert "equivalent" in set(answer["verdict"])


def test_a_margin_is_a_share(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryError, match="margin must be 0 to 1"):
        run_query(con, "paired_rates", margin=2.0)
    with pytest.raises(QueryError, match="pairs must be one size or all"):
        run_query(con, "paired_rates", pairs="some")


@pytest.mark.parametrize("margin", [0.5, 2.5])
def test_pairs_of_matched_sequences(
    con: duckdb.DuckDBPyConnection, study: Path, joined: pd.DataFrame, margin: float
) -> None:
    answer = run_query(con, "paired_depths", margin=margin).to_pandas()
    rows = TableStore(study / "tables").read("layer_decoding").to_pandas()
    rows = rows[rows["pair"].notna() & (rows["outcome"] != "half-memorized")]
    document = joined.drop_duplicates("sequence_id").set_index("sequence_id")["document"]
    depths: dict[tuple, dict] = {}
    for (run, _), part in rows.sort_values("layer").groupby(["run_id", "sequence_id"]):
        curves = np.stack(part["probability"]).astype(float)
        first = part.iloc[0]
        for kind in ("absolute", "relative"):
            for threshold in (0.1, 0.25, 0.5, 0.75, 0.9):
                passed = curves >= (threshold if kind == "absolute" else threshold * curves[-1])
                found = passed.argmax(axis=0)[passed.any(axis=0)]
                if len(found):
                    depth = found.mean() / first["layers"]
                    of_run = depths.setdefault((run.removesuffix("-run"), kind, threshold), {})
                    of_run.setdefault(int(first["pair"]), {})[first["outcome"]] = depth
    wanted = []
    for row in answer.itertuples():
        both = {pair: d for pair, d in depths[row.run_label, row.kind, row.threshold].items() if len(d) == 2}
        assert row.pairs == len(both)
        difference = np.array([d["memorized"] - d["unmemorized"] for d in both.values()])
        assert row.difference == pytest.approx(difference.mean())
        assert row.depth_memorized - row.depth_unmemorized == pytest.approx(difference.mean())
        assert row.margin == pytest.approx(margin / row.layers)
        wanted.append(both_p(difference, document[list(both)].to_numpy(), margin / row.layers))
    assert len(answer) == sum(any(len(d) == 2 for d in of_run.values()) for of_run in depths.values())
    check_tests(answer, wanted)


def crossing(copies: list[int], rates: list[float]) -> float:
    """Where a broken line over log2 copies first reaches one half; NaN outside."""
    for place, rate in enumerate(rates):
        if rate >= 0.5:
            if rate == 0.5:
                return float(copies[place])
            if place == 0:
                return np.nan
            part = slice(place - 1, place + 1)
            return float(2 ** np.interp(0.5, rates[part], np.log2(copies[part])))
    return np.nan


def test_half_doses_and_their_spread_over_seeds(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame) -> None:
    answer = run_query(con, "half_dose").to_pandas().set_index("run_label")
    planted = joined[(joined["sample"] == "planted") & (joined["sequence_count"] > 0)]
    assert set(answer.index) == set(planted["model_id"])
    doses = {}
    for model, part in planted.groupby("model_id"):
        row = answer.loc[model]
        curves = [
            (count, texts["memorized"].mean(), *rate_ends(texts["memorized"], texts["document"]))
            for count, texts in part.groupby("sequence_count")
        ]
        copies, rates, lows, highs = (list(column) for column in zip(*curves, strict=True))
        doses[model] = crossing(copies, rates)
        got = [row["copies"], row["copies_low"], row["copies_high"]]
        assert got == pytest.approx([doses[model], crossing(copies, highs), crossing(copies, lows)], nan_ok=True)
        outside = "above the most copies" if max(rates) < 0.5 else "below the fewest copies"
        assert row["reached"] == (outside if np.isnan(doses[model]) else "between")
    seeds = np.log2([doses["llama-4.7M"], doses["llama-4.7M-seed1"]])
    assert answer.loc["llama-4.7M", "seeds"] == 2
    assert answer.loc["llama-4.7M", "seeds_sd"] == pytest.approx(np.std(seeds, ddof=1))
    assert np.isnan(answer.loc["olmo-4.7M", "seeds_sd"])


def test_holm_with_ties_and_nulls() -> None:
    con = duckdb.connect()
    register(con)
    rng = np.random.default_rng(3)
    for size in (1, 2, 7, 40):
        p = np.round(rng.random(size) ** 3, 2)
        p[rng.random(size) < 0.2] = np.nan
        rows = pd.DataFrame({"place": np.arange(size), "p": p}).astype({"p": "Float64"})
        con.register("given", rows)
        found = con.execute(
            "SELECT holm(p, step) AS adjusted FROM (SELECT *, holm_step(p) AS step FROM given) ORDER BY place"
        ).df()["adjusted"]
        assert found.to_numpy(float) == pytest.approx(holm(p), nan_ok=True)


def test_models_that_agree_are_not_known(tmp_path: Path) -> None:
    study = made_up(tmp_path, np.zeros((2, 60), bool))
    [row] = run_query(connect(study), "paired_rates").to_pylist()
    assert row["difference"] == 0
    assert [row[name] for name in ("difference_low", "error", "p", "p_holm", "equivalence_p_holm")] == [None] * 5
    assert row["verdict"] == "not known"


def made_up(folder: Path, memorized: np.ndarray) -> Path:
    """A study of as many models of one size as rows, with documents of six sequences."""
    study = folder / "study"
    store = TableStore(study / "tables")
    study.mkdir()
    (study / "study.toml").write_text('index = "nowhere"\n', encoding="utf-8")
    rng = np.random.default_rng(1)
    sequences, _ = sample(rng, memorized.shape[1])
    sequences["document"] = np.arange(memorized.shape[1]) // 6
    store.write("sequences", "all", sequences)
    for place, marks in enumerate(memorized):
        name = f"model{place}"
        store.write("models", name, model_row(name, "llama", 1000))
        store.write("runs", name, run_row(name, name, len(marks), place))
        write_continuations(store, rng, name, sequences, np.where(marks, 50.0, -50.0))
    return study


@pytest.mark.parametrize(("apart", "wrong"), [(0.0, "p"), (0.08, "e")])
def test_a_wrong_verdict_in_a_family_is_rare(tmp_path: Path, apart: float, wrong: str) -> None:
    """Models of equal rates rarely differ, and models that are a margin apart are rarely equivalent."""
    rng = np.random.default_rng(17)
    families, documents, models = 300, 240, 4
    con = duckdb.connect()
    register(con)
    found = unadjusted = 0
    # A document is as hard for all models, and each model finds its texts alike.
    of_document = rng.normal(0, 1, (families, 1, documents, 1)) + rng.normal(0, 1, (families, models, documents, 1))
    drawn = of_document + rng.normal(0, 1, (families, models, documents, 6))
    rates = 0.2 + apart * np.arange(models)
    known = drawn < np.quantile(drawn, rates)[None, :, None, None]
    rows = []
    for a in range(models):
        for b in range(a + 1, models):
            difference = known[:, b].astype(int) - known[:, a].astype(int)
            rows.append(
                pd.DataFrame(
                    {
                        "family": np.repeat(np.arange(families), documents),
                        "pair": f"{a}{b}",
                        "k": difference.sum(axis=2).ravel(),
                        "n": 6,
                    }
                )
            )
    con.register("given", pd.concat(rows))
    tests = con.execute(
        "SELECT *, two_sided_p(d / ends.error, ends.degrees) AS p,"
        " equivalence_p(d, ends.error, ends.degrees, 0.08) AS e"
        " FROM (SELECT family, pair, sum(k) / sum(n) AS d, quotient_interval(k, n) AS ends FROM given GROUP BY ALL)"
        " ORDER BY family, pair"
    ).df()
    for _, family in tests.groupby("family"):
        unadjusted += (family[wrong] <= 0.05).any()
        found += (holm(family[wrong].to_numpy(float)) <= 0.05).any()
    # 5 % of 300 are 15; the binomial's 99.9 % point is 28.
    assert found <= 28 < unadjusted
