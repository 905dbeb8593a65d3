"""Runs of every protocol: the two views, and the queries that compare runs, against pandas on the store's files."""

from __future__ import annotations

import math
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from leave_one_out import mean_ends
from leave_one_out import rate_ends as ends_of_rate
from synthetic_study import MODELS, SUFFIX, add_protocols, make_study

from memindex.report import write_report
from memindex.sql.connection import connect
from memindex.sql.queries import list_queries, run_query
from memindex.tables.store import TableStore

CONTROLS = ["shuffled-suffixes", "untrained", "other-corpus"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = make_study(tmp_path_factory.mktemp("protocols"), models=MODELS[:2], rows=800)
    add_protocols(study, rows=800)
    return study


@pytest.fixture(scope="module")
def con(study: Path) -> duckdb.DuckDBPyConnection:
    return connect(study)


@pytest.fixture(scope="module")
def rows(study: Path) -> pd.DataFrame:
    store = TableStore(study / "tables")
    names = ("continuations", "sequences", "runs", "models", "frequencies")
    tables = {name: store.read(name).to_pandas() for name in names}
    joined = tables["continuations"].merge(tables["sequences"], on="sequence_id")
    joined = joined.merge(tables["runs"].drop(columns="sequences"), on="run_id").merge(tables["models"], on="model_id")
    joined = joined.merge(tables["frequencies"].drop(columns="index"), on="sequence_id", how="left")
    whole = joined["prefix"].map(len) == joined["prefix_length"]
    whole &= joined["suffix"].map(len) == joined["suffix_length"]
    joined["main"] = joined["control"].isna() & (joined["decoding"] == "greedy") & whole
    documents = joined["index"].astype(str) + joined["document"].astype(str)
    joined["cluster"] = np.where(joined["document"].isna(), joined["sequence_id"].astype(str), documents)
    return joined


def frame(con: duckdb.DuckDBPyConnection, name: str, **parameters: str) -> pd.DataFrame:
    return run_query(con, name, **parameters).to_pandas()


def rate_ends(rows: pd.DataFrame, column: str = "memorized") -> tuple[float, float]:
    return ends_of_rate(rows[column].to_numpy(np.float64), rows["cluster"].factorize()[0])


def test_the_views_tell_the_main_protocol_from_the_others(con: duckdb.DuckDBPyConnection, rows: pd.DataFrame) -> None:
    for view, expected in (("memorization", rows[rows["main"]]), ("memorization_runs", rows)):
        found = con.sql(f"SELECT run_id, count(*), count(DISTINCT sequence_id) FROM {view} GROUP BY 1").fetchall()
        counts = expected.groupby("run_id").size()
        assert {run: n for run, n, _ in found} == counts.to_dict()
        assert all(n == distinct for _, n, distinct in found)
    assert 0 < rows["main"].sum() < len(rows)
    assert con.sql("SELECT DISTINCT control FROM memorization_runs ORDER BY 1").fetchall() == [
        *((name,) for name in sorted(CONTROLS)),
        (None,),
    ]


def test_labels_name_the_run_where_the_view_has_several_of_the_model(con: duckdb.DuckDBPyConnection) -> None:
    main = con.sql("SELECT DISTINCT run_id, run_label FROM memorization").fetchall()
    assert dict(main) == {
        "small-run": "small (small-run)",
        "small import": "small (small import)",
        "middle-run": "middle",
    }
    every = dict(con.sql("SELECT DISTINCT run_id, run_label FROM memorization_runs").fetchall())
    assert every["small 4+32"] == "small (small 4+32)"
    assert every["middle-run"] == "middle"


def test_a_run_of_another_protocol_does_not_lengthen_the_label(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=MODELS[:1], rows=40)
    add_protocols(study, rows=40)
    for table in ("sequences", "frequencies"):
        TableStore(study / "tables").file(table, "import").unlink()
    TableStore(study / "tables").file("runs", "small import").unlink()
    assert connect(study).sql("SELECT DISTINCT run_label FROM memorization").fetchall() == [("small",)]


def test_columns_are_derived_from_the_tables(con: duckdb.DuckDBPyConnection, rows: pd.DataFrame) -> None:
    found = con.sql("SELECT * FROM memorization_runs").df().set_index(["run_id", "sequence_id"]).sort_index()
    expected = rows.set_index(["run_id", "sequence_id"]).sort_index()
    assert found.index.equals(expected.index)
    near = (
        expected["memorized"]
        | (expected["bleu"] > 0.75)
        | (expected["edit_distance"] <= 0.1 * expected["suffix_length"])
    )
    assert (found["approximate"] == near).all()
    assert near.sum() > expected["memorized"].sum()
    assert np.allclose(found["p_z"], np.exp(expected["suffix_logprob"].astype(np.float64)))
    top40 = np.exp(expected["suffix_logprob_top40"].astype(np.float64))
    assert np.allclose(found["p_z_top40"], top40, atol=0)
    assert (found["discoverable_n"].isna() == (top40 == 0)).all()
    some = found["discoverable_n"][top40 > 1e-8]
    log = np.log1p(-top40[top40 > 1e-8].clip(upper=1 - 1e-16))
    assert (
        (some * log <= math.log(0.5) * (1 - 1e-9)) & (((some - 1) * log >= math.log(0.5) * (1 + 1e-9)) | (some == 1))
    ).all()
    for part, tokens in (("prefix", expected["prefix_length"] - 1), ("suffix", expected["suffix_length"])):
        perplexity = np.exp(-expected[f"{part}_logprob"].astype(np.float64) / tokens)
        assert np.allclose(found[f"{part}_perplexity"], perplexity)
    short = con.sql(
        "SELECT DISTINCT prefix_length, len(prefix), len(suffix) FROM memorization_runs ORDER BY 1"
    ).fetchall()
    assert short == [(4, 4, 32), (8, 8, 32), (16, 16, 32), (32, 32, 32), (50, 50, 32)]
    given = expected.loc[("small 4+32", 5), "prefix"]
    assert found.loc[("small 4+32", 5), "prefix"].tolist() == given.tolist()[-4:]


def test_one_token_of_context_has_no_perplexity(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=MODELS[:1], rows=40)
    store = TableStore(study / "tables")
    store.write("runs", "small-run", store.read("runs").to_pydict() | {"prefix_length": [1], "suffix_length": [8]})
    con = connect(study)
    assert con.sql("SELECT count(*) FROM memorization").fetchall() == [(0,)]
    answer = con.sql("SELECT count(*), count(prefix_perplexity), max(len(suffix)) FROM memorization_runs").fetchall()
    assert answer == [(40, 0, 8)]


def test_the_main_protocol_is_that_of_each_sequence(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=MODELS[:1], rows=40)
    store = TableStore(study / "tables")
    first = store.read("sequences").slice(0, 1).to_pydict()
    store.write("sequences", "short", first | {"sequence_id": [999], "suffix": [first["suffix"][0][:8]]})
    rows = store.read("continuations").slice(0, 2).to_pydict()
    store.write("continuations", "half", rows | {"run_id": ["half"] * 2, "sequence_id": [0, 999]})
    store.write("runs", "half", store.read("runs").to_pydict() | {"run_id": ["half"], "suffix_length": [8]})
    con = connect(study)
    assert con.sql("SELECT sequence_id FROM memorization WHERE run_id = 'half'").fetchall() == [(999,)]
    assert con.sql("SELECT count(*) FROM memorization").fetchall() == [(41,)]


def test_what_an_importer_does_not_know_is_null(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=MODELS[:1], rows=40)
    store = TableStore(study / "tables")
    unknown = ("suffix_logprob", "suffix_logprob_top40", "prefix_logprob", "token_logprobs", "token_ranks")
    store.write(
        "continuations", "small-run", store.read("continuations").to_pydict() | {n: [None] * 40 for n in unknown}
    )
    models = store.read("models").to_pydict()
    store.write(
        "models", "small", models | {n: [None] for n in ("architecture", "non_embedding_parameters", "parameters")}
    )
    columns = ", ".join(
        f"count({n})" for n in ("p_z", "p_z_top40", "discoverable_n", "prefix_perplexity", "suffix_perplexity")
    )
    assert connect(study).sql(f"SELECT count(*), {columns} FROM memorization").fetchall() == [(40, 0, 0, 0, 0, 0)]
    text = write_report(study).read_text(encoding="utf-8")
    assert "small continued" in text
    assert 'id="discoverable"' not in text
    assert 'id="perplexity_of_memorized"' not in text


def test_a_run_of_sequences_of_many_lengths_takes_each_as_it_is(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=MODELS[:1], rows=40)
    store = TableStore(study / "tables")
    first = store.read("sequences").slice(0, 1).to_pydict()
    short = {"sequence_id": [999], "prefix": [first["prefix"][0][:5]], "suffix": [first["suffix"][0][:8]]}
    store.write("sequences", "short", first | short)
    rows = store.read("continuations").slice(0, 2).to_pydict()
    told = {"suffix_logprob": [-8.0] * 2, "prefix_logprob": [-4.0] * 2, "memorized": [False] * 2, "bleu": [0.0] * 2}
    near = {"run_id": ["any"] * 2, "sequence_id": [0, 999], "edit_distance": [1, 1]}
    store.write("continuations", "any", rows | told | near)
    lengths = {"run_id": ["any"], "prefix_length": [None], "suffix_length": [None]}
    store.write("runs", "any", store.read("runs").to_pydict() | lengths)
    whole = (len(first["prefix"][0]), 32, True, math.exp(8 / 32), math.exp(4 / (len(first["prefix"][0]) - 1)))
    query = "SELECT len(prefix), len(suffix), approximate, suffix_perplexity, prefix_perplexity FROM memorization"
    found = connect(study).sql(f"{query} WHERE run_id = 'any' ORDER BY sequence_id").fetchall()
    assert found == [pytest.approx(row) for row in (whole, (5, 8, False, math.exp(1), math.exp(1)))]


def test_the_study_s_tokens_are_not_those_of_a_model_that_read_others(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=MODELS[:1], rows=40)
    store = TableStore(study / "tables")
    store.write("runs", "small-run", store.read("runs").to_pydict() | {"retokenized": [True]})
    counted = "count(*), count(prefix), count(suffix), count(continuation), count(suffix_perplexity)"
    assert connect(study).sql(f"SELECT {counted} FROM memorization").fetchall() == [(40, 0, 0, 40, 40)]


def test_every_document_is_a_cluster_and_so_is_a_sequence_without_one(con: duckdb.DuckDBPyConnection) -> None:
    grouped = con.sql(
        """SELECT cluster, count(DISTINCT sequence_id), count(DISTINCT ("index", shard, document)), any_value(document)
           FROM memorization_runs GROUP BY 1"""
    ).fetchall()
    documents = con.sql('SELECT count(DISTINCT ("index", shard, document)) FROM sequences WHERE document IS NOT NULL')
    alone = [row for row in grouped if row[3] is None]
    assert len(alone) == 50
    assert all(sequences == 1 for _, sequences, _, _ in alone)
    assert len(grouped) - 50 == documents.fetchall()[0][0]
    assert all(n == 1 for _, _, n, document in grouped if document is not None)


def test_imported_sequences_take_the_place_of_samples(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=MODELS[:1], rows=40)
    add_protocols(study, rows=40)
    store = TableStore(study / "tables")
    for table in ("sequences", "frequencies"):
        store.file(table, "all").unlink()
    con = connect(study)
    answer = frame(con, "rate_by_frequency")
    assert answer["sequences"].sum() == con.sql("SELECT count_if(sequence_count > 0) FROM frequencies").fetchall()[0][0]
    assert (answer["documents"] == answer["sequences"]).all()
    assert frame(con, "rate_by_size").empty
    assert frame(con, "rate_by_size", sample="imported")["sequences"].tolist() == [50]
    assert frame(con, "domain_shares", sample="imported")["domain"].tolist() == ["unknown"]
    assert frame(con, "most_memorized_documents").empty


def test_context_curve(con: duckdb.DuckDBPyConnection, rows: pd.DataFrame) -> None:
    answer = frame(con, "context_curve")
    assert answer["curve"].tolist() == ["small"] * 4
    assert answer["prefix_length"].tolist() == [4, 8, 16, 32]
    for row in answer.itertuples():
        run = "small-run" if row.prefix_length == 32 else f"small {row.prefix_length}+32"
        chosen = rows[(rows["run_id"] == run) & (rows["sample"] == "uniform")]
        assert (row.sequences, row.memorized) == (len(chosen), chosen["memorized"].sum())
        assert row.rate == pytest.approx(chosen["memorized"].mean())
        assert row.mean_score == pytest.approx(chosen["score"].mean())
        assert (row.rate_low, row.rate_high) == pytest.approx(rate_ends(chosen))


def test_curves_of_other_suffixes_and_types_are_told_apart(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=MODELS[:1], rows=40)
    store = TableStore(study / "tables")
    run, rows = store.read("runs").to_pydict(), store.read("continuations").to_pydict()
    others = ((8, 32, "float32"), (8, 16, "float32"), (4, 16, "float32"), (8, 32, "bfloat16"), (4, 32, "anew"))
    for prefix, suffix, kind in others:
        name, dtype = f"{prefix}+{suffix} {kind}", "float32" if kind == "anew" else kind
        protocol = {"run_id": [name], "prefix_length": [prefix], "suffix_length": [suffix], "dtype": [dtype]}
        protocol["retokenized"] = [kind == "anew"]
        store.write("runs", name, run | protocol)
        store.write("continuations", name, rows | {"run_id": [name] * 40})
    curves = frame(connect(study), "context_curve")
    assert list(zip(curves["curve"], curves["prefix_length"], strict=True)) == [
        ("small, 16 suffix tokens", 4),
        ("small, 16 suffix tokens", 8),
        ("small, 32 suffix tokens", 8),
        ("small, 32 suffix tokens", 32),
    ]


def test_controls(con: duckdb.DuckDBPyConnection, rows: pd.DataFrame) -> None:
    answer = frame(con, "controls")
    names = [("small", c) for c in ("the run", "unseen text", "shuffled suffixes", "untrained")]
    assert list(zip(answer["model"], answer["condition"], strict=True)) == [*names, ("stranger", "other corpus")]
    uniform = rows[rows["sample"] == "uniform"].set_index("sequence_id")
    own = uniform[uniform["run_id"] == "small-run"]
    unseen = rows[(rows["run_id"] == "small-run") & (rows["sample"] == "heldout") & (rows["suffix_count"] == 0)]
    for row in answer.itertuples():
        chosen = unseen if row.condition == "unseen text" else uniform[uniform["run_id"] == row.run_id]
        assert (row.sequences, row.memorized) == (len(chosen), chosen["memorized"].sum())
        assert (row.rate, row.mean_score) == pytest.approx((chosen["memorized"].mean(), chosen["score"].mean()))
        assert (row.rate_low, row.rate_high) == pytest.approx(rate_ends(chosen))
        assert (row.mean_score_low, row.mean_score_high) == pytest.approx(rate_ends(chosen, "score"), nan_ok=True)
        if row.condition in {"shuffled suffixes", "untrained"}:
            excess = own["memorized"].astype(float) - chosen["memorized"]
            ends = mean_ends(excess.to_numpy(), own["cluster"].factorize()[0])
            assert row.rate_excess == pytest.approx(excess.mean())
            assert (row.rate_excess_low, row.rate_excess_high) == pytest.approx(ends)
        else:
            assert math.isnan(row.rate_excess)


def test_a_control_is_compared_with_the_run_of_its_own_settings(tmp_path: Path) -> None:
    """Two sampled runs with one seed: the excess over the control of one must not mix in the other."""
    study = make_study(tmp_path, models=MODELS[:1], rows=40)
    store = TableStore(study / "tables")
    run, rows = store.read("runs").to_pydict(), store.read("continuations").to_pydict()
    sampled = {"decoding": ["sampled"], "seed": [1], "temperature": [1.0]}
    for name, top_k, control, memorized in (
        ("some", 40, None, True),
        ("all", None, None, False),
        ("shuffled", 40, "shuffled-suffixes", False),
    ):
        store.write("runs", name, run | sampled | {"run_id": [name], "top_k": [top_k], "control": [control]})
        store.write("continuations", name, rows | {"run_id": [name] * 40, "memorized": [memorized] * 40})
    answer = frame(connect(study), "controls").set_index("run_id")
    assert answer.loc["shuffled", "rate_excess"] == 1


def test_discoverable(con: duckdb.DuckDBPyConnection, rows: pd.DataFrame) -> None:
    answer = frame(con, "discoverable")
    main = rows[rows["main"] & (rows["sample"] == "uniform")]
    assert len(answer) == 2 * 2 * 7
    for row in answer.itertuples():
        chosen = main[main["run_id"] == ("middle-run" if row.run_label == "middle" else "small-run")]
        p_z = np.exp(chosen["suffix_logprob_top40"].astype(np.float64))
        found = chosen.assign(found=-np.expm1(row.n * np.log1p(-p_z.clip(upper=1 - 1e-16))) >= row.p)
        assert (row.sequences, row.discoverable) == (len(chosen), found["found"].sum())
        assert row.rate == pytest.approx(found["found"].mean())
        assert (row.rate_low, row.rate_high) == pytest.approx(rate_ends(found, "found"))
    assert answer["n"].unique().tolist() == [10**i for i in range(7)]
    assert answer["rate"].nunique() > 14


def test_approximate(con: duckdb.DuckDBPyConnection, rows: pd.DataFrame) -> None:
    answer = frame(con, "approximate")
    main = rows[(rows["run_id"] == "middle-run") & (rows["sample"] == "uniform")]
    bleu, edits = main["bleu"] > 0.75, main["edit_distance"] <= 0.1 * SUFFIX
    expected = [main["memorized"], bleu, edits, bleu | edits]
    found = answer[answer["run_label"] == "middle"]
    assert found["likeness"].tolist() == ["exact", "BLEU above 0.75", "edits up to a tenth", "either"]
    for row, holds in zip(found.itertuples(), expected, strict=True):
        assert (row.sequences, row.continuations) == (len(main), holds.sum())
        assert row.rate == pytest.approx(holds.mean())
        assert (row.rate_low, row.rate_high) == pytest.approx(rate_ends(main.assign(holds=holds), "holds"))
    assert len({holds.sum() for holds in expected}) > 2


def test_perplexity_of_memorized(con: duckdb.DuckDBPyConnection, rows: pd.DataFrame) -> None:
    answer = frame(con, "perplexity_of_memorized").set_index(["run_label", "part", "outcome"])
    assert len(answer) == 12
    main = rows[(rows["run_id"] == "middle-run") & (rows["sample"] == "uniform")]
    outcome = np.where(main["score"] == 1, "memorized", np.where(main["score"] == 0, "unmemorized", "half-memorized"))
    for part, tokens in (("prefix", 31), ("suffix", 32)):
        perplexity = np.exp(-main[f"{part}_logprob"].astype(np.float64) / tokens)
        quartiles = perplexity.groupby(outcome).quantile([0.25, 0.5, 0.75]).unstack()
        for name, expected in quartiles.iterrows():
            row = answer.loc[("middle", part, name)]
            got = row[["first_quartile", "median_perplexity", "third_quartile"]].tolist()
            assert got == pytest.approx(expected.tolist())
            assert row["sequences"] == (outcome == name).sum()


def test_checkpoints_overlap_in_the_order_of_their_training(tmp_path: Path) -> None:
    size = MODELS[0][2]
    study = make_study(tmp_path, models=(("step9", "llama", size), ("step10", "llama", size)), rows=200)
    store = TableStore(study / "tables")
    for tokens, name in ((9, "step9"), (10, "step10")):
        [model] = [row for row in store.read("models").to_pylist() if row["model_id"] == name]
        store.write("models", name, {key: [value] for key, value in (model | {"trained_tokens": tokens}).items()})
    answer = frame(connect(study), "overlap")
    assert answer[["smaller", "larger"]].to_numpy().tolist() == [["step9", "step10"]]


def test_published_families_are_fitted_apart(tmp_path: Path) -> None:
    names = [(f"{family}-{size}", "llama", size * 10**6) for family in ("a", "b") for size in (1, 10, 100)]
    study = make_study(tmp_path, models=tuple(names), rows=200)
    store = TableStore(study / "tables")
    for row in store.read("models").to_pylist():
        family = row | {"family": row["model_id"][0]}
        store.write("models", row["model_id"], {key: [value] for key, value in family.items()})
    answer = frame(connect(study), "rate_by_size").groupby("family")
    for name, rows in answer:
        x, y = np.log10(rows["non_embedding_parameters"]), rows["rate"]
        assert rows["slope_per_tenfold"].to_numpy() == pytest.approx(np.polyfit(x, y, 1)[0])
        assert rows["run_label"].str.startswith(name).all()
    assert len(answer) == 2


@pytest.mark.slow
def test_the_report_has_every_question_that_has_an_answer(study: Path) -> None:
    text = write_report(study).read_text(encoding="utf-8")
    con = connect(study)
    answered = {name for name in list_queries() if run_query(con, name).num_rows}
    assert len(answered) > 12
    for name in answered:
        assert f'<section id="{name}">' in text
    assert "continued" in text.split("<p class=summary>")[1].split("</p>")[0]
