"""The demo at a tiny size: it goes through every station, goes on where it was stopped, and its page is whole."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from notebook_cells import run_notebook
from synthetic_study import PLANTED

pytest.importorskip("torch", reason="the demo trains models")

from memindex.errors import MemindexError
from memindex.report import write_report
from memindex.sql.connection import connect
from memindex.sql.queries import list_queries, run_query
from memindex.study.config import SequenceConfig, load_study
from memindex.study.demo import DemoPlan, run_demo
from memindex.study.demo_corpus import CorpusPlan, write_corpus

TINY = DemoPlan(
    corpus=CorpusPlan(standard_library=60_000, packages=2, package=60_000, heldout_share=0.2),
    vocabulary=400,
    sizes=("5k", "10k"),
    passes=0.5,
    context=64,
    sequences=SequenceConfig(prefix=8, suffix=8, uniform=100, per_bucket=10, heldout=50),
    probes=(),
)

pytestmark = pytest.mark.slow


DOCS = Path(__file__).resolve().parent.parent / "docs"


def nothing(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    target = tmp_path_factory.mktemp("demo") / "demo"
    study = run_demo(target, TINY, nothing, nothing, "cpu")
    return target, study


def test_every_station_leaves_its_tables(finished):
    target, study = finished
    con = connect(study)
    rows = con.execute("SELECT run_id, count(*), count(sequence_count) FROM memorization GROUP BY ALL").fetchall()
    assert len(rows) == 2
    assert all(n == counted > 150 for _, n, counted in rows)
    trained = con.execute("SELECT trained_tokens FROM models").fetchall()
    assert trained[0] == trained[1]
    assert con.execute("SELECT count(DISTINCT domain) FROM documents").fetchall() == [(3,)]
    unseen = con.execute("SELECT count(*), max(suffix_count) FROM memorization WHERE unseen").fetchall()[0]
    assert unseen[0] > 0
    assert unseen[1] == 0
    assert run_query(con, "rate_by_frequency").num_rows > 4
    empty = {name for name in list_queries() if not run_query(con, name).num_rows}
    # No probe was run: models this small know nothing by heart that it could look at.
    probes = {"compression", "layer_decoding", "layer_depth", "paired_depths", "perturbation"}
    probes |= {name for name in empty if name.startswith(("noise_", "head_"))}
    assert empty <= probes | PLANTED | {"most_memorized_documents", "paired_rates"}
    con.close()
    assert (target / "python" / "index.json").is_file()
    assert load_study(study).name == "demo"


def test_the_report_is_one_page_without_anything_from_elsewhere(finished):
    page = write_report(finished[1]).read_text(encoding="utf-8")
    assert "Memorization rate by frequency" in page
    assert "<svg" in page
    assert "<script" not in page
    assert "src=" not in page


def test_the_notebook_runs_on_the_demo(finished, monkeypatch, tmp_path):
    import matplotlib as mpl
    import pandas as pd

    monkeypatch.setenv("MEMINDEX_STUDY", str(finished[1]))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mpl.use("agg")
    shown = run_notebook(DOCS / "notebook.ipynb")
    assert shown["models"]["run_label"].tolist() == ["gpt_neox-5k", "gpt_neox-10k"]
    assert shown["models"]["sequences"].tolist() == [100, 100]
    assert shown["shares"].groupby("run_label").size().tolist() == [3, 3]
    rates = shown["question"]
    assert set(rates["run_label"]) == {"gpt_neox-5k", "gpt_neox-10k"}
    assert ((rates["low"] <= rates["rate"]) & (rates["rate"] <= rates["high"])).all()
    (axes,) = shown["figure"].axes
    assert len(axes.get_legend().get_texts()) == 2
    counts = shown["counts"]
    assert counts["count"].is_monotonic_decreasing
    assert isinstance(counts, pd.DataFrame)
    assert len(counts) == 5
    assert shown["saved"].read_bytes().startswith(b"\x89PNG")


def test_a_stopped_demo_goes_on_without_doing_anything_twice(finished):
    target, study = finished
    shutil.rmtree(study / "tables" / "runs")
    shutil.rmtree(target / "models" / "gpt_neox-10k")
    kept = {f: f.stat().st_mtime_ns for part in ("corpus", "python") for f in (target / part).rglob("*")}
    before = {f: f.read_bytes() for f in (study / "tables" / "continuations").iterdir()}
    told = []
    assert run_demo(target, TINY, told.append, nothing, "cpu") == study
    assert [line for line in told if line.startswith("Training")] == [
        "Training gpt_neox 10k on 0.5 passes over the index"
    ]
    assert {f: f.stat().st_mtime_ns for part in ("corpus", "python") for f in (target / part).rglob("*")} == kept
    assert {f: f.read_bytes() for f in (study / "tables" / "continuations").iterdir()} == before


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(MemindexError, match="is no demo"):
        run_demo(tmp_path / "mine", TINY, nothing, nothing)
    assert [f.name for f in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_the_corpus_is_the_same_every_time_and_splits_by_file(tmp_path):
    plan = CorpusPlan(standard_library=50_000, packages=1, package=50_000, heldout_share=0.3)
    sizes = [write_corpus(tmp_path / name, plan) for name in ("a", "b")]
    assert sizes[0] == sizes[1]
    files = [
        {f.relative_to(tmp_path / name).as_posix(): f.read_bytes() for f in (tmp_path / name).rglob("*.py")}
        for name in ("a", "b")
    ]
    assert files[0] == files[1]
    parts = {part: {p.split("/", 1)[1] for p in files[0] if p.startswith(part)} for part in ("train", "heldout")}
    assert parts["train"]
    assert parts["heldout"]
    assert not parts["train"] & parts["heldout"]


def test_the_printed_tables_have_every_run_and_survive_a_model_that_memorized_nothing():
    from memindex.cli.demo import _domain_table, _frequency_table, _size_table

    shares = [
        {"run_label": run, "domain": domain, "share_sample": 0.5, "share_memorized": share}
        for run, share in (("small", None), ("large", 0.25))
        for domain in ("a", "b")
    ]
    assert _domain_table(shares)[1:] == (
        ["domain", "corpus", "small", "large"],
        [["a", "50.0%", None, "25.0%"], ["b", "50.0%", None, "25.0%"]],
    )
    rates = [
        {"run_label": run, "frequency": frequency, "sequences": 10, "rate": rate}
        for run, rate in (("small", 0.0), ("large", 0.5))
        for frequency in ("unseen", "1")
    ]
    assert _frequency_table(rates)[2] == [["unseen", 10, "0.0%", "50.0%"], ["1", 10, "0.0%", "50.0%"]]
    size = {"run_label": "small", "non_embedding_parameters": 5, "rate": 0.1, "rate_low": 0.05, "rate_high": 0.2}
    assert _size_table([size])[2] == [["small", 5, "10.00%", "5.00% to 20.00%"]]
