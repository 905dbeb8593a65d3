"""Every query against an independent recomputation in pandas from the store's files."""

from __future__ import annotations

import math
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from leave_one_out import mean_ends, rate_ends
from synthetic_study import MODELS, PLANTED, SUFFIX, make_study

from memindex.errors import MemindexError, QueryError
from memindex.sql.connection import connect
from memindex.sql.intervals import slope_interval
from memindex.sql.queries import list_queries, load_query, parse_query, queries_directory, run_query
from memindex.tables.store import TableStore

ALL = (
    "across_domains",
    "approximate",
    "compression",
    "context_curve",
    "controls",
    "copied_continuations",
    "corpus_by_frequency",
    "discoverable",
    "domain_shares",
    "frequency_in_domains",
    "frequency_of_memorized",
    "half_dose",
    "head_depth",
    "head_importance",
    "head_overlap",
    "head_sharing",
    "head_signature",
    "kinds_of_memorization",
    "layer_decoding",
    "layer_depth",
    "most_memorized_documents",
    "ngram_frequency",
    "noise_domains",
    "noise_output",
    "noise_recovery",
    "noise_similarity",
    "overlap",
    "paired_depths",
    "paired_rates",
    "perplexity_of_memorized",
    "perturbation",
    "predictors",
    "rate_by_copies",
    "rate_by_exposures",
    "rate_by_frequency",
    "rate_by_passage",
    "rate_by_recency",
    "rate_by_repetition",
    "rate_by_size",
    "score_histogram",
    "unseen_floor",
)


#: Questions about probes, which the made-up study has none of: test_probe_groups and test_probe_study ask them.
PROBES = {
    "compression",
    "layer_decoding",
    "layer_depth",
    "paired_depths",
    "perturbation",
    *(q for q in ALL if q.startswith(("noise_", "head_"))),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("queries"), rows=2400)


@pytest.fixture(scope="module")
def con(study: Path) -> duckdb.DuckDBPyConnection:
    con = connect(study)
    con.execute("SET threads = 1")  # so that sums of floats are the same each time
    return con


@pytest.fixture(scope="module")
def joined(study: Path) -> pd.DataFrame:
    store = TableStore(study / "tables")
    tables = {name: store.read(name).to_pandas() for name in ("models", "runs", "sequences", "continuations")}
    frequencies = store.read("frequencies").to_pandas().drop(columns="index")
    rows = tables["continuations"].merge(tables["runs"][["run_id", "model_id"]], on="run_id")
    rows = rows.merge(tables["models"], on="model_id").merge(tables["sequences"], on="sequence_id")
    return rows.merge(frequencies, on="sequence_id")


@pytest.fixture(scope="module")
def uniform(joined: pd.DataFrame) -> pd.DataFrame:
    return joined[joined["sample"] == "uniform"]


@pytest.fixture
def empty(tmp_path: Path) -> duckdb.DuckDBPyConnection:
    (tmp_path / "study.toml").write_text('index = "nowhere"\n', encoding="utf-8")
    return connect(tmp_path)


def frame(con: duckdb.DuckDBPyConnection, name: str, **parameters: str | float) -> pd.DataFrame:
    return run_query(con, name, **parameters).to_pandas()


def test_the_list_is_complete() -> None:
    assert tuple(list_queries()) == ALL
    assert queries_directory().name in ("queries", "_queries")


@pytest.mark.parametrize("name", ALL)
def test_every_query_is_described_and_answers_an_empty_study(
    empty: duckdb.DuckDBPyConnection, con: duckdb.DuckDBPyConnection, name: str
) -> None:
    query = load_query(name)
    assert query.title
    assert query.question.endswith("?")
    if name in ("domain_shares", "most_memorized_documents"):
        with pytest.raises(MemindexError, match="the index nowhere is not at"):
            run_query(empty, name)
        return
    nothing, something = run_query(empty, name), run_query(con, name)
    assert nothing.num_rows == 0
    assert (something.num_rows > 0) == (
        name not in PROBES and name not in PLANTED and name not in {"context_curve", "controls", "paired_rates"}
    )
    assert nothing.column_names == something.column_names
    figure = query.figure
    named = {figure.x.column, figure.y.column, *figure.interval, figure.series, figure.panel, figure.order}
    named |= {figure.reference.column, figure.label, figure.fit}
    assert named - {""} <= set(something.column_names)


@pytest.mark.parametrize("name", ALL)
def test_the_sql_shown_gives_the_same_answer(con: duckdb.DuckDBPyConnection, name: str) -> None:
    assert con.sql(load_query(name).literal_sql()).to_arrow_table().equals(run_query(con, name))


def by_document(rows: pd.DataFrame, column: str = "memorized") -> tuple[float, float]:
    """The interval of a column's mean, from the rows themselves; test_intervals tells whether it is right."""
    cluster = rows.groupby(["index", "shard", "document"]).ngroup()
    return rate_ends(rows[column].to_numpy(np.float64), cluster.to_numpy())


def test_t975_matches_published_tables(con: duckdb.DuckDBPyConnection) -> None:
    table = {1: 12.706, 2: 4.303, 4: 2.776, 10: 2.228, 11: 2.201, 12: 2.179, 20: 2.086, 30: 2.042, 120: 1.980}
    for degrees, expected in table.items():
        [(value,)] = con.execute(f"SELECT t975({degrees})").fetchall()
        assert value == pytest.approx(expected, abs=6e-4)


def test_rate_by_size(con: duckdb.DuckDBPyConnection, uniform: pd.DataFrame) -> None:
    answer = frame(con, "rate_by_size").set_index("run_label")
    assert len(answer) == len(MODELS)
    rates = uniform.groupby("model_id")["memorized"].agg(["sum", "size"])
    for model, (k, n) in rates.iterrows():
        ends = by_document(uniform[uniform["model_id"] == model])
        row = answer.loc[model]
        assert (row["memorized"], row["sequences"]) == (k, n)
        assert (row["rate"], row["rate_low"], row["rate_high"]) == pytest.approx((k / n, *ends))
    names = [name for name, architecture, _ in MODELS if architecture == "gpt_neox"]
    x = np.log10([size for _, architecture, size in MODELS if architecture == "gpt_neox"])
    y = (rates["sum"] / rates["size"])[names].to_numpy()
    (slope, intercept), covariance = np.polyfit(x, y, 1, cov=True)
    r2 = np.corrcoef(x, y)[0, 1] ** 2
    half = 4.302653 * math.sqrt(covariance[0, 0])
    chosen = uniform[uniform["model_id"].isin(names)]
    ends = slope_interval(
        np.log10(chosen["non_embedding_parameters"]).to_numpy(),
        chosen["model_id"].factorize()[0],
        chosen["memorized"].to_numpy(np.float64),
        chosen["document"].to_numpy(),
    )
    assert ends.low < slope < ends.high
    for name, fitted in zip(names, intercept + slope * x, strict=True):
        row = answer.loc[name]
        got = row[["slope_per_tenfold", "slope_models_low", "slope_models_high", "r2", "fitted"]].tolist()
        assert got == pytest.approx([slope, slope - half, slope + half, r2, fitted], rel=1e-6)
        assert row[["slope_low", "slope_high"]].tolist() == pytest.approx([ends.low, ends.high])
    assert answer.loc["other/7b", ["slope_per_tenfold", "r2", "fitted"]].isna().all()


@pytest.mark.parametrize("models", [1, 2, 3])
def test_few_models_or_equal_sizes_have_no_fit(tmp_path: Path, models: int) -> None:
    sizes = [1000, 2000] if models < 3 else [1000]
    named = tuple((f"m{i}", "llama", sizes[i % len(sizes)]) for i in range(models))
    answer = frame(connect(make_study(tmp_path, models=named, rows=80)), "rate_by_size")
    assert len(answer) == models
    assert answer[["slope_per_tenfold", "r2", "fitted"]].isna().all().all()


def test_seeds_of_one_size_are_one_point_of_the_fit(tmp_path: Path) -> None:
    names = [name for name, architecture, _ in MODELS if architecture == "gpt_neox"]
    study = make_study(tmp_path, rows=400)
    con = connect(study)
    rows = con.sql("SELECT * FROM memorization WHERE sample = 'uniform'").df()
    first = rows[rows["model_id"] == names[0]]
    # Another seed of the first size: as if its sequences came out the other way round.
    twin = first.assign(model_id="twin", run_label="twin", run_id="twin", memorized=~first["memorized"])
    both = pd.concat([rows, twin], ignore_index=True)
    con.register("with_twin", pa.Table.from_pandas(both, preserve_index=False))
    query = load_query("rate_by_size")
    answer = con.execute(query.sql.replace("FROM memorization\n", "FROM with_twin\n"), {"sample": "uniform"}).df()
    chosen = both[both["model_id"].isin([*names, "twin"])]
    rates = chosen.groupby(["non_embedding_parameters", "model_id"])["memorized"].mean().groupby(level=0).mean()
    x = np.log10(rates.index.to_numpy(float))
    slope, _ = np.polyfit(x, rates.to_numpy(), 1)
    found = answer[answer["run_label"].isin([*names, "twin"])]
    assert len(found) == len(names) + 1
    assert found["slope_per_tenfold"].to_numpy() == pytest.approx(slope)
    assert found["r2"].to_numpy() == pytest.approx(np.corrcoef(x, rates)[0, 1] ** 2)


def test_rate_by_frequency(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame) -> None:
    answer = frame(con, "rate_by_frequency")
    count = joined["sequence_count"]
    label = count.map(lambda n: "unseen" if n == 0 else f"{2 ** int(math.log2(n))}–{2 ** (int(math.log2(n)) + 1) - 1}")
    label = label.replace("1–1", "1")
    unseen = (joined["sample"] == "heldout") & (joined["suffix_count"] == 0)
    chosen = unseen | ((joined["sample"] == "bucket") & (count > 0))
    groups = joined[chosen].groupby(["model_id", label[chosen]])
    expected = groups["memorized"].agg(["size", "sum"])
    documents = groups.apply(lambda g: len(set(zip(g["index"], g["shard"], g["document"], strict=True))))
    assert len(answer) == len(expected)
    for row in answer.itertuples():
        n, k = expected.loc[(row.run_label, row.frequency)]
        assert (row.sequences, row.memorized, row.documents) == (n, k, documents.loc[(row.run_label, row.frequency)])
        ends = by_document(groups.get_group((row.run_label, row.frequency)))
        assert (row.rate, row.rate_low, row.rate_high) == pytest.approx((k / n, *ends))
    first = answer[answer["run_label"] == "small"]["frequency"].tolist()
    assert first[:4] == ["unseen", "1", "2–3", "4–7"]


def test_domain_shares(con: duckdb.DuckDBPyConnection, uniform: pd.DataFrame) -> None:
    answer = frame(con, "domain_shares").set_index(["run_label", "domain"])
    assert len(answer) == 25
    for (model, domain), row in answer.iterrows():
        rows = uniform[uniform["model_id"] == model]
        inside = rows["domain"] == domain
        in_sample, in_memorized = inside.mean(), inside[rows["memorized"]].mean()
        assert row["share_sample"] == pytest.approx(in_sample)
        assert row["share_memorized"] == pytest.approx(in_memorized)
        assert row["enrichment"] == pytest.approx(in_memorized / in_sample)
        assert (row["rate_low"], row["rate_high"]) == pytest.approx(by_document(rows[inside]))
        known = rows[rows["memorized"]]
        ends = by_document(known.assign(here=known["domain"] == domain), "here")
        assert (row["share_low"], row["share_high"]) == pytest.approx(ends)
        assert row["share_low"] < in_memorized < row["share_high"]
    assert frame(con, "domain_shares", domains=2)["domain"].nunique() == 2


def test_score_histogram(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame) -> None:
    answer = frame(con, "score_histogram")
    assert len(answer) == len(MODELS) * 2 * 11
    assert set(answer["sample"]) == {"uniform", "heldout"}
    exact = (joined["score"] * SUFFIX).round().astype(int)
    lower = exact.map(lambda right: right * 10 // SUFFIX)
    for (model, sample), rows in answer.groupby(["run_label", "sample"]):
        chosen = (joined["model_id"] == model) & (joined["sample"] == sample)
        expected = lower[chosen].value_counts(normalize=True).reindex(range(11), fill_value=0.0)
        assert rows["share"].tolist() == pytest.approx(expected.tolist())
        assert rows["score_from"].tolist() == pytest.approx(np.arange(11) / 10)
        assert rows["sequences"].sum() == chosen.sum()
        for number, row in enumerate(rows.itertuples()):
            ends = by_document(joined[chosen].assign(here=lower[chosen] == number), "here")
            assert (row.share_low, row.share_high) == pytest.approx(ends)
    assert frame(con, "score_histogram", bins="4")["score_from"].nunique() == 5


def test_frequency_of_memorized(con: duckdb.DuckDBPyConnection, uniform: pd.DataFrame) -> None:
    answer = frame(con, "frequency_of_memorized").set_index(["run_label", "outcome"])
    assert len(answer) == 15
    outcome = np.where(
        uniform["score"] == 1, "memorized", np.where(uniform["score"] == 0, "unmemorized", "half-memorized")
    )
    logs = np.log2(uniform["sequence_count"])
    expected = logs.groupby([uniform["model_id"], outcome]).agg(["size", "mean", "median"])
    for key, row in answer.iterrows():
        wanted = expected.loc[key]
        assert row["sequences"] == wanted["size"]
        assert row["mean_log2_count"] == pytest.approx(wanted["mean"])
        assert row["median_log2_count"] == pytest.approx(wanted["median"])
        chosen = (uniform["model_id"] == key[0]) & (outcome == key[1])
        ends = mean_ends(logs[chosen].to_numpy(), uniform["document"][chosen].to_numpy())
        assert (row["mean_low"], row["mean_high"]) == pytest.approx(ends)


def test_unseen_floor(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame) -> None:
    answer = frame(con, "unseen_floor").set_index(["run_label", "held_out"])
    assert len(answer) == 15
    heldout = joined[joined["sample"] == "heldout"]
    kind = np.where(heldout["sequence_count"] > 0, "whole sequence occurs", "suffix occurs, after other text")
    kind[heldout["suffix_count"] == 0] = "unseen (suffix never occurs)"
    groups = heldout.groupby(["model_id", kind])
    counted = groups["memorized"].agg(["size", "sum"])
    assert len(counted) == 15
    for (model, held_out), (n, k) in counted.iterrows():
        ends = by_document(groups.get_group((model, held_out)))
        row = answer.loc[(model, held_out)]
        assert (row["sequences"], row["memorized"]) == (n, k)
        assert (row["rate"], row["rate_low"], row["rate_high"]) == pytest.approx((k / n, *ends))
    for model, rows in heldout[heldout["sequence_count"] == 0].groupby("model_id"):
        row = answer.loc[(model, "suffix occurs, after other text")]
        assert row["sequences_up_to_here"] == len(rows)
        assert row["rate_up_to_here"] == pytest.approx(rows["memorized"].mean())
        ends = row["rate_up_to_here_low"], row["rate_up_to_here_high"]
        assert ends == pytest.approx(by_document(rows))
    whole = answer.xs("whole sequence occurs", level="held_out")
    assert whole["sequences_up_to_here"].tolist() == [len(heldout) / len(MODELS)] * len(MODELS)


def test_corpus_by_frequency(con: duckdb.DuckDBPyConnection, study: Path) -> None:
    answer = frame(con, "corpus_by_frequency")
    expected = TableStore(study / "tables").read("buckets").to_pandas()
    assert answer["corpus"].unique().tolist() == ["mini, 64 tokens"]
    assert answer["frequency"].tolist()[:3] == ["1", "2–3", "4–7"]
    for name in ("distinct", "sequences", "sampled"):
        assert answer[name].tolist() == expected[name].tolist()
    assert answer["share"].tolist() == pytest.approx((expected["sequences"] / expected["sequences"].sum()).tolist())
    assert answer["share_distinct"].sum() == pytest.approx(1)


def test_a_study_without_a_bucket_sample_has_no_buckets(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=40, models=MODELS[:1])
    TableStore(study / "tables").file("buckets", "all").unlink()
    con = connect(study)
    assert frame(con, "corpus_by_frequency").empty
    assert con.sql("SELECT count(*) FROM buckets").fetchall() == [(0,)]
    assert len(frame(con, "rate_by_size")) == 1


def test_most_memorized_documents(con: duckdb.DuckDBPyConnection, joined: pd.DataFrame) -> None:
    answer = frame(con, "most_memorized_documents", documents=5)
    seen = joined[joined["sample"] == "uniform"]
    by_sequence = seen.groupby(["document", "sequence_id"])["memorized"].any()
    expected = by_sequence.groupby("document").agg(["sum", "size"]).sort_values("sum", ascending=False)
    assert answer["memorized"].tolist() == expected["sum"].head(5).tolist()
    for row in answer.itertuples():
        assert (row.memorized, row.sequences) == tuple(expected.loc[row.document])
        assert row.path == f"corpus/{row.document or '<script>alert(1)</script>'}.jsonl"
        assert row.line == row.document + 1


def test_overlap(con: duckdb.DuckDBPyConnection, uniform: pd.DataFrame) -> None:
    answer = frame(con, "overlap")
    known = {m: set(g.loc[g["memorized"], "sequence_id"]) for m, g in uniform.groupby("model_id")}
    keys = ["index", "shard", "document", "sequence_id"]
    marks = uniform.pivot(index=keys, columns="model_id", values="memorized").reset_index()
    order = [name for name, _, _ in sorted(MODELS, key=lambda model: model[2])]
    pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
    assert list(zip(answer["smaller"], answer["larger"], strict=True)) == pairs
    for row in answer.itertuples():
        small, large = known[row.smaller], known[row.larger]
        both = len(small & large)
        assert row.precision == pytest.approx(both / len(small))
        assert row.recall == pytest.approx(both / len(large))
        assert row.jaccard == pytest.approx(both / len(small | large))
        pair = marks[["index", "shard", "document"]].assign(a=marks[row.smaller], b=marks[row.larger])
        assert (row.precision_low, row.precision_high) == pytest.approx(by_document(pair[pair["a"]], "b"))
        assert (row.recall_low, row.recall_high) == pytest.approx(by_document(pair[pair["b"]], "a"))
        either = pair[pair["a"] | pair["b"]]
        either = either.assign(both=either["a"] & either["b"])
        assert (row.jaccard_low, row.jaccard_high) == pytest.approx(by_document(either, "both"))
        gained = pair["b"].astype(float) - pair["a"]
        assert row.rate_difference == pytest.approx(gained.mean())
        ends = mean_ends(gained.to_numpy(), pair["document"].to_numpy())
        assert (row.rate_difference_low, row.rate_difference_high) == pytest.approx(ends)


def test_a_model_that_memorized_nothing_has_no_shares(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=80, models=MODELS[:2])
    store = TableStore(study / "tables")
    rows = store.read("continuations").to_pandas()
    rows = rows[rows["run_id"] == "small-run"].assign(memorized=False, score=0.0)
    store.write("continuations", "small-run", {name: rows[name].tolist() for name in rows})
    con = connect(study)
    assert frame(con, "overlap")["precision"].isna().all()
    shares = frame(con, "domain_shares").set_index("run_label").loc["small"]
    assert shares["share_memorized"].isna().all()
    assert not shares["share_sample"].isna().any()


def test_parameters_are_values_never_sql(con: duckdb.DuckDBPyConnection) -> None:
    assert run_query(con, "rate_by_size", sample="' OR true --").num_rows == 0
    with pytest.raises(QueryError, match="has no parameter 'smaple'; did you mean sample"):
        run_query(con, "rate_by_size", smaple="uniform")
    with pytest.raises(QueryError, match="bins must be a whole number, not 'ten'"):
        run_query(con, "score_histogram", bins="ten")


def test_an_open_result_does_not_stop_a_query(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("SELECT * FROM range(100000)").fetchone()
    assert run_query(con, "rate_by_size").num_rows == len(MODELS)
    con.execute("SELECT 1").fetchall()


def test_duckdb_errors_become_one_line(con: duckdb.DuckDBPyConnection) -> None:
    query = parse_query("mine", "-- title: Mine\n-- question: What?\nSELECT nothing FROM memorization")
    with pytest.raises(MemindexError, match="nothing") as caught:
        run_query(con, query)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT 1", "the header title is missing"),
        ("-- title: A\n-- question: B?", "no statement below the header"),
        ("-- title: A\n-- question: B?\n-- figrue: line\nSELECT 1", "unknown header figrue"),
        ("-- title: A\n-- question: B?\n-- figure: pie\nSELECT 1", "figure 'pie' is none of points"),
        ("-- title: A\n-- question: B?\nSELECT $a", r"declares \[\] but uses \['a'\]"),
    ],
)
def test_a_bad_query_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(MemindexError, match=message):
        parse_query("mine", text)


def test_an_unknown_query_names_the_known_ones(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(MemindexError, match="there is no query 'rates'; did you mean "):
        run_query(con, "rates")
