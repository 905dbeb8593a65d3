"""The tests, corrections and fits behind docs/study.md, against SciPy and pandas on the exported answers."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, linregress, t

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "studies" / "families"
RESULTS = STUDY / "results"
SIZES = ["0.8M", "4.7M", "25M", "85M"]
ARCHITECTURES = ["gpt_neox", "llama", "gpt_bigcode", "olmo", "olmo2", "olmo3"]
GRID = [f"{architecture}-{size}" for size in SIZES for architecture in ARCHITECTURES]
LAYERS = {"0.8M": 4, "4.7M": 6, "25M": 8, "85M": 12}


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    spec = importlib.util.spec_from_file_location("study_page", ROOT / "docs" / "study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.connect(RESULTS)


def answer(con: duckdb.DuckDBPyConnection, name: str) -> list[dict]:
    """The rows of studies/families/NAME.sql."""
    found = con.execute((STUDY / f"{name}.sql").read_text(encoding="utf-8"))
    columns = [column[0] for column in found.description]
    return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


def exported(name: str) -> pd.DataFrame:
    return pd.read_parquet(RESULTS / f"{name}.parquet")


def of_grid(name: str) -> pd.DataFrame:
    """The rows of the finished first trainings, with their sizes."""
    rows = exported(name)
    rows = rows[rows.run_label.isin(GRID)].copy()
    rows["size"] = rows.run_label.str.rsplit("-", n=1).str[1]
    rows["architecture"] = rows.run_label.str.rsplit("-", n=1).str[0]
    return rows


def sign_p(k: int, n: int) -> float:
    return float(binomtest(int(k), int(n)).pvalue) if n else 1.0


def holm_among(ps: list[float]) -> list[float]:
    """Holm's procedure step by step."""
    adjusted, reached = [0.0] * len(ps), 0.0
    for step, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        reached = max(reached, min(1.0, (len(ps) - step) * ps[place]))
        adjusted[place] = reached
    return adjusted


def text(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def check_signs(rows: list[dict], keys: tuple[str, ...], count: str, expected: dict[tuple, tuple[int, int]]) -> None:
    """Each row has the count that is expected for its keys, and p before and after Holm's correction."""
    assert [tuple(row[key] for key in keys) for row in rows] == list(expected)
    ps = [sign_p(*of_row) for of_row in expected.values()]
    for row, (k, _), p, corrected in zip(rows, expected.values(), ps, holm_among(ps), strict=True):
        assert (row[count], row["p"], row["p_corrected"]) == (k, text(p), text(corrected))


def test_a_sign_test_is_the_exact_binomial_test(con):
    pairs = [(k, n) for n in (0, 1, 2, 5, 6, 23, 24, 41, 200) for k in {0, n // 3, n // 2, n} if k <= n]
    for k, n in pairs:
        assert con.execute("SELECT sign_test(?, ?)", [k, n]).fetchall()[0][0] == pytest.approx(sign_p(k, n), rel=1e-9)


def test_holm_is_the_procedure_step_by_step(con):
    random = np.random.default_rng(5)
    for number in (1, 2, 15, 40):
        ps = (random.random(number) ** 4).tolist()
        ps[number // 2] = ps[0]  # a tie
        rows = con.execute(
            "SELECT holm_among(p, list(p) OVER ())"
            " FROM (SELECT unnest(?::DOUBLE[]) AS p, unnest(range(?)) AS place) ORDER BY place",
            [ps, number],
        ).fetchall()
        assert [row[0] for row in rows] == pytest.approx(holm_among(ps))


def pairs_of_models() -> pd.DataFrame:
    """Every pair of architectures of one size, from the exported counts."""
    overlap = exported("overlap").set_index(["smaller", "larger"])
    made = []
    for size in SIZES:
        for i, first in enumerate(ARCHITECTURES):
            for second in ARCHITECTURES[i + 1 :]:
                one, other = f"{first}-{size}", f"{second}-{size}"
                turned = (one, other) not in overlap.index
                row = overlap.loc[(other, one) if turned else (one, other)]
                alone = [row.memorized_smaller - row.memorized_both, row.memorized_larger - row.memorized_both]
                only_first, only_second = reversed(alone) if turned else alone
                excludes = row.rate_difference_low > 0 or row.rate_difference_high < 0
                made.append((size, first, second, only_first, only_second, excludes, abs(row.rate_difference)))
    pairs = pd.DataFrame(
        made, columns=["size", "first", "second", "only_first", "only_second", "excludes", "difference"]
    )
    pairs["p"] = [sign_p(a, a + b) for a, b in zip(pairs.only_first, pairs.only_second, strict=True)]
    pairs["corrected"] = [p for size in SIZES for p in holm_among(pairs[pairs["size"] == size].p.tolist())]
    return pairs


def test_architectures_are_compared_in_pairs_on_the_same_sequences(con):
    pairs = pairs_of_models()
    rows = [row for row in answer(con, "architecture_pairs") if row["size"] != "two seeds"]
    assert len(rows) == len(pairs) == 60
    for row, (_, pair) in zip(rows, pairs.iterrows(), strict=True):
        for column in ("size", "first", "second", "only_first", "only_second"):
            assert row[column] == pair[column]
        assert (row["p"], row["p_corrected"]) == (text(pair.p), text(pair.corrected))
        assert row["rate_difference"] * 15000 == pytest.approx(pair.only_first - pair.only_second)
        assert row["rate_difference_low"] <= row["rate_difference"] <= row["rate_difference_high"]

    pairs["bigcode"] = (pairs["first"] == "gpt_bigcode") | (pairs["second"] == "gpt_bigcode")
    for row in answer(con, "architecture_tests"):
        here = pairs[pairs["size"] == row["size"]]
        assert row["p_below_005"] == (here.p < 0.05).sum()
        assert row["corrected_below_005"] == (here.corrected < 0.05).sum()
        assert row["without_gpt_bigcode"] == ((here.corrected < 0.05) & ~here.bigcode).sum()
        assert row["intervals_without_0"] == here.excludes.sum()
        assert row["rate_difference_at_most"] == pytest.approx(here.difference.max())


def test_the_facts_on_architectures(con):
    (facts,) = answer(con, "architecture_facts")
    pairs, overlap = pairs_of_models(), exported("overlap").set_index(["smaller", "larger"])
    largest = pairs[pairs["size"] == "85M"]
    assert (facts["pairs"], facts["pairs_of_all"]) == (15, 60)
    assert facts["intervals"] == largest.excludes.sum()
    assert facts["corrected"] == (largest.corrected < 0.05).sum()
    assert facts["corrected_of_all"] == sum(p < 0.05 for p in holm_among(pairs.p.tolist()))
    others = pairs[(pairs["first"] != "gpt_bigcode") & (pairs["second"] != "gpt_bigcode")]
    assert facts["corrected_of_others"] == (others.corrected < 0.05).sum()
    seeds = [overlap.loc[(f"{a}-4.7M", f"{a}-4.7M-seed1")] for a in ("gpt_neox", "llama")]
    least = max(abs(row.rate_difference) for row in seeds)
    assert facts["rate_difference_seeds"] == pytest.approx(least)
    # In whole sequences: fractions that are equal in exact numbers need not be in floats.
    others = (pairs[pairs["size"] == "4.7M"].difference * 15000).round()
    assert facts["more_than_seeds"] == (others > round(least * 15000)).sum()
    rates = of_grid("rate_by_size").pivot(index="architecture", columns="size", values="rate")
    lowest = [rates[size].idxmin() for size in SIZES]
    assert [facts["architecture"]] * facts["sizes_lowest"] == lowest
    assert facts["p_lowest"] == pytest.approx(6 * (1 / 6) ** 4)
    steps = np.diff(rates[SIZES].to_numpy(), axis=1)
    assert (facts["steps"], facts["steps_up"]) == (steps.size, (steps > 0).sum())


def test_fits_take_one_point_per_size(con):
    rates = of_grid("rate_by_size")
    fits = con.execute(
        "SELECT architecture, slope, intercept, r2, r2_power_law, slope_low, slope_high FROM size_fits ORDER BY place"
    )
    rows = fits.fetchall()
    assert [row[0] for row in rows] == ARCHITECTURES
    for architecture, *found in rows:
        here = rates[rates.architecture == architecture]
        assert len(here) == 4
        x = np.log10(here.non_embedding_parameters)
        line, power = linregress(x, here.rate), linregress(x, np.log(here.rate))
        half = t.ppf(0.975, 2) * line.stderr
        ends = [line.slope - half, line.slope + half]
        assert found == pytest.approx([line.slope, line.intercept, line.rvalue**2, power.rvalue**2, *ends], rel=1e-6)
    # The export took a second seed of two architectures as a fifth size; those have no interval by document.
    known = {row["architecture"]: row["slope_with_other_documents"] is not None for row in answer(con, "slopes")}
    assert known == {architecture: architecture not in ("gpt_neox", "llama") for architecture in ARCHITECTURES}


def test_outcomes_are_counted_over_models(con):
    whole, grams = of_grid("frequency_of_memorized"), of_grid("ngram_frequency")
    expected = {}
    tables = {"whole sequences": whole, **{str(name): rows for name, rows in grams.groupby("ngrams")}}
    for counted, rows in tables.items():
        means = rows.pivot(index="run_label", columns="outcome", values="mean_log2_count")
        for outcomes, one, other in (
            ("half-memorized and unmemorized", "half-memorized", "unmemorized"),
            ("memorized and half-memorized", "memorized", "half-memorized"),
        ):
            difference = means[one] - means[other]
            expected[counted, outcomes] = (int((difference > 0).sum()), len(difference))
    assert expected["whole sequences", "half-memorized and unmemorized"] == (24, 24)
    check_signs(answer(con, "outcome_signs"), ("counted", "outcomes"), "more_often", expected)


def depth_differences() -> pd.DataFrame:
    """Memorized minus unmemorized depth of each model and threshold, matched; in layers."""
    rows = of_grid("layer_depth__matched")
    depths = rows.pivot(
        index=["kind", "threshold", "size", "run_label"], columns="outcome", values="depth"
    ).reset_index()
    depths["layers"] = (depths["memorized"] - depths["unmemorized"]) * depths["size"].map(LAYERS)
    return depths


def test_depths_are_counted_over_models(con):
    depths = depth_differences()
    kinds = {(kind, f"{threshold:.2f}"): here for (kind, threshold), here in depths.groupby(["kind", "threshold"])}
    expected = {key: (int((here.layers < 0).sum()), len(here)) for key, here in kinds.items()}
    rows = answer(con, "depth_signs")
    check_signs(rows, ("kind", "threshold"), "earlier", expected)
    for row in rows:
        largest = kinds[row["kind"], row["threshold"]].query("size == '85M'").layers
        assert row["inside_the_margin"] == (largest.abs() < 0.1).sum()
        ends = (row["layers_apart_low"], row["layers_apart"], row["layers_apart_high"])
        assert ends == pytest.approx((largest.min(), largest.mean(), largest.max()))
    for row in answer(con, "depth_signs_by_size"):
        here = kinds[row["kind"], row["threshold"]]
        layers = here[here["size"] == row["size"]].layers
        assert row["earlier"] == f"{(layers < 0).sum()} of {len(layers)}"


def test_noise_is_measured_at_both_ends(con):
    rows = of_grid("noise_similarity")
    for row in answer(con, "noise_last"):
        here = rows[(rows["size"] == row["size"]) & (rows.outcome == row["outcome"])]
        first = here[here.layer == 0].set_index("run_label").similarity
        last = here[here.layer == LAYERS[row["size"]]].set_index("run_label").similarity
        assert (row["models"], row["lost"]) == (len(last), (last < first).sum())
        assert row["after_the_last"] == pytest.approx(last.mean())
    expected = {}
    for sequences, name in (("as drawn", "noise_recovery"), ("matched", "noise_recovery__matched")):
        strongest = of_grid(name).query("alpha == 0.5")
        for measure, column in (("peak", "recovery"), ("last layer", "last")):
            found = strongest.pivot(index="run_label", columns="outcome", values=column)
            less = int((found["memorized"] < found["unmemorized"]).sum())
            expected[sequences, measure] = (less, int((found["memorized"] != found["unmemorized"]).sum()))
    check_signs(answer(con, "noise_signs"), ("sequences", "measure"), "less", expected)


def test_the_facts_inside_the_models(con):
    (facts,) = answer(con, "inside")
    noised = 1 / math.sqrt(1.25)
    strongest = of_grid("noise_recovery").query("alpha == 0.5 and outcome == 'memorized'")
    smallest = strongest[strongest["size"] == "0.8M"]["last"]
    assert facts["cosine_noised"] == pytest.approx(noised)
    assert facts["models_lost_smallest"] == (smallest < noised).sum() == len(smallest)
    assert facts["models_lost_larger"] == (strongest[strongest["size"] != "0.8M"]["last"] < noised).sum()
    for groups, name in (("", "noise_recovery"), ("matched_", "noise_recovery__matched")):
        rows = of_grid(name).query("alpha == 0.5 and size == '85M'")
        last = rows.pivot(index="run_label", columns="outcome", values="last") - noised
        gap = 1 - last["memorized"] / last["unmemorized"]
        ends = facts[f"share_less_last_{groups}least"], facts[f"share_less_last_{groups}most"]
        assert ends == pytest.approx((gap.min(), gap.max()))

    half = depth_differences().query("kind == 'relative' and threshold == 0.5")
    assert facts["layers_apart_largest"] == pytest.approx(half[half["size"] == "85M"].layers.abs().max())
    groups = of_grid("layer_depth__matched").query("kind == 'relative' and threshold == 0.5 and size == '85M'")
    groups = groups[groups.outcome != "half-memorized"]
    margins = []
    for run_label, here in groups.groupby("run_label"):
        width = np.hypot(*((here.depth_high - here.depth_low) / 2)) * 12
        margins.append(abs(half[half.run_label == run_label].layers.item()) + width)
    assert (facts["margin_least"], facts["margin_most"]) == pytest.approx((min(margins), max(margins)))

    overlaps = of_grid("head_overlap")
    pairs = overlaps[~overlaps.split_half & (overlaps.domain_a < overlaps.domain_b)]
    halves = overlaps[overlaps.split_half].set_index(["run_label", "domain_a"]).jaccard
    both = [
        max(halves[row.run_label, row.domain_a], halves[row.run_label, row.domain_b])
        for row in pairs.itertuples(index=False)
    ]
    assert facts["domain_pairs"] == len(pairs)
    assert facts["domain_pairs_above_chance"] == sum(p < 0.05 for p in holm_among(pairs.p.tolist()))
    assert facts["domain_pairs_above_halves"] == (pairs.jaccard > both).sum()
    table = answer(con, "heads_table")
    for column, of_all in (
        ("pairs_above_chance", "domain_pairs_above_chance"),
        ("pairs_above_halves", "domain_pairs_above_halves"),
    ):
        assert sum(row[column] for row in table) == facts[of_all]
    shared = of_grid("head_sharing").query("sets == 'important' and in_domains == domains")
    assert facts["models_sharing"] == sum(p < 0.05 for p in holm_among(shared.p.tolist()))
    later = of_grid("head_importance").query("layer > 1 and size == '85M'")
    found = facts["share_later_mean"], facts["share_later_most"], facts["share_later_high"]
    assert found == pytest.approx((later.importance.mean(), later.importance.max(), later.importance_high.max()))


def test_equal_reads_are_compared_between_checkpoints_and_the_end(con):
    rows = exported("rate_by_exposures")
    rows = rows[(rows.sequences >= 10) & (rows.exposure_bucket >= 2)]
    ends = rows[rows.run_label.isin([f"{a}-25M" for a in ARCHITECTURES])].set_index(["run_label", "times_read"])
    expected, order = {}, ["4–7", "8–15", "16–31", "32–63", "64–127"]
    for times in order:
        for tokens in ("6M", "12M", "25M"):
            here = rows[(rows.times_read == times) & rows.run_label.isin([f"{a}-25M@{tokens}" for a in ARCHITECTURES])]
            pairs = [(row.rate, ends.rate[row.run_label.split("@")[0], times]) for row in here.itertuples()]
            if pairs:
                expected[tokens, times] = (sum(a < b for a, b in pairs), sum(a != b for a, b in pairs))
    check_signs(answer(con, "reads_signs"), ("after_tokens", "times_read"), "lower", expected)


def test_domains_are_compared_at_equal_counts(con):
    rows = of_grid("frequency_in_domains")
    rows = rows[rows.sequences >= 10]
    expected = {}
    for other in ("German Law", "Python"):
        for bucket in range(1, 6):
            rates = rows[rows.frequency_bucket == bucket].pivot(index="run_label", columns="domain", values="rate")
            label = rows[rows.frequency_bucket == bucket].frequency.iloc[0]
            more = int((rates["C++"] > rates[other]).sum())
            expected[other, label] = (more, int((rates["C++"] != rates[other]).sum()))
    check_signs(answer(con, "domain_signs"), ("other_domain", "occurrences"), "more_of_C++", expected)


def half_dose(copies: list[int], rates: list[float]) -> float:
    """Where a rising curve over log2 of the copies crosses one half."""
    after = next(place for place, rate in enumerate(rates) if rate >= 0.5)
    return 2 ** np.interp(0.5, rates[after - 1 : after + 1], np.log2(copies[after - 1 : after + 1]))


def test_doses_of_other_seeds_and_of_other_texts(con):
    planted = exported("rate_by_copies").query("sequence_count > 0").sort_values("sequence_count")

    def of_model(rows: pd.DataFrame, label: str) -> float:
        here = rows[rows.run_label == label]
        return half_dose(here.sequence_count.tolist(), here.rate.tolist())

    for row in answer(con, "dose_seeds"):
        label = f"{row['architecture']}-{row['size']}"
        assert row["first_seed"] == pytest.approx(of_model(planted, label))
        assert row["second_seed"] == pytest.approx(of_model(planted, f"{label}-seed1"))
    passages = exported("passages/rate_by_passage").query("document_tokens == 64").sort_values("sequence_count")
    rows = answer(con, "dose_other_texts")
    assert [row["model"] for row in rows] == ["gpt_neox-25M", "llama-25M"]
    for row in rows:
        assert row["in_this_study"] == pytest.approx(of_model(planted, row["model"]))
        assert row["with_other_texts"] == pytest.approx(of_model(passages, row["model"]))
        assert row["with_other_texts"] < row["in_this_study_low"]


def test_natural_and_planted_text_are_compared_at_equal_counts(con):
    (facts,) = answer(con, "findings")
    planted = (
        of_grid("rate_by_copies").query("size == '85M'").groupby("sequence_count")[["memorized", "sequences"]].sum()
    )
    rates = (planted.memorized / planted.sequences).drop(0)
    middle = np.interp(np.log2(math.sqrt(64 * 127)), np.log2(rates.index), rates)
    assert facts["rate_planted_middle"] == pytest.approx(middle)
    assert facts["copies_of_middle"] == pytest.approx(math.sqrt(64 * 127))
    counts = of_grid("frequency_of_memorized").query("outcome == 'memorized'")
    means = counts.pivot(index="architecture", columns="size", values="mean_log2_count")
    assert facts["architectures_rarer"] == (means["85M"] < means["0.8M"]).sum()


def test_the_small_study_is_counted_by_size(con):
    (facts,) = answer(con, "small_facts")
    rates, copies = exported("small/rate_by_size"), exported("small/rate_by_copies").query("sequence_count == 64")
    sizes = [f"0.{part}M" for part in ("06", "12", "25")]
    lowest = fewest = apart = 0
    for size in sizes:
        labels = [f"{architecture}-{size}" for architecture in ARCHITECTURES]
        rate = rates.set_index("run_label").loc[labels]
        others = rate.drop(f"gpt_bigcode-{size}")
        lowest += rate.rate[f"gpt_bigcode-{size}"] < others.rate.min()
        apart += rate.rate_high[f"gpt_bigcode-{size}"] < others.rate_low.min()
        known = copies.set_index("run_label").rate.loc[labels]
        fewest += known[f"gpt_bigcode-{size}"] < known.drop(f"gpt_bigcode-{size}").min()
    assert (facts["sizes"], facts["sizes_lowest"], facts["sizes_fewest"]) == (3, lowest, fewest)
    assert facts["sizes_apart"] == apart
    models = [f"{architecture}-{size}" for architecture in ARCHITECTURES for size in sizes]
    rate = rates.set_index("run_label").rate.loc[models].to_numpy().reshape(len(ARCHITECTURES), len(sizes))
    ranges = dict(zip(ARCHITECTURES, np.ptp(rate, axis=1), strict=True))
    assert facts["rate_range_of_bigcode"] == pytest.approx(ranges.pop("gpt_bigcode"))
    assert facts["rate_range_of_others"] == pytest.approx(max(ranges.values()))
