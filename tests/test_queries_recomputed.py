"""The queries about checkpoints, templates, n-grams, spans and domains against pandas, on a study with gaps.

Two checkpoints and a second run of one model, sequences without a domain or a document, logarithms of 0.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from leave_one_out import mean_ends, rate_ends
from scipy.stats import t as student
from synthetic_study import MODELS, SUFFIX, add_checkpoints, make_study

from memindex.errors import MemindexError
from memindex.sql.connection import connect
from memindex.sql.intervals import mean_interval, slope_interval
from memindex.sql.queries import list_queries, load_query, run_query
from memindex.sql.templates import templates
from memindex.tables.store import TableStore

ROWS = 2000

SQL = (sys.executable, "-m", "memindex.cli", "sql", "-s")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = make_study(tmp_path_factory.mktemp("gaps"), rows=ROWS)
    add_checkpoints(study, rows=ROWS)
    store = TableStore(study / "tables")
    columns = store.read("sequences").to_pydict()
    for name, every in (("domain", 13), ("document", 11)):
        columns[name] = [None if row % every == 0 else value for row, value in enumerate(columns[name])]
    store.write("sequences", "all", columns)
    return study


@pytest.fixture(scope="module")
def con(study: Path) -> duckdb.DuckDBPyConnection:
    return connect(study)


@pytest.fixture(scope="module")
def joined(study: Path) -> pd.DataFrame:
    """Every uniform sequence under every run, with a number for its document, from the store's files."""
    store = TableStore(study / "tables")
    tables = {name: store.read(name).to_pandas() for name in ("models", "runs", "sequences", "continuations")}
    counts = store.read("frequencies").to_pandas().drop(columns="index")
    rows = tables["continuations"].merge(tables["runs"][["run_id", "model_id", "dtype"]], on="run_id")
    rows = rows.merge(tables["models"], on="model_id").merge(tables["sequences"], on="sequence_id")
    rows = rows.merge(counts, on="sequence_id")
    rows["place"] = rows["document"].fillna(-1 - rows["sequence_id"])
    rows["run_label"] = np.where(
        rows["model_id"] == "middle", "middle (" + rows["run_id"] + ")", rows["model_id"].astype(str)
    )
    return rows[rows["sample"] == "uniform"].reset_index(drop=True)


def frame(con: duckdb.DuckDBPyConnection, name: str, **parameters: str | float) -> pd.DataFrame:
    return run_query(con, name, **parameters).to_pandas()


def ends(rows: pd.DataFrame, column: str) -> tuple[float, float]:
    return rate_ends(rows[column].to_numpy(np.float64), rows["place"].astype(int).to_numpy())


def outcome(rows: pd.DataFrame) -> np.ndarray:
    return np.where(rows["score"] == 1, "memorized", np.where(rows["score"] == 0, "unmemorized", "half-memorized"))


def test_a_model_is_one_point_of_the_fit_and_early_checkpoints_are_none(
    con: duckdb.DuckDBPyConnection, joined: pd.DataFrame
) -> None:
    answer = frame(con, "rate_by_size").set_index("run_label")
    assert len(answer) == len(MODELS) + 3
    names = [name for name, architecture, _ in MODELS if architecture == "gpt_neox"]
    fitted = joined[joined["model_id"].isin(names)]
    x = np.log10([size for _, architecture, size in MODELS if architecture == "gpt_neox"])
    y = fitted.groupby("model_id")["memorized"].mean()[names].to_numpy()
    slope, intercept = np.polyfit(x, y, 1)
    bootstrapped = slope_interval(
        np.log10(fitted["non_embedding_parameters"]).to_numpy(),
        fitted["model_id"].factorize()[0],
        fitted["memorized"].to_numpy(np.float64),
        fitted["place"].astype(int).to_numpy(),
    )
    rows = answer[answer["family"] == "gpt_neox"]
    assert len(rows) == len(names) + 3
    assert rows["slope_per_tenfold"].to_numpy() == pytest.approx(slope)
    assert rows["r2"].to_numpy() == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    assert rows["slope_low"].to_numpy() == pytest.approx(bootstrapped.low)
    assert rows["slope_high"].to_numpy() == pytest.approx(bootstrapped.high)
    for name, row in rows.iterrows():
        assert row["rate"] == joined[joined["run_label"] == name]["memorized"].mean()
        assert row["fitted"] == pytest.approx(intercept + slope * math.log10(row["non_embedding_parameters"]))


def test_predictors(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame) -> None:
    answer = frame(con, "predictors")
    assert answer["target"].unique().tolist() == ["huge"]
    assert answer["predictor"].tolist()[::2] == [
        "small",
        "middle@step1000",
        "middle@step9000",
        "middle (middle bfloat16)",
        "middle (middle-run)",
        "large",
    ]
    target = joined[joined["model_id"] == "huge"].set_index("sequence_id")["memorized"]
    for row in answer.itertuples():
        rows = joined[joined["run_label"] == row.predictor]
        rows = rows.assign(target=target.loc[rows["sequence_id"]].to_numpy())
        by, of = ("memorized", "target") if row.measure == "precision" else ("target", "memorized")
        assert row.share == pytest.approx(rows.loc[rows[by], of].mean())
        assert (row.share_low, row.share_high) == pytest.approx(ends(rows[rows[by]], of), nan_ok=True)
        assert (row.memorized, row.memorized_target) == (rows["memorized"].sum(), target.sum())
        assert row.memorized_both == (rows["memorized"] & rows["target"]).sum()
        assert row.rate_target == pytest.approx(target.mean())
        step = {"middle@step1000": 1e7, "middle@step9000": 9e7}.get(row.predictor, 92e6)
        assert row.training_share == pytest.approx(step / 92e6)


def template_of(prefix: list[int], suffix: list[int]) -> str:
    """The definition, one token after the other."""
    tokens, start = [*prefix, *suffix], len(prefix)
    places = range(start, len(tokens))
    if any(all(tokens[i] == tokens[i - p] for i in places) for p in range(1, start + 1)):
        return "repeating" if suffix else "none"
    steps = range(1, start // 2 + 1)
    if any(all(tokens[i] - tokens[i - p] == tokens[i - p] - tokens[i - 2 * p] for i in places) for p in steps):
        return "incrementing"
    return "none"


@given(prefix=st.lists(st.integers(0, 3), max_size=7), suffix=st.lists(st.integers(0, 5), max_size=5))
def test_templates_are_as_defined(prefix: list[int], suffix: list[int]) -> None:
    found = templates(np.array([prefix], dtype=np.int64), np.array([suffix], dtype=np.int64))
    assert ["none", "repeating", "incrementing"][found[0]] == template_of(prefix, suffix)


def test_templates_in_sql(con: duckdb.DuckDBPyConnection) -> None:
    lists = "([1,2,1,2], [1,2,1]), ([1,2,3], [4,5,6]), ([10,7,20,8], [30,9,40]), ([1,2], [9]), (NULL, [1]), ([1], NULL)"
    answer = con.execute(f"SELECT template(p, s) FROM (VALUES {lists}) AS t(p, s)").fetchall()
    assert [value for (value,) in answer] == ["repeating", "incrementing", "incrementing", "none", None, None]
    count = "SELECT count(*), count(template(prefix, suffix)) FROM memorization"
    assert len(set(con.execute(count).fetchone() or ())) == 1


def test_kinds_of_memorization(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame) -> None:
    answer = frame(con, "kinds_of_memorization").set_index(["run_label", "kind"])
    assert len(answer) == 3 * (len(MODELS) + 3)
    texts = joined.drop_duplicates("sequence_id").set_index("sequence_id")
    follows = texts.apply(lambda row: template_of(row["prefix"].tolist(), row["suffix"].tolist()) != "none", axis=1)
    duplicates = joined["sequence_count"] - (joined["index"] == "mini")
    kind = np.where(follows.loc[joined["sequence_id"]], "reconstruction", "recollection")
    kind = np.where(duplicates > 5, "recitation", kind)
    for name, rows in joined.assign(kind=kind).groupby("run_label"):
        known = rows[rows["memorized"]]
        for one in ("recitation", "reconstruction", "recollection"):
            row, of_kind = answer.loc[(name, one)], rows[rows["kind"] == one]
            assert len(of_kind) > 20
            assert (row["sequences"], row["memorized"]) == (len(of_kind), of_kind["memorized"].sum())
            assert row["share_memorized"] == pytest.approx((known["kind"] == one).mean())
            assert (row["share_low"], row["share_high"]) == pytest.approx(
                ends(known.assign(h=known["kind"] == one), "h")
            )
            assert row["rate"] == pytest.approx(of_kind["memorized"].mean())
            assert (row["rate_low"], row["rate_high"]) == pytest.approx(ends(of_kind, "memorized"))
    fewer = frame(con, "kinds_of_memorization", duplicates=1).set_index(["run_label", "kind"])["sequences"]
    assert fewer["small", "recitation"] == (duplicates[joined["run_label"] == "small"] > 1).sum()


def test_ngram_frequency(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame, study: Path) -> None:
    answer = frame(con, "ngram_frequency")
    statistics = TableStore(study / "tables").read("ngram_statistics").to_pandas().drop(columns="index")
    rows = joined.assign(outcome=outcome(joined)).merge(statistics, on="sequence_id")
    groups = rows.groupby(["run_label", "n", "outcome"])
    assert len(answer) == len(groups) == 2 * 3 * (len(MODELS) + 3)
    assert answer["ngrams"].unique().tolist() == ["single tokens", "5-grams"]
    for row in answer.itertuples():
        group = groups.get_group((row.run_label, row.n, row.outcome))
        assert row.sequences == len(group)
        assert row.mean_of_min == pytest.approx(group["min_count"].mean())
        assert row.mean_of_mean == pytest.approx(group["mean_count"].mean())
        assert row.mean_of_max == pytest.approx(group["max_count"].mean())
        logs = np.log2(group["mean_count"].where(group["mean_count"] > 0))
        assert row.mean_log2_count == pytest.approx(logs.mean())
        known = mean_ends(logs.dropna().to_numpy(), group["place"][logs.notna()].astype(int).to_numpy())
        assert (row.mean_low, row.mean_high) == pytest.approx(known)
        finite = group["mean_log_frequency"].replace(-np.inf, np.nan)
        assert row.median_log_frequency == pytest.approx(finite.median())
    unheard = frame(con, "ngram_frequency", sample="heldout")
    assert np.isinf(statistics["mean_log_frequency"]).any()
    assert not np.isinf(unheard["median_log_frequency"]).any()


def test_copied_continuations(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame, study: Path) -> None:
    answer = frame(con, "copied_continuations")
    spans = TableStore(study / "tables").read("spans").to_pandas()[["run_id", "sequence_id", "length"]]
    wrong = joined[~joined["memorized"]].merge(spans, on=["run_id", "sequence_id"])
    groups = wrong.assign(outcome=outcome(wrong)).groupby(["run_label", "outcome"])
    assert len(answer) == 8 * len(groups) == 8 * 2 * (len(MODELS) + 3)
    for row in answer.itertuples():
        group = groups.get_group((row.run_label, row.outcome))
        copied = group.assign(copied=group["length"] >= row.copied_from * SUFFIX)
        assert (row.continuations, row.copied) == (len(group), copied["copied"].sum())
        assert row.share == pytest.approx(copied["copied"].mean())
        assert (row.share_low, row.share_high) == pytest.approx(ends(copied, "copied"))
    assert answer["share"].nunique() > 20


def test_across_domains(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame, study: Path) -> None:
    counts = TableStore(study / "tables").read("domain_counts").to_pandas()
    of_sequence = dict(list(counts.groupby("sequence_id")))
    for model in ("all", "small"):
        answer = frame(con, "across_domains", model=model).set_index(["domain", "outcome"])
        rows = joined if model == "all" else joined[joined["run_label"] == model]
        seen = rows.dropna(subset="domain").groupby(["sequence_id", "domain", "place"])["memorized"].any().reset_index()
        places = [of_sequence[number] for number in seen["sequence_id"]]
        seen["others"] = [p.loc[p["domain"] != d, "count"].sum() for p, d in zip(places, seen["domain"], strict=True)]
        seen["all"] = [p["count"].sum() for p in places]
        seen["domains"] = [len(p) for p in places]
        seen["in_others"] = seen["others"] > 0
        groups = seen.groupby(["domain", np.where(seen["memorized"], "memorized", "not memorized")])
        assert len(answer) == len(groups) > 8
        for key, group in groups:
            row = answer.loc[key]
            assert (row["sequences"], row["in_others"]) == (len(group), group["in_others"].sum())
            assert row["share_elsewhere"] == pytest.approx(group["in_others"].mean())
            assert (row["share_low"], row["share_high"]) == pytest.approx(ends(group, "in_others"), nan_ok=True)
            assert row["mean_domains"] == pytest.approx(group["domains"].mean())
            assert row["share_of_occurrences"] == pytest.approx(group["others"].sum() / group["all"].sum())
    assert frame(con, "across_domains", domains=2).shape[0] == 4


def test_domain_shares_against_the_corpus(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame, study: Path) -> None:
    answer = frame(con, "domain_shares")
    documents = pd.read_parquet(study.parent / "mini" / "documents.parquet")
    tokens = documents.groupby("domain")["tokens"].sum() / documents["tokens"].sum()
    known = joined[joined["memorized"]]
    assert "unknown" in set(answer["domain"])
    for row in answer.itertuples():
        of_run = known[known["run_label"] == row.run_label].assign()
        of_run["here"] = of_run["domain"].fillna("unknown") == row.domain
        assert row.share_memorized == pytest.approx(of_run["here"].mean())
        if row.domain == "unknown":
            assert math.isnan(row.enrichment_corpus)
            continue
        share = tokens[row.domain]
        assert row.share_corpus == pytest.approx(share)
        assert row.enrichment_corpus == pytest.approx(of_run["here"].mean() / share)
        low, high = ends(of_run, "here")
        assert (row.enrichment_corpus_low, row.enrichment_corpus_high) == pytest.approx((low / share, high / share))


def test_the_enrichment_s_interval_leaves_documents_out(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame) -> None:
    answer = frame(con, "domain_shares", domains=3)
    assert len(answer) == 3 * joined["run_label"].nunique()
    for row in answer.itertuples():
        of_run = joined[joined["run_label"] == row.run_label]
        here = (of_run["domain"].fillna("unknown") == row.domain).to_numpy()
        known, place = of_run["memorized"].to_numpy(), of_run["place"].to_numpy()
        if not (known & here).any():
            assert row.enrichment == row.enrichment_low == 0
            continue
        assert row.enrichment == pytest.approx(known[here].sum() / known.sum() / here.mean())
        # Without a document, in the first order that the interval is made in: its share in the logarithm's error.
        numbers = pd.DataFrame({"a": known & here, "b": known, "c": here, "d": True, "place": place})
        totals = numbers.groupby("place").sum()
        error = totals["a"] / totals["a"].sum() - totals["c"] / totals["c"].sum()
        error += totals["d"] / totals["d"].sum() - totals["b"] / totals["b"].sum()
        left = error / (1 - totals["d"] / totals["d"].sum())
        variance = (left**2).sum() * (len(totals) - 1) / len(totals)
        carriers = (error**2).sum() ** 2 / (error**4).sum()
        degrees = min(totals["d"].sum() ** 2 / (totals["d"] ** 2).sum(), carriers) - 1
        factor = math.exp(student.ppf(0.975, degrees) * math.sqrt(variance))
        assert (row.enrichment_low, row.enrichment_high) == pytest.approx(
            (row.enrichment / factor, row.enrichment * factor)
        )


def test_planted_documents_are_no_part_of_the_corpus(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=400, models=MODELS[:1])
    file = tmp_path / "mini" / "documents.parquet"
    documents = pd.read_parquet(file)
    # As `memindex plant` does it: one file, whose documents have a domain of their own, or one of the corpus's.
    copies = documents.iloc[[3, 8, 21]].assign(domain=["planted", "planted", "Law"], path="planted/documents/p.jsonl")
    copies["document"] = 60 + np.arange(3)
    pd.concat([documents, copies]).to_parquet(file)
    store = TableStore(study / "tables")
    rows = store.read("sequences").to_pydict()
    for name, values in (("sample", ["planted"] * 5), ("document", [60, 61, 60, 61, None])):
        rows[name][-5:] = values
    rows["index"][-5:] = ["mini"] * 4 + [None]
    store.write("sequences", "all", rows)
    answer = frame(connect(study), "domain_shares")
    natural = documents.groupby("domain")["tokens"].sum() / documents["tokens"].sum()
    assert answer.set_index("domain")["share_corpus"].to_dict() == pytest.approx(natural.to_dict())
    assert answer["share_corpus"].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("query", "table"),
    [
        ("ngram_frequency", "ngram_statistics"),
        ("copied_continuations", "spans"),
        ("across_domains", "domain_counts"),
        ("corpus_by_frequency", "buckets"),
        ("predictors", "continuations"),
        ("kinds_of_memorization", "sequences"),
    ],
)
def test_a_query_names_the_command_that_fills_what_it_needs(tmp_path: Path, query: str, table: str) -> None:
    study = make_study(tmp_path, rows=40, models=MODELS[:1])
    shutil.rmtree(study / "tables" / table)
    done = subprocess.run([*SQL, str(study), query], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"the table {table} is still empty; fill it with: memindex study run" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_sample_that_a_study_lacks_is_named(study: Path) -> None:
    asked = [*SQL, str(study), "predictors", "-p", "sample=imported"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    line = "the study has no sequences of the sample 'imported'; ask with -p sample=heldout or sample=uniform"
    assert line in done.stderr


def test_a_model_that_a_study_lacks_is_named(study: Path) -> None:
    asked = [*SQL, str(study), "across_domains", "-p", "model=unknown"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    labels = [run for (run,) in connect(study).sql("SELECT DISTINCT run_label FROM memorization ORDER BY 1").fetchall()]
    assert f"no run labelled 'unknown'; ask with -p model={' or model='.join(labels)}" in done.stderr


def test_a_file_that_a_run_removed_is_named(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=40, models=MODELS[:1])
    con = connect(study)
    (file,) = (study / "tables" / "continuations").iterdir()
    file.unlink()
    with pytest.raises(MemindexError, match=f"{file} was removed after .* connect again"):
        run_query(con, "rate_by_size")


def test_documents_that_never_come_out_count_among_the_discoverable(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=400, models=MODELS[:1])
    store = TableStore(study / "tables")
    (unit,) = store.units("continuations")
    rows = store.read("continuations", units=[unit]).to_pydict()
    rows["suffix_logprob_top40"] = [0.0 if known else -math.inf for known in rows["memorized"]]
    store.write("continuations", unit, rows)
    con = connect(study)
    asked = "SELECT cluster AS place, memorized FROM memorization WHERE sample = 'uniform' ORDER BY sequence_id"
    read = con.sql(asked).df()
    assert (~read.groupby("place")["memorized"].any()).sum() > 10
    found = frame(con, "discoverable")
    assert len(found) == 14
    low, high = rate_ends(read["memorized"].to_numpy(np.float64), read["place"].to_numpy())
    for row in found.itertuples():
        assert row.discoverable == read["memorized"].sum()
        assert (row.rate_low, row.rate_high) == pytest.approx((low, high))
        assert row.rate_low <= row.rate <= row.rate_high


def test_intervals_hold_what_they_are_of(study: Path) -> None:
    con, drawn = connect(study), 0
    for name in list_queries():
        figure = load_query(name).figure
        if not figure.interval:
            continue
        for row in run_query(con, name).to_pylist():
            value, low, high = (row[column] for column in (figure.y.column, *figure.interval))
            if None not in (value, low, high):
                assert low - 1e-9 <= value <= high + 1e-9, (name, row)
                drawn += 1
    assert drawn > 200


def test_numbers_that_are_none_count_as_not_known(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=400, models=MODELS[:2])
    store = TableStore(study / "tables")
    for unit in store.units("continuations"):
        rows = store.read("continuations", units=[unit]).to_pydict()
        for name, bad in (
            ("bleu", math.nan),
            ("suffix_logprob", math.nan),
            ("suffix_logprob_top40", math.nan),
            ("prefix_logprob", -math.inf),
        ):
            rows[name] = [bad if i % 3 == 0 else value for i, value in enumerate(rows[name])]
        rows["suffix_logprob"] = [-math.inf if i % 5 == 0 else v for i, v in enumerate(rows["suffix_logprob"])]
        store.write("continuations", unit, rows)
    con = connect(study)
    for name in list_queries():
        for column, values in frame(con, name).items():
            if values.dtype == np.float64:
                assert not np.isinf(values).any(), (name, column)
    rows = frame(con, "approximate").set_index(["run_label", "likeness"])
    read = con.sql("SELECT * FROM continuations JOIN sequences USING (sequence_id) WHERE sample = 'uniform'").df()
    known = read[read["bleu"].notna()].groupby("run_id")["bleu"].agg(["size", lambda bleu: (bleu > 0.75).sum()])
    for run, (size, near) in known.iterrows():
        row = rows.loc[(run.removesuffix("-run"), "BLEU above 0.75")]
        assert (row["sequences"], row["continuations"]) == (size, near)
    everything = "avg(p_z), stddev(p_z_top40), avg(prefix_perplexity), stddev(suffix_perplexity), avg(discoverable_n)"
    [numbers] = con.sql(f"SELECT {everything} FROM memorization").fetchall()
    assert all(map(math.isfinite, numbers))
    values = "(1.5, 1), (2.5, 2), ('nan'::DOUBLE, 3), ('-inf'::DOUBLE, 4), (NULL, 5)"
    asked = f"SELECT discoverable_n('nan'::DOUBLE, 0.5), mean_interval(x, y).low FROM (VALUES {values}) AS t(x, y)"
    [(tries, low)] = con.sql(asked).fetchall()
    assert tries is None
    assert low == mean_interval(np.array([1.5, 2.5]), np.array([1, 2])).low


#: Layers and heads of the made-up models.
DEEP, HEADS = 6, 8
ENDS = (0.025, 0.975)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> tuple[duckdb.DuckDBPyConnection, pd.DataFrame]:
    """A study with two models' heads, some needed by all domains and some by one; and a row per sequence and layer."""
    study = make_study(tmp_path_factory.mktemp("heads"), rows=ROWS, models=MODELS[-2:])
    store, rng = TableStore(study / "tables"), np.random.default_rng(3)
    rows = store.read("continuations").to_pandas().merge(store.read("sequences").to_pandas(), on="sequence_id")
    rows = rows[rows["memorized"] & (rows["sample"] != "heldout")]
    domains = sorted(set(rows["domain"]))
    needed = (
        0.1 * rng.random((DEEP, HEADS))
        + 0.3 * (rng.random((DEEP, HEADS)) < 0.1)
        + 0.3 * (rng.random((len(domains), DEEP, HEADS)) < 0.1)
    )
    parts = []
    for run_id, of_run in rows.groupby("run_id"):
        lost = rng.binomial(SUFFIX, needed[[domains.index(name) for name in of_run["domain"]]])
        columns = {
            "run_id": [run_id] * len(of_run) * DEEP,
            "sequence_id": np.repeat(of_run["sequence_id"], DEEP).tolist(),
            "replacement": ["others"] * len(of_run) * DEEP,
            "layer": np.tile(np.arange(DEEP) + 1, len(of_run)),
            "layers": [DEEP] * len(of_run) * DEEP,
            "continuation_length": [SUFFIX] * len(of_run) * DEEP,
            "right": (SUFFIX - lost).reshape(-1, HEADS),
            "kept": (SUFFIX - lost).reshape(-1, HEADS),
            "rescaled": [None] * len(of_run) * DEEP,
        }
        store.write("head_importance", run_id, columns)
        store.write("probes", f"{run_id} head_importance", probe_row(run_id, "head_importance", len(of_run)))
        part = pd.DataFrame({name: list(values) for name, values in columns.items()})
        parts.append(part.merge(of_run[["sequence_id", "domain", "document"]], on="sequence_id"))
    table = pd.concat(parts).assign(run_label=lambda rows: rows["run_id"].str.removesuffix("-run"))
    return connect(study), table


def probe_row(run_id: str, probe: str, sequences: int) -> dict[str, list[object]]:
    """Columns of the table probes, one row."""
    made = {
        "sample": "uniform",
        "settings": "{}",
        "dtype": "float32",
        "device": "cpu",
        "attention": "sdpa",
        "versions": "{}",
    }
    numbers = {"sequences": sequences, "batch_size": 1, "seconds": 1.0, "created": datetime.now(UTC)}
    return {name: [value] for name, value in {"run_id": run_id, "probe": probe, **made, **numbers}.items()}


def importances(rows: pd.DataFrame) -> np.ndarray:
    """(layers, heads), the mean drop of the score."""
    return np.stack([1 - np.stack(rows["right"][rows["layer"] == n]).mean(axis=0) / SUFFIX for n in range(1, DEEP + 1)])


def halves_of(con: duckdb.DuckDBPyConnection, table: pd.DataFrame) -> dict[tuple[str, str, int], list[int]]:
    """The sequences of each model, domain and half: whole documents, the larger first, to the half with fewer."""
    known = con.sql("SELECT sequence_id, cluster, hash(cluster), hash(sequence_id) FROM memorization").fetchall()
    cluster = {row[0]: row[1] for row in known}
    order = {row[1]: row[2] for row in known} | {("sequence", row[0]): row[3] for row in known}
    halves = {}
    for (label, domain), rows in table.groupby(["run_label", "domain"]):
        texts = defaultdict(set)
        for sequence in rows["sequence_id"]:
            texts[cluster[sequence]].add(sequence)
        dealt: tuple[list[int], list[int]] = ([], [])
        for text in sorted(texts, key=lambda text: (-len(texts[text]), order[text])):
            dealt[len(dealt[0]) > len(dealt[1])].extend(texts[text])
        for half in (0, 1):
            halves[label, domain, half] = sorted(dealt[half], key=lambda sequence: order["sequence", sequence])
    return halves


def shared_by(a: np.ndarray, b: np.ndarray, chosen: int) -> tuple[int, int]:
    """Fewest and most shared heads: of those at the edge, which are equally important, any may be taken."""
    flats = a.ravel(), b.ravel()
    edges = [np.sort(flat)[-chosen] for flat in flats]
    sure = np.logical_and(*(flat > edge for flat, edge in zip(flats, edges, strict=True))).sum()
    return sure, np.logical_and(*(flat >= edge for flat, edge in zip(flats, edges, strict=True))).sum()


def important(rows: pd.DataFrame, chosen: int) -> set[int]:
    flat = importances(rows).ravel()
    ordered = np.sort(flat)[::-1]
    assert ordered[chosen - 1] > ordered[chosen], "a tie would leave the set open"
    return set(np.argsort(-flat)[:chosen].tolist())


def test_heads_that_domains_share(heads: tuple[duckdb.DuckDBPyConnection, pd.DataFrame]) -> None:
    con, table = heads
    overlap = frame(con, "head_overlap").set_index(["run_label", "domain_a", "domain_b"])
    sharing = frame(con, "head_sharing").set_index(["run_label", "sets", "in_domains"])
    domains = sorted(set(table["domain"]))
    assert len(overlap) == 2 * len(domains) ** 2
    assert len(sharing) == 2 * 2 * len(domains)
    all_heads, chosen = DEEP * HEADS, round(0.2 * DEEP * HEADS)
    rng = np.random.default_rng(0)
    drawn = [rng.random((len(domains), all_heads)).argsort(axis=1).argsort(axis=1) < chosen for _ in range(4000)]
    in_how_many = np.array([sets.sum(axis=0) for sets in drawn])
    shared = np.array([(a & b).sum() for a, b, *_ in drawn])
    jaccards = shared / (2 * chosen - shared)
    for label, of_run in table.groupby("run_label"):
        sets = {name: important(of_run[of_run["domain"] == name], chosen) for name in domains}
        for a, b in ((a, b) for a in domains for b in domains):
            row = overlap.loc[(label, a, b)]
            assert row["null_mean"] == pytest.approx(jaccards.mean(), abs=0.005)
            assert row["p"] == pytest.approx((shared >= row["shared"]).mean(), abs=0.02)
            assert (row["null_low"], row["null_high"]) == pytest.approx(
                tuple(np.quantile(jaccards, ENDS, method="inverted_cdf"))
            )
        count = np.array([sum(head in one for one in sets.values()) for head in range(all_heads)])
        for least in range(1, len(domains) + 1):
            row, null = (sharing.loc[(label, which, least)] for which in ("important", "at random"))
            assert (row["domains"], row["heads"], row["chosen"]) == (len(domains), all_heads, chosen)
            assert row["share"] == pytest.approx((count >= least).mean())
            at_random = (in_how_many >= least).mean(axis=1)
            assert null["share"] == row["null_share"] == pytest.approx(at_random.mean(), abs=0.005)
            # The range is no narrower than that of the sets themselves.
            low, high = np.quantile(at_random, ENDS, method="inverted_cdf")
            assert row["null_low"] <= low + 1e-9
            assert row["null_high"] >= high - 1e-9
            if row["share"] > row["null_share"]:
                assert row["p"] >= (at_random >= row["share"]).mean() - 0.02
        # Heads that all domains need were made; without them none would be likely.
        assert sharing.loc[(label, "important", len(domains)), "p"] < 0.01
    assert frame(con, "head_sharing", least=10_000).empty
    everything = frame(con, "head_sharing", top=1.0)
    assert (everything["share"] == 1).all()
    assert (everything["p"] == 1).all()


def test_overlap_of_halves_of_equal_size(heads: tuple[duckdb.DuckDBPyConnection, pd.DataFrame]) -> None:
    con, table = heads
    halves = halves_of(con, table)
    overlap = frame(con, "head_overlap")
    chosen = round(0.2 * DEEP * HEADS)
    for label, of_run in table.groupby("run_label"):
        own = {key[1:]: ids for key, ids in halves.items() if key[0] == label}
        size = min(map(len, own.values()))
        assert size >= 10
        found = {
            key: importances(of_run[of_run["sequence_id"].isin(ids[:size]) & (of_run["domain"] == key[0])])
            for key, ids in own.items()
        }
        for row in overlap[overlap["run_label"] == label].itertuples():
            assert (row.sequences_a, row.sequences_b, row.sample) == (size, size, "uniform")
            assert row.split_half == (row.domain_a == row.domain_b)
            times = (0,) if row.split_half else (0, 1)
            counts = [shared_by(found[row.domain_a, n], found[row.domain_b, 1 - n], chosen) for n in times]
            (least, most), (low, high) = (
                zip(*counts, strict=True),
                (np.mean([count[n] / (2 * chosen - count[n]) for count in counts]) for n in (0, 1)),
            )
            assert min(least) <= row.shared <= min(most)
            assert low - 1e-9 <= row.jaccard <= high + 1e-9


def test_importance_by_depth(heads: tuple[duckdb.DuckDBPyConnection, pd.DataFrame]) -> None:
    con, table = heads
    answer = frame(con, "head_depth").set_index(["run_label", "layer"])
    assert len(answer) == 2 * DEEP
    drops = table.assign(drop=1 - np.stack(table["right"]).mean(axis=1) / SUFFIX)
    for key, rows in drops.groupby(["run_label", "layer"]):
        row = answer.loc[key]
        assert (row["sequences"], row["depth"]) == (len(rows), key[1] / DEEP)
        assert row["importance"] == pytest.approx(rows["drop"].mean())
        found = rate_ends(rows["drop"].to_numpy(), rows["document"].to_numpy())
        assert (row["importance_low"], row["importance_high"]) == pytest.approx(found)
    profiles = answer["importance"].unstack()
    signature = frame(con, "head_signature", bins=DEEP).set_index(["run_a", "run_b"])["correlation"]
    assert signature["huge", "other/7b"] == pytest.approx(np.corrcoef(profiles)[0, 1])


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("noise_output", {"groups": "mached"}, "groups must be drawn or matched, not 'mached'"),
        ("head_overlap", {"top": 1.5}, "top must be 0 to 1, not 1.5"),
        ("head_importance", {"top": "-1"}, "top must be 0 to 1, not -1"),
        ("head_sharing", {"top": "nan"}, "top must be 0 to 1, not nan"),
        ("noise_similarity", {"alpha": 2}, "alpha must be 0 to 1, not 2"),
    ],
)
def test_values_that_mean_nothing_are_refused(
    con: duckdb.DuckDBPyConnection, name: str, given: dict[str, str | float], message: str
) -> None:
    with pytest.raises(MemindexError, match=f"query {name}: {message}"):
        run_query(con, name, **given)
