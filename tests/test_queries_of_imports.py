"""The queries on runs that were imported as scores alone, without tokens, and of checkpoints known by their names."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from synthetic_study import MODELS, SUFFIX, make_study, model_row, run_row

from memindex.errors import MemindexError
from memindex.importers.results import from_score
from memindex.report import families_of
from memindex.sql.connection import connect
from memindex.sql.queries import run_query
from memindex.tables.schema import CONTINUATIONS, SEQUENCES
from memindex.tables.store import TableStore

ROWS = 80
RIGHT = np.random.default_rng(5).integers(0, SUFFIX + 1, ROWS)
RIGHT[::4] = SUFFIX

#: model_id, revision, trained tokens, size
IMPORTED = (
    ("pythia@step99000", "step99000", None, 1000),
    ("pythia@step143000", "step143000", None, 1000),
    ("bloom", None, None, None),
)


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    study = make_study(tmp_path_factory.mktemp("imports"), rows=120, models=MODELS[:1])
    store = TableStore(study / "tables")
    ids = np.arange(ROWS) + 10**12
    unknown = {column.name: pa.nulls(ROWS, column.type) for column in SEQUENCES.columns}
    store.write("sequences", "import", unknown | {"sequence_id": ids, "sample": ["imported"] * ROWS})
    for place, (name, revision, tokens, size) in enumerate(IMPORTED):
        facts = {"revision": [revision], "trained_tokens": [tokens], "non_embedding_parameters": [size]}
        store.write("models", name, model_row(name, "", 0) | facts | {"architecture": [None]})
        store.write("runs", name, run_row(name, name, ROWS, 0) | {"made_by": ["mynlp"]})
        known = from_score(np.where(np.arange(ROWS) % (place + 2), RIGHT, 0) / SUFFIX, SUFFIX, None)
        names = {"run_id": [name] * ROWS, "sequence_id": ids}
        nothing = {column.name: pa.nulls(ROWS, column.type) for column in CONTINUATIONS.columns}
        store.write("continuations", name, nothing | names | known)
    return connect(study)


def frame(con: duckdb.DuckDBPyConnection, name: str) -> pd.DataFrame:
    return run_query(con, name, sample="imported").to_pandas()


def test_scores_alone_do_not_tell_how_near_the_others_came(con: duckdb.DuckDBPyConnection) -> None:
    answer = frame(con, "approximate")
    assert answer["likeness"].tolist() == ["exact"] * len(IMPORTED)
    expected = [np.mean((RIGHT == SUFFIX) & (np.arange(ROWS) % (place + 2) > 0)) for place in range(len(IMPORTED))]
    rates = answer.set_index("run_label")["rate"]
    assert [rates[name] for name, *_ in IMPORTED] == pytest.approx(expected)
    assert len(run_query(con, "approximate")) == 4


def test_a_score_has_its_bin_without_tokens(con: duckdb.DuckDBPyConnection) -> None:
    answer = run_query(con, "score_histogram").to_pandas()
    rows = answer[answer["run_label"] == IMPORTED[0][0]]
    right = np.where(np.arange(ROWS) % 2, RIGHT, 0)
    assert rows["sequences"].tolist() == np.bincount(right * 10 // SUFFIX, minlength=11).tolist()
    assert rows["share"].sum() == pytest.approx(1)
    with pytest.raises(MemindexError, match="bins must be 1 or more"):
        run_query(con, "score_histogram", bins=0)


def test_numbers_in_revisions_order_checkpoints_of_unknown_training(con: duckdb.DuckDBPyConnection) -> None:
    early, late, other = (name for name, *_ in IMPORTED)
    answer = frame(con, "predictors")
    assert set(zip(answer["predictor"], answer["target"], strict=True)) == {(early, late)}
    assert families_of(con).member(late).number == families_of(con).member(early).number + 1
    pairs = frame(con, "overlap")
    assert list(zip(pairs["smaller"], pairs["larger"], strict=True)) == [(other, early), (other, late), (early, late)]


def test_a_checkpoint_takes_no_part_in_a_fit_beside_the_finished_model(tmp_path: Path) -> None:
    study = make_study(tmp_path, rows=200, models=MODELS[:4])
    store = TableStore(study / "tables")
    [(_, architecture, size)] = [model for model in MODELS if model[0] == "middle"]
    fit = run_query(connect(study), "rate_by_size").to_pandas().set_index("run_label")
    finished = model_row("middle", architecture, size) | {"trained_tokens": [None]}
    early = model_row("middle@step1", architecture, size) | {"revision": ["step1"], "trained_tokens": [10**7]}
    store.write("models", "middle", finished)
    store.write("models", "middle@step1", early)
    store.write("runs", "early", run_row("early", "middle@step1", 200, 0))
    rows = store.read("continuations", units=["middle-run"]).to_pydict()
    nothing = {"run_id": ["early"] * 200, "memorized": [False] * 200, "score": [0.0] * 200}
    store.write("continuations", "early", rows | nothing)
    answer = run_query(connect(study), "rate_by_size").to_pandas().set_index("run_label")
    assert "middle@step1" in answer.index
    assert answer["slope_per_tenfold"].to_numpy() == pytest.approx(fit["slope_per_tenfold"].iloc[0])
    assert answer.loc["large", "fitted"] == pytest.approx(fit.loc["large", "fitted"])


def test_checkpoints_are_sorted_by_tokens_then_by_their_names(con: duckdb.DuckDBPyConnection) -> None:
    unknown = "(6, NULL, NULL), (1, NULL, 'main'), (3, NULL, 'step143000'), (2, NULL, 'step99000')"
    rows = f"(4, 5, 'step9'), {unknown}, (5, 9, NULL)"
    asked = f"SELECT place FROM (VALUES {rows}) AS t(place, tokens, revision) ORDER BY training_order(tokens, revision)"
    assert [place for (place,) in con.execute(asked).fetchall()] == [1, 2, 3, 4, 5, 6]
