"""Probes that compare outcomes, on a study: whom they compare, the rows they leave, and the questions about them."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from leave_one_out import mean_ends, rate_ends

torch = pytest.importorskip("torch", reason="probes run models")

from scored_study import make_study  # noqa: E402

from memindex.errors import MemindexError  # noqa: E402
from memindex.index import Index, build_index  # noqa: E402
from memindex.models.from_index import train_on_index  # noqa: E402
from memindex.models.loading import load_model  # noqa: E402
from memindex.probes.head_ablation import ablate_heads  # noqa: E402
from memindex.probes.layer_decoding import decode_layers  # noqa: E402
from memindex.probes.noise import add_noise  # noqa: E402
from memindex.probes.perturbation import perturb  # noqa: E402
from memindex.sql.connection import connect  # noqa: E402
from memindex.sql.queries import list_queries, run_query  # noqa: E402
from memindex.study.config import FILE, StudyConfig, load_study  # noqa: E402
from memindex.study.probe_config import ProbeConfig  # noqa: E402
from memindex.study.probe_matching import CALIPER, Traits, match  # noqa: E402
from memindex.study.probe_running import run_probes  # noqa: E402
from memindex.study.probe_sample import OUTCOMES  # noqa: E402
from memindex.study.probe_selection import select  # noqa: E402
from memindex.study.probing import probed_runs  # noqa: E402
from memindex.study.running import RunOptions, run_study, status, study_runs  # noqa: E402
from memindex.tables.store import TableStore  # noqa: E402

pytestmark = pytest.mark.models

COMPARED = ["noise", "perturbation", "layer_decoding"]
SETTINGS = ProbeConfig(sequences=25, alphas=(0.0, 0.2, 0.8), draws=2, seed=4)
SMALL = RunOptions(device="cpu", unit_size=40, batch_size=32)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_indexes(root: Path) -> tuple[Index, Index]:
    """Texts of random letters with passages that stand in several of them: some of these will be memorized."""
    random = np.random.default_rng(0)
    passages = [bytes(random.integers(97, 123, 30).tolist()) for _ in range(8)]
    places = random.permutation(np.repeat(np.arange(8), 12)).reshape(-1, 3)
    for part, texts in (("train", places), ("heldout", places[:6] + 100)):
        (root / part).mkdir(parents=True)
        for number, text in enumerate(texts):
            words = [passages[i] if i < 8 else b"" for i in text]
            noise = [bytes(random.integers(97, 123, 20).tolist()) for _ in text]
            parts = [piece for pair in zip(noise, words, strict=True) for piece in pair]
            folder = root / part / ("ab"[number % 2])
            folder.mkdir(exist_ok=True)
            (folder / f"{number}.txt").write_bytes(b"".join(parts))
        build_index([root / part], root / f"{part}-index", tokenizer="bytes")
    return Index.open(root / "train-index"), Index.open(root / "heldout-index")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> StudyConfig:
    """A study whose run memorized the header of its texts, probed."""
    root = tmp_path_factory.mktemp("probed")
    indexes = make_indexes(root / "corpus")
    train_on_index(indexes[0], "llama", 20_000, 160_000, root / "tiny", context=32, learning_rate=1e-2, device="cpu")
    study = make_study(root / "study", indexes, root / "tiny")
    run_study(study, options=SMALL)
    run_probes(study, [*COMPARED, "head_importance"], settings=SETTINGS, options=SMALL)
    return study


@pytest.fixture(scope="module")
def facts(study: StudyConfig) -> pd.DataFrame:
    """What is known of every sequence, by its id."""
    store = TableStore(study.tables)
    rows = store.read("continuations").to_pandas().merge(store.read("sequences").to_pandas(), on="sequence_id")
    rows = rows.merge(store.read("frequencies").to_pandas().drop(columns="index"), on="sequence_id")
    rows["outcome"] = np.where(
        rows["score"] == 1, "memorized", np.where(rows["score"] > 0, "half-memorized", "unmemorized")
    )
    rows["cluster"] = rows.groupby(["index", "first_document"]).ngroup()
    rows["bucket_of_count"] = [math.floor(math.log2(n)) if n else -1 for n in rows["sequence_count"]]
    return rows.set_index("sequence_id").sort_index()


def table(study: StudyConfig, name: str) -> pd.DataFrame:
    return TableStore(study.tables).read(name).to_pandas()


def chosen(study: StudyConfig, name: str) -> pd.DataFrame:
    columns = ["sequence_id", "outcome", "drawn", "pair"]
    return table(study, name)[columns].drop_duplicates().sort_values("sequence_id").reset_index(drop=True)


def test_outcomes_are_drawn_and_matched(study: StudyConfig, facts: pd.DataFrame):
    rows = chosen(study, "noise")
    assert rows["sequence_id"].is_unique
    for name in COMPARED[1:]:
        pd.testing.assert_frame_equal(chosen(study, name), rows)
    known = facts.loc[rows["sequence_id"]]
    assert rows["outcome"].tolist() == known["outcome"].tolist()
    assert set(known["sample"]) == {"uniform"}
    assert set(table(study, "probes")["sample"]) == {"uniform"}
    there = facts[facts["sample"] == "uniform"]["outcome"].value_counts()
    assert rows[rows["drawn"]]["outcome"].value_counts().to_dict() == {k: min(25, n) for k, n in there.items()}
    assert (rows["drawn"] | rows["pair"].notna()).all()
    trios = rows[rows["pair"].notna()].groupby("pair")
    assert 1 <= len(trios) <= 25
    for pair, trio in trios:
        assert sorted(trio["outcome"]) == ["half-memorized", "memorized", "unmemorized"]
        assert trio.loc[trio["outcome"] == "memorized", "sequence_id"].tolist() == [pair]
        alike = facts.loc[trio["sequence_id"]]
        assert alike["domain"].nunique() == alike["bucket_of_count"].nunique() == 1
        far = (alike["prefix_logprob"] / 7 - facts.loc[pair, "prefix_logprob"] / 7).abs()
        assert far.max() <= CALIPER + 1e-6


@pytest.mark.parametrize("sample", ["uniform", "bucket", "heldout"])
def test_groups_and_trios_are_of_the_chosen_sample(study: StudyConfig, facts: pd.DataFrame, sample: str):
    store = TableStore(study.tables)
    [run] = probed_runs(study, study_runs(study))
    for probe in (*COMPARED, "compression", "head_importance"):
        settings = ProbeConfig(sample=sample, sequences=25)
        if sample == "heldout" and probe in COMPARED:
            with pytest.raises(
                MemindexError, match=f"{probe} compares outcomes, and the sample heldout .* 0 memorized"
            ):
                select(store, probe, run, store.read("sequences"), settings)
            continue
        found = select(store, probe, run, store.read("sequences"), settings)
        of_sample = facts[facts["sample"] == sample]
        assert set(found.ids) <= set(of_sample.index)
        assert (found.sample, set(found.pair) - {-1} <= set(found.ids)) == (sample, True)
        there = of_sample["outcome"].value_counts()
        names = OUTCOMES if probe in COMPARED else OUTCOMES[:1]
        assert found.there == tuple(there.get(name, 0) for name in names)
        if probe in COMPARED:
            drawn = pd.Series(found.outcome[found.drawn]).value_counts()
            assert [drawn[place] for place in range(3)] == [min(25, there[name]) for name in OUTCOMES]


def test_the_tables_are_what_the_probes_say(study: StudyConfig, facts: pd.DataFrame):
    loaded = load_model(study.directory.parent / "tiny", device="cpu")
    rows = chosen(study, "noise")
    known = facts.loc[rows["sequence_id"]]
    ids = rows["sequence_id"].to_numpy()
    given = (loaded, np.stack(known["prefix"]), np.stack(known["continuation"]))
    noise = add_noise(*given, ids, SETTINGS.alphas, 2, 4)
    found = table(study, "noise").sort_values(["sequence_id", "draw", "alpha"])
    assert len(found) == len(rows) * 2 * 3
    assert found["alpha"].tolist() == [0.0, 0.2, 0.8] * 2 * len(rows)
    assert found["kept"].tolist() == noise.kept.reshape(-1).tolist()
    np.testing.assert_allclose(np.stack(found["similarity"]), noise.similarity.reshape(len(found), -1), atol=1e-5)
    np.testing.assert_allclose(found["logprob"], noise.logprob.reshape(-1), rtol=1e-3, atol=1e-4)
    assert (found["kept"][found["alpha"] == 0] == 8).all()
    assert found["kept"][found["alpha"] == 0.8].mean() < 6
    whole = np.stack(TableStore(study.tables).read("sequences").to_pandas()["prefix"]).reshape(-1)
    wrong = perturb(*given, ids, whole, 2, 4)
    found = table(study, "perturbation").sort_values(["sequence_id", "draw"])
    np.testing.assert_array_equal(np.stack(found["replacements"]), wrong.replacements.reshape(len(found), -1))
    np.testing.assert_array_equal(np.stack(found["kept"]), wrong.kept.reshape(len(found), -1))
    layers = decode_layers(*given)
    found = table(study, "layer_decoding").sort_values(["sequence_id", "layer"])
    assert found["layer"].max() == found["layers"].max() == loaded.facts["layers"]
    np.testing.assert_allclose(np.stack(found["probability"]), layers.probability.reshape(len(found), -1), atol=1e-5)
    np.testing.assert_array_equal(np.stack(found["rank"]), layers.rank.reshape(len(found), -1))
    np.testing.assert_allclose(np.stack(found["entropy"]), layers.entropy.reshape(len(found), -1), atol=1e-4)
    settings = {row["probe"]: json.loads(row["settings"]) for row in table(study, "probes").to_dict("records")}
    assert settings["noise"] == {"sequences": 25, "seed": 4, "alphas": [0.0, 0.2, 0.8], "draws": 2}
    assert settings["layer_decoding"] == {"sequences": 25, "seed": 4}


def test_matching_takes_the_nearest_in_order():
    traits = Traits(
        domain=np.array([0, 0, 0, 0, 0, 0, 1, 0, 0]),
        count=np.array([4, 5, 7, 6, 4, 7, 4, 8, 0]),
        perplexity=np.array([1.0, 1.1, 1.02, 1.2, 1.15, 0.9, 1.0, 1.0, 1.0]),
    )
    outcome = np.array([0, 0, 1, 1, 2, 2, 2, 1, 2])
    everywhere = np.ones(9, dtype=bool)
    # 0 takes the half-memorized 2 and the unmemorized 5, 1 what is left: 3 and 4.
    assert match(traits, outcome, everywhere, np.array([0, 1]), 9).tolist() == [0, 1, 0, 1, 1, 0, -1, -1, -1]
    assert match(traits, outcome, everywhere, np.array([1, 0]), 1).tolist() == [-1, 1, 1, -1, 1, -1, -1, -1, -1]
    only = everywhere.copy()
    only[4:6] = False
    assert (match(traits, outcome, only, np.array([0, 1]), 9) == -1).all()
    unknown = traits.perplexity.copy()
    unknown[[3, 4]] = np.nan
    unknowing = Traits(traits.domain, traits.count, unknown)
    assert match(unknowing, outcome, everywhere, np.array([0, 1]), 9).tolist() == [0, -1, 0, -1, -1, 0, -1, -1, -1]
    far = Traits(traits.domain, traits.count, traits.perplexity + np.where(outcome == 2, 1, 0))
    assert (match(far, outcome, everywhere, np.array([0, 1]), 9) == -1).all()


def groups(study: StudyConfig, facts: pd.DataFrame, name: str, kind: str) -> pd.DataFrame:
    rows = table(study, name)
    rows = rows[rows["pair"].notna() if kind == "matched" else rows["drawn"]]
    return rows.merge(facts[["cluster", "domain"]].reset_index(), on="sequence_id")


def assert_answer(answer: pd.DataFrame, wanted: pd.DataFrame, keys: list[str], value: str, interval) -> None:
    """Means and intervals of `wanted[value]`, which has a row per sequence, by `keys`."""
    by_key = wanted.groupby(keys)
    assert len(answer) == len(by_key)
    for row in answer.to_dict("records"):
        part = by_key.get_group(tuple(row[key] for key in keys))
        assert row["sequences"] == len(part)
        assert row[value] == pytest.approx(part[value].mean(), abs=1e-9)
        ends = interval(part[value].to_numpy(np.float64), part["cluster"].to_numpy())
        got = (row[f"{value}_low"], row[f"{value}_high"])
        assert got == pytest.approx(tuple(ends), abs=1e-8, nan_ok=True)


@pytest.mark.parametrize("kind", ["drawn", "matched"])
def test_questions_about_noise_equal_pandas(study: StudyConfig, facts: pd.DataFrame, kind: str):
    con = connect(study.directory)
    rows = groups(study, facts, "noise", kind)
    of = ["sequence_id", "outcome", "cluster"]
    layers = rows[rows["alpha"] == 0.2].assign(layer=lambda r: [list(range(len(s))) for s in r["similarity"]])
    layers = layers.explode(["similarity", "layer"]).astype({"similarity": float})
    wanted = layers.groupby([*of, "layer"], as_index=False)["similarity"].mean()
    answer = run_query(con, "noise_similarity", alpha=0.2, groups=kind).to_pandas()
    assert_answer(answer, wanted, ["outcome", "layer"], "similarity", mean_ends)
    assert answer["depth"].tolist() == (answer["layer"] / answer["layer"].max()).tolist()
    # The strength of the report, 0.3, was not measured: the nearest one stands for it.
    assert set(answer["alpha"]) == {0.2}
    pd.testing.assert_frame_equal(run_query(con, "noise_similarity", groups=kind).to_pandas(), answer)

    lowest = rows["similarity"].map(min)
    after = [max(curve[list(curve).index(min(curve)) :]) for curve in rows["similarity"]]
    rows = rows.assign(recovery=np.array(after, float) - lowest, kept_share=rows["kept"] / 8, whole=rows["kept"] == 8)
    wanted = rows.groupby([*of, "alpha"], as_index=False)[["recovery", "kept_share", "whole"]].mean()
    answer = run_query(con, "noise_recovery", groups=kind).to_pandas()
    assert_answer(answer, wanted, ["outcome", "alpha"], "recovery", mean_ends)
    answer = run_query(con, "noise_output", groups=kind).to_pandas()
    assert_answer(answer, wanted.assign(kept=wanted["kept_share"]), ["outcome", "alpha"], "kept", rate_ends)
    assert_answer(answer, wanted, ["outcome", "alpha"], "whole", rate_ends)
    assert (answer[answer["alpha"] == 0]["whole"] == 1).all()


def test_domains_under_noise_equal_pandas(study: StudyConfig, facts: pd.DataFrame):
    rows = groups(study, facts, "noise", "drawn")
    rows = rows[rows["outcome"] == "memorized"].assign(survived=lambda r: r["kept"] == 8)
    answer = run_query(connect(study.directory), "noise_domains").to_pandas()
    assert len(answer) == 3 * rows["domain"].nunique()
    for row in answer.to_dict("records"):
        at = rows[rows["alpha"] == row["alpha"]]
        inside = at[at["domain"] == row["domain"]]
        assert (row["read"], row["survived"]) == (len(inside), inside["survived"].sum())
        assert row["survival"] == pytest.approx(inside["survived"].mean())
        if not at["survived"].any():
            assert pd.isna(row["share"])
            continue
        assert row["share"] == pytest.approx(inside["survived"].sum() / at["survived"].sum())
        survivors = at[at["survived"]]
        ends = rate_ends((survivors["domain"] == row["domain"]).to_numpy(), survivors["cluster"].to_numpy())
        assert (row["share_low"], row["share_high"]) == pytest.approx(tuple(ends), nan_ok=True)


@pytest.mark.parametrize("kind", ["drawn", "matched"])
def test_the_question_about_perturbation_equals_pandas(study: StudyConfig, facts: pd.DataFrame, kind: str):
    rows = groups(study, facts, "perturbation", kind)
    rows = rows.assign(before=[list(range(8, 0, -1))] * len(rows)).explode(["kept", "before"])
    rows["lost"] = 1 - rows["kept"].astype(float) / 8
    wanted = rows.groupby(["sequence_id", "outcome", "cluster", "before"], as_index=False)["lost"].mean()
    answer = run_query(connect(study.directory), "perturbation", groups=kind).to_pandas()
    assert_answer(answer, wanted, ["outcome", "before"], "lost", rate_ends)


@pytest.mark.parametrize("kind", ["drawn", "matched"])
def test_questions_about_layers_equal_pandas(study: StudyConfig, facts: pd.DataFrame, kind: str):
    con = connect(study.directory)
    rows = groups(study, facts, "layer_decoding", kind)
    means = rows.assign(
        probability=rows["probability"].map(np.mean).astype(float),
        likeliest=rows["rank"].map(lambda r: (r == 0).mean()),
        median_rank=rows["rank"].map(np.median),
        entropy=rows["entropy"].map(lambda e: e.astype(float).mean()),
    )
    answer = run_query(con, "layer_decoding", groups=kind).to_pandas()
    by_key = means.groupby(["outcome", "layer"])
    for row in answer.to_dict("records"):
        part = by_key.get_group((row["outcome"], row["layer"]))
        assert row["sequences"] == len(part)
        for name in ("probability", "likeliest", "entropy"):
            assert row[name] == pytest.approx(part[name].mean(), rel=1e-5)
        assert row["median_rank"] == pytest.approx(part["median_rank"].median())
        for name in ("probability", "entropy"):
            ends = mean_ends(part[name].to_numpy(), part["cluster"].to_numpy())
            assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(tuple(ends), 1e-4, 1e-8, nan_ok=True)
    assert len(answer) == len(by_key)
    assert (answer[answer["depth"] == 1]["likeliest"] == 1).all()

    depths = []
    for (sequence, outcome), part in rows.sort_values("layer").groupby(["sequence_id", "outcome"]):
        curves = np.stack(part["probability"]).astype(float)
        for threshold in (0.1, 0.25, 0.5, 0.75, 0.9):
            for kind_of, bound in (("absolute", threshold), ("relative", threshold * curves[-1])):
                passed = curves >= bound
                first = np.where(passed.any(axis=0), passed.argmax(axis=0) / (len(curves) - 1), np.nan)
                mean = np.nan if np.isnan(first).all() else np.nanmean(first)
                cluster, reached = part["cluster"].iloc[0], passed.any(axis=0).mean()
                depths.append((sequence, outcome, kind_of, threshold, mean, reached, cluster))
    names = ["sequence_id", "outcome", "kind", "threshold", "depth", "reached", "cluster"]
    wanted = pd.DataFrame(depths, columns=names)
    answer = run_query(con, "layer_depth", groups=kind).to_pandas()
    shares = wanted.groupby(["outcome", "kind", "threshold"])["reached"].mean()
    for row in answer.to_dict("records"):
        assert row["reached"] == pytest.approx(shares[row["outcome"], row["kind"], row["threshold"]])
    keys = ["outcome", "kind", "threshold"]
    answer = answer[answer["sequences"] > 0]
    assert_answer(answer, wanted.dropna(subset="depth"), keys, "depth", mean_ends)


@pytest.fixture(scope="module")
def heads(study: StudyConfig, facts: pd.DataFrame) -> pd.DataFrame:
    """One row per memorized sequence and head, with the drop of its score."""
    rows = table(study, "head_importance").merge(facts[["cluster", "domain"]].reset_index(), on="sequence_id")
    rows["head"] = [list(range(len(right))) for right in rows["right"]]
    rows = rows.explode(["right", "head"])
    return rows.assign(drop=1 - rows["right"].astype(float) / 8)


def test_head_importance_is_of_memorized_sequences_of_each_domain(study: StudyConfig, facts: pd.DataFrame):
    rows = table(study, "head_importance").sort_values(["sequence_id", "layer"])
    known = facts.loc[rows["sequence_id"].unique()]
    assert set(known["outcome"]) == {"memorized"}
    there = facts[(facts["outcome"] == "memorized") & (facts["sample"] == "uniform")]["domain"].value_counts()
    assert known["domain"].value_counts().to_dict() == {name: min(25, n) for name, n in there.items()}
    loaded = load_model(study.directory.parent / "tiny", device="cpu")
    found = ablate_heads(loaded, np.stack(known["prefix"]), np.stack(known["suffix"]))
    np.testing.assert_array_equal(np.stack(rows["right"]), found.right.reshape(len(rows), -1))
    np.testing.assert_array_equal(np.stack(rows["kept"]), found.kept.reshape(len(rows), -1))
    assert rows["rescaled"].isna().all()
    assert set(rows["replacement"]) == {"others"}
    assert rows["layer"].tolist() == list(range(1, found.right.shape[1] + 1)) * len(known)


def test_questions_about_heads_equal_pandas(study: StudyConfig, heads: pd.DataFrame):
    con = connect(study.directory)
    answer = run_query(con, "head_importance").to_pandas()
    by_head = heads.groupby(["layer", "head"])
    assert len(answer) == len(by_head)
    assert sorted(answer["rank"]) == list(range(1, len(answer) + 1))
    assert answer.sort_values("rank")["importance"].is_monotonic_decreasing
    assert answer["important"].sum() == max(1, round(0.2 * len(answer)))
    for row in answer.to_dict("records"):
        part = by_head.get_group((row["layer"], row["head"]))
        ends = rate_ends(part["drop"].to_numpy(), part["cluster"].to_numpy())
        got = [row[name] for name in ("importance", "importance_low", "importance_high")]
        assert got == pytest.approx([part["drop"].mean(), *ends], nan_ok=True)
    assert answer["importance"].max() > 0.1
    [only] = run_query(con, "head_signature").to_pylist()
    by_layer = heads.groupby("layer")["drop"].mean()
    assert only["correlation"] == (pytest.approx(1) if by_layer.nunique() > 1 else None)


def test_overlap_of_domains_equals_pandas_and_its_null(study: StudyConfig, heads: pd.DataFrame):
    answer = run_query(connect(study.directory), "head_overlap", top=0.4, least=12).to_pandas()
    assert list(zip(answer["domain_a"], answer["domain_b"], strict=True)) == [
        ("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")
    ]  # fmt: skip
    count = heads[["layer", "head"]].drop_duplicates().shape[0]
    chosen = max(1, round(0.4 * count))
    random = np.random.default_rng(0)
    draws = [len(set(random.permutation(count)[:chosen].tolist()) & set(range(chosen))) for _ in range(20_000)]
    jaccards = np.array([both / (2 * chosen - both) for both in draws])
    for row in answer.to_dict("records"):
        assert (row["heads"], row["chosen"]) == (count, chosen)
        assert row["null_jaccard"] == pytest.approx(0.4 / 1.6)
        least = row["shared"] / (2 * chosen - row["shared"])
        assert row["jaccard"] == pytest.approx(least) if row["split_half"] else row["jaccard"] >= least - 1e-9
        assert row["null_mean"] == pytest.approx(jaccards.mean(), abs=0.01)
        assert row["p"] == pytest.approx(np.mean(np.array(draws) >= row["shared"]), abs=0.015)
        assert (row["null_low"], row["null_high"]) == pytest.approx(tuple(np.quantile(jaccards, [0.025, 0.975])))
        assert row["sample"] == "uniform"
    [size] = set(answer["sequences_a"]) | set(answer["sequences_b"])
    assert 6 <= size <= heads.groupby("domain")["sequence_id"].nunique().min() // 2
    assert run_query(connect(study.directory), "head_overlap", least=1000).num_rows == 0


def test_a_probe_that_is_not_finished_answers_nothing(study: StudyConfig, tmp_path: Path):
    copy = study.directory.parent / tmp_path.name
    shutil.copytree(study.directory, copy)
    shutil.rmtree(copy / "tables" / "probes")
    con = connect(copy)
    for name in ("noise_similarity", "noise_recovery", "noise_output", "noise_domains"):
        assert run_query(con, name).num_rows == 0
    for name in (
        "perturbation",
        "layer_decoding",
        "layer_depth",
        "paired_depths",
        *(q for q in list_queries() if q.startswith("head_")),
    ):
        assert run_query(con, name).num_rows == 0


def test_too_few_sequences_are_told(study: StudyConfig, tmp_path: Path):
    copy = study.directory.parent / tmp_path.name
    shutil.copytree(study.directory, copy)
    store = TableStore(copy / "tables")
    for unit in store.units("continuations"):
        rows = store.read("continuations", units=[unit]).to_pydict()
        scores = [min(score, 0.5) for score in rows["score"]]
        store.write("continuations", unit, rows | {"memorized": [False] * len(scores), "score": scores})
    text = (copy / FILE).read_text() + '\n[probes]\nrun = ["noise", "compression"]\n'
    (copy / FILE).write_text(text)
    few = load_study(copy)
    message = (
        r"noise compares outcomes, and the sample uniform of 'tiny 8\+8' has 0 memorized, \d+ half-memorized, \d+ u"
    )
    with pytest.raises(MemindexError, match=message):
        run_probes(few, ["noise"], options=SMALL)
    with (
        pytest.warns(UserWarning, match=message),
        pytest.warns(UserWarning, match=r"compression: .* has only 0 memorized sequences, fewer"),
    ):
        run_study(few, only="probes", options=SMALL)
    assert dict(status(few))["noise of tiny"] == "too few sequences"
    assert dict(status(few))["compression of tiny"] == "done"
    command = [sys.executable, "-m", "memindex.cli", "probe"]
    for arguments, words in ((["noise"], "has 0 memorized"), (["noise", "--alpha", "1.5"], "between 0 and 1")):
        done = subprocess.run([*command, *arguments, "-s", copy], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert words in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alphas = [0.1, 1.5]", "alphas must be between 0 and 1"),
        ("alphas = []", "one at least"),
        ("alphas = [0.1, 0.1]", "names one twice"),
        ('replacement = "nothing"', "unknown replacement 'nothing'; known: others, zero, mean"),
        ("draws = 0", "draws must be at least 1"),
    ],
)
def test_bad_settings_are_refused(study: StudyConfig, tmp_path: Path, text: str, message: str):
    (tmp_path / FILE).write_text(f'index = "x"\n[probes]\n{text}\n')
    with pytest.raises(MemindexError, match=message):
        load_study(tmp_path)
