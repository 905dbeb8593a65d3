"""Probes on a study: which sequences, resumed at any point, on the command line, and what SQL makes of the tables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from leave_one_out import mean_ends, rate_ends

torch = pytest.importorskip("torch", reason="probes run models")

from scored_study import make_indexes, make_study  # noqa: E402

from memindex.errors import MemindexError  # noqa: E402
from memindex.models.from_index import train_on_index  # noqa: E402
from memindex.models.loading import load_model  # noqa: E402
from memindex.probes.compression import compress  # noqa: E402
from memindex.sql.connection import connect  # noqa: E402
from memindex.sql.queries import run_query  # noqa: E402
from memindex.study.config import FILE, StudyConfig, load_study  # noqa: E402
from memindex.study.probe_config import ProbeConfig  # noqa: E402
from memindex.study.probe_running import run_probes  # noqa: E402
from memindex.study.probing import finish_probe, plan_probe, probed_runs  # noqa: E402
from memindex.study.running import RunOptions, run_study, status, study_runs  # noqa: E402
from memindex.tables.store import TableStore  # noqa: E402

pytestmark = pytest.mark.models

RUN = "tiny 8+8"
SMALL = RunOptions(device="cpu", unit_size=20, batch_size=32)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> StudyConfig:
    """A study whose run has memorized the header of its texts."""
    root = tmp_path_factory.mktemp("scored")
    indexes = make_indexes(root / "corpus")
    train_on_index(indexes[0], "llama", 20_000, 200_000, root / "tiny", context=32, learning_rate=1e-2, device="cpu")
    study = make_study(root / "study", indexes, root / "tiny")
    run_study(study, options=SMALL)
    return study


@pytest.fixture
def study(scored: StudyConfig, tmp_path: Path) -> StudyConfig:
    """A copy of it, beside it: where its model lies is part of what tells models apart."""
    copy = scored.directory.parent / tmp_path.name
    shutil.copytree(scored.directory, copy)
    return load_study(copy)


def memorized(study: StudyConfig, sample: str = "uniform") -> pd.DataFrame:
    store = TableStore(study.tables)
    rows = store.read("continuations").to_pandas().merge(store.read("sequences").to_pandas(), on="sequence_id")
    return rows[rows["memorized"] & (rows["sample"] == sample)].sort_values("sequence_id").reset_index(drop=True)


def rows_of(study: StudyConfig, table: str = "compression") -> pd.DataFrame:
    return TableStore(study.tables).read(table).to_pandas().sort_values("sequence_id").reset_index(drop=True)


def test_the_table_is_what_the_probe_says_of_all_memorized_sequences_of_a_sample(study: StudyConfig):
    done = run_probes(study, ["compression"], options=SMALL)
    wanted = memorized(study)
    assert done.sequences == len(wanted) > 20
    table = rows_of(study)
    assert table["sequence_id"].tolist() == wanted["sequence_id"].tolist()
    assert set(table["run_id"]) == {RUN}
    prefixes, suffixes = (np.stack(wanted[name]) for name in ("prefix", "suffix"))
    found = compress(load_model(study.directory.parent / "tiny", device="cpu"), prefixes, suffixes)
    assert table["needed"].tolist() == found.needed.tolist()
    assert table["needed_monotone"].tolist() == found.needed_monotone.tolist()
    assert table["failures"].tolist() == found.failures.tolist()
    assert table["ratio"].tolist() == (found.needed / 8).tolist()
    assert [row.tolist() for row in table["lengths"]] == [(np.flatnonzero(row) + 1).tolist() for row in found.works]
    # Some need more than others, and some are spoilt by more.
    assert len(set(found.needed.tolist())) > 2
    assert found.failures.any()
    [row] = TableStore(study.tables).read("probes").to_pylist()
    found = [row[name] for name in ("run_id", "probe", "sample", "sequences")]
    assert found == [RUN, "compression", "uniform", len(wanted)]
    assert json.loads(row["settings"]) == {"sequences": None, "seed": 0}
    assert (row["dtype"], row["device"], row["batch_size"]) == ("float32", "cpu", 20)
    assert run_probes(study, ["compression"], options=SMALL).sequences == 0


def test_what_is_missing_is_done_and_nothing_else(study: StudyConfig):
    store = TableStore(study.tables)
    run_probes(study, ["compression"], options=SMALL)
    whole, [unit, *_] = rows_of(study), store.units("compression")
    store.file("compression", unit).unlink()
    store.file("probes", f"{RUN} compression").unlink()
    (store.directory / "compression" / f".{unit}.parquet.1-aa.tmp").write_bytes(b"half")
    kept = {other: store.file("compression", other).stat().st_mtime_ns for other in store.units("compression")}
    assert run_probes(study, ["compression"], options=SMALL).sequences == 20
    pd.testing.assert_frame_equal(rows_of(study), whole)
    assert all(store.file("compression", other).stat().st_mtime_ns == time for other, time in kept.items())
    # Killed after the last unit and before the row.
    store.file("probes", f"{RUN} compression").unlink()
    assert run_probes(study, ["compression"], options=SMALL).sequences == 0
    assert store.has("probes", f"{RUN} compression")


def test_other_settings_take_the_place_of_what_was_there(study: StudyConfig):
    store = TableStore(study.tables)
    run_probes(study, ["compression"], options=replace(SMALL, unit_size=7))
    whole = rows_of(study)
    few = ProbeConfig(sequences=9)
    assert run_probes(study, ["compression"], settings=few, options=SMALL).sequences == len(rows_of(study))
    less = rows_of(study)
    assert len(less) == 9
    pd.testing.assert_frame_equal(less, whole[whole["sequence_id"].isin(less["sequence_id"])].reset_index(drop=True))
    # Another device or unit size is no other measurement.
    assert run_probes(study, ["compression"], settings=few, options=replace(SMALL, unit_size=3)).sequences == 0
    run_probes(study, ["compression"], settings=replace(few, seed=1), options=SMALL)
    assert set(rows_of(study)["sequence_id"]) != set(less["sequence_id"])
    run_probes(study, ["compression"], settings=replace(few, sequences=12), options=SMALL)
    assert set(less["sequence_id"]) < set(rows_of(study)["sequence_id"])
    assert len(store.units("probes")) == 1


def test_results_of_several_samples_are_measured_anew(study: StudyConfig):
    """An older memindex took memorized sequences of all samples and did not store which."""
    store = TableStore(study.tables)
    pooled = []
    for sample in ("bucket", "uniform"):
        run_probes(study, ["compression"], settings=ProbeConfig(sample=sample), options=SMALL)
        pooled.append(store.read("compression"))
    whole = rows_of(study)
    for unit in store.units("compression"):
        store.file("compression", unit).unlink()
    row = store.read("probes").to_pydict() | {"sample": [None]}
    store.write("compression", f"{RUN} {'0' * 8} {0:09}", pa.concat_tables(pooled))
    store.write("probes", f"{RUN} compression", row, {"asked": "0" * 8, "units": "0" * 8})
    answer = run_query(connect(study.directory), "compression").to_pandas()
    assert set(answer["sample"]) == {"uniform"}
    assert set(answer["sequences"]) == {len(memorized(study))}
    assert len(rows_of(study)) > len(whole)
    asked = ProbeConfig(run=("compression",))
    assert dict(status(replace(study, probes=asked)))["compression of tiny"] == "missing"
    run_probes(study, ["compression"], options=SMALL)
    pd.testing.assert_frame_equal(rows_of(study), whole)
    assert store.read("probes")["sample"].to_pylist() == ["uniform"]


def test_processes_and_shares_give_the_same_table(study: StudyConfig):
    options = SMALL
    run_probes(study, ["compression"], options=options)
    whole = rows_of(study)
    shutil.rmtree(study.tables / "compression")
    shutil.rmtree(study.tables / "probes")
    run_probes(study, ["compression"], options=replace(options, part=(2, 2)))
    assert 0 < len(rows_of(study)) < len(whole)
    assert not TableStore(study.tables).units("probes")
    run_probes(study, ["compression"], options=replace(options, workers=2))
    pd.testing.assert_frame_equal(rows_of(study), whole)
    assert TableStore(study.tables).units("probes") == [f"{RUN} compression"]


def test_units_of_a_slower_process_don_t_count_twice(study: StudyConfig):
    """Two processes do one probe in units of other sizes; the one that ends later leaves nothing beside the first."""
    run_probes(study, ["compression"], options=SMALL)
    store, whole = TableStore(study.tables), rows_of(study)
    runs = probed_runs(study, study_runs(study))
    [slower] = plan_probe(store, "compression", runs, store.read("sequences"), ProbeConfig(), 7)
    [other] = plan_probe(store, "compression", runs, store.read("sequences"), ProbeConfig(sequences=9), 7)
    for units in (slower, other):
        shutil.copy(
            store.file("compression", store.units("compression")[0]), store.file("compression", units.names()[0])
        )
        assert len(rows_of(study)) > len(whole)
        assert finish_probe(store, units)
        pd.testing.assert_frame_equal(rows_of(study), whole)
        assert store.has("probes", f"{RUN} compression")


SCRIPT = """
import sys
import torch
import transformers.models.llama.modeling_llama
from memindex.models import loading
from memindex.study.config import load_study
from memindex.study.probe_running import run_probes
from memindex.study.running import RunOptions
torch.set_num_threads(1)
run_probes(load_study(sys.argv[1]), ["compression"], options=RunOptions(device="cpu", unit_size=1))
"""


@pytest.mark.kill
def test_a_killed_probe_goes_on_and_gives_the_same_table(study: StudyConfig):
    options = RunOptions(device="cpu", unit_size=1)
    run_probes(study, ["compression"], options=options)
    whole = rows_of(study)
    shutil.rmtree(study.tables / "compression")
    shutil.rmtree(study.tables / "probes")
    with subprocess.Popen([sys.executable, "-c", SCRIPT, study.directory]) as process:
        while len(list(study.tables.glob("compression/[!.]*"))) < 5 and process.poll() is None:
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -9
    there = len(TableStore(study.tables).units("compression"))
    assert 5 <= there < len(whole)
    assert not TableStore(study.tables).units("probes")
    assert run_probes(study, ["compression"], options=options).sequences == len(whole) - there
    pd.testing.assert_frame_equal(rows_of(study), whole)


def test_a_study_runs_the_probes_that_it_lists(study: StudyConfig):
    (study.directory / FILE).write_text((study.directory / FILE).read_text() + '\n[probes]\nrun = "compression"\n')
    listed = load_study(study.directory)
    assert dict(status(listed))["compression of tiny"] == "missing"
    run_study(listed, only="probes", options=SMALL)
    assert dict(status(listed))["compression of tiny"] == "done"
    assert len(rows_of(study)) == len(memorized(study))
    assert "compression of tiny" not in dict(status(study))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('run = "compresion"', "unknown probe 'compresion'; did you mean compression"),
        ("sequences = 0", "sequences must be at least 1"),
        ("seed = -1", "seed must be at least 0"),
        ('sample = "unifrom"', "unknown sample 'unifrom'; did you mean uniform"),
        ("lengths = 3", "unknown key lengths"),
        ("run = 3", "run must be text in quotes"),
    ],
)
def test_bad_settings_are_refused(study: StudyConfig, text: str, message: str):
    (study.directory / FILE).write_text((study.directory / FILE).read_text() + f"\n[probes]\n{text}\n")
    with pytest.raises(MemindexError, match=message):
        load_study(study.directory)


def test_the_query_equals_pandas(study: StudyConfig):
    for sample in ("uniform", "bucket", "heldout"):
        run_probes(study, ["compression"], settings=ProbeConfig(sample=sample), options=SMALL)
        answer = run_query(connect(study.directory), "compression").to_pandas()
        part = rows_of(study).merge(memorized(study, sample).drop(columns="run_id"), on="sequence_id")
        assert len(part) == len(rows_of(study))
        assert set(answer["sample"]) == {sample}
        cluster = part.groupby(["index", "first_document"]).ngroup().to_numpy()
        assert answer["tokens"].tolist() == list(range(1, 9))
        assert answer["ratio"].tolist() == [k / 8 for k in range(1, 9)]
        for row in answer.itertuples():
            fits = part["needed"] <= row.tokens
            ends = rate_ends(fits.to_numpy(float), cluster)
            assert (row.share, row.share_low, row.share_high) == pytest.approx((fits.mean(), *ends), nan_ok=True)
        first = answer.iloc[0]
        assert (first["sequences"], first["irreproducible"]) == (len(part), 0)
        for name, values, interval in (
            ("mean_ratio", part["ratio"], mean_ends),
            ("share_half", part["ratio"] <= 0.5, rate_ends),
            ("not_monotone", part["failures"] > 0, rate_ends),
        ):
            assert first[name] == pytest.approx(values.mean())
            ends = interval(values.to_numpy(float), cluster)
            got = first[[f"{name}_low", f"{name}_high"]].tolist()
            assert got == pytest.approx(list(ends), nan_ok=True)
        assert first["median_ratio"] == pytest.approx(part["ratio"].median())
        assert first["mean_steady_ratio"] == pytest.approx((part["needed_monotone"] / 8).mean())
    # A probe that is not finished has no rows in the answer.
    TableStore(study.tables).file("probes", f"{RUN} compression").unlink()
    assert run_query(connect(study.directory), "compression").num_rows == 0


@pytest.mark.parametrize("shorter", [None, 3])
def test_sequences_that_their_whole_context_does_not_give_are_left_out(study: StudyConfig, shorter: int | None):
    """Whether or not a shorter context still gives them: they are none that the model has memorized, read again."""
    run_probes(study, ["compression"], options=SMALL)
    store, table = TableStore(study.tables), rows_of(study)
    first = {name: table[name].tolist() for name in table} | {"lengths": [row.tolist() for row in table["lengths"]]}
    lost = {
        "needed": shorter,
        "needed_monotone": None,
        "ratio": shorter and shorter / 8,
        "failures": 5 if shorter else 0,
    }
    for name, value in lost.items():
        first[name][0] = value
    first["lengths"][0] = [shorter] if shorter else []
    for unit in store.units("compression"):
        store.file("compression", unit).unlink()
    store.write("compression", "all", first)
    answer = run_query(connect(study.directory), "compression").to_pandas()
    others = table[1:]
    assert set(answer["irreproducible"]) == {1}
    assert set(answer["sequences"]) == {len(others)}
    assert answer["share"].tolist() == pytest.approx([(others["needed"] <= k).mean() for k in range(1, 9)])
    assert answer["mean_ratio"][0] == pytest.approx(others["ratio"].mean())
    assert answer["not_monotone"][0] == pytest.approx((others["failures"] > 0).mean())
    assert answer["mean_steady_ratio"][0] == pytest.approx(others["needed_monotone"].mean() / 8)


def memindex(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "memindex.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_on_the_command_line(study: StudyConfig):
    done = memindex("probe", "compression", "-s", study.directory, "--sequences", 10, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["run_id"], row["probe"], row["state"], row["sample"]) == (RUN, "compression", "done", "uniform")
    assert row["sequences"] == len(rows_of(study))
    assert f"measured {row['sequences']} sequences" in done.stderr
    assert "from the sample uniform\n" in done.stderr
    done = memindex("probe", "compression", "-s", study.directory, "--sample", "bucket", "--device", "cpu")
    assert "from the sample bucket\n" in done.stderr
    assert rows_of(study)["sequence_id"].tolist() == memorized(study, "bucket")["sequence_id"].tolist()
    (study.directory / FILE).write_text((study.directory / FILE).read_text().split("[[models]]")[0])
    for arguments, message in (
        (["compresion", "-s", study.directory], "'compresion' is not one of 'compression', 'noise'"),
        (["compression", "-s", study.directory], "lists no models: name one with --model"),
        (
            ["compression", "-s", study.directory, "--model", study.directory.parent / "tiny", "--sample", "domain"],
            "'tiny 8+8' has no sequences of the sample domain; it has uniform, bucket, heldout",
        ),
        (["compression", "-s", study.directory.parent], "is not a study"),
    ):
        done = memindex("probe", *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert message in done.stderr


def test_a_model_without_a_run_is_refused(study: StudyConfig, tmp_path: Path):
    shutil.copytree(study.directory.parent / "tiny", tmp_path / "other")
    done = memindex("probe", "compression", "-s", study.directory, "--model", tmp_path / "other")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "there is no finished run 'other 8+8' to look into" in done.stderr


def test_a_model_that_memorized_nothing_is_done(study: StudyConfig):
    store = TableStore(study.tables)
    for unit in store.units("continuations"):
        rows = store.read("continuations", units=[unit]).to_pydict()
        store.write("continuations", unit, rows | {"memorized": [False] * len(rows["memorized"])})
    with pytest.warns(
        UserWarning, match="sample uniform of 'tiny 8\\+8' has only 0 memorized sequences, fewer than 10"
    ):
        run_probes(study, ["compression"], options=RunOptions(device="cpu"))
    assert store.read("probes").to_pylist()[0]["sequences"] == 0
    assert run_query(connect(study.directory), "compression").num_rows == 0
