"""`memindex study export`: what it writes, that equal tables give equal bytes, and that it destroys nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from synthetic_corpus import assert_refused, memindex
from synthetic_study import MODELS, add_probes, make_study

from memindex.errors import MemindexError
from memindex.sql.connection import connect
from memindex.sql.export import export_study, is_export
from memindex.sql.queries import run_query
from memindex.tables.store import TableStore


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_study(tmp_path_factory.mktemp("world"), rows=160, models=MODELS[:2])
    add_probes(made)
    (made / "models" / "small").mkdir(parents=True)
    record = {"trained_tokens": 1000, "seconds": 4.0, "final_loss": 2.5, "config": {"seed": 7}, "device": "a GPU"}
    (made / "models" / "small" / "training.json").write_text(json.dumps(record))
    with (made / "study.toml").open("a") as file:
        file.write('\n[[models]]\nid = "small"\nsource = "models/small"\n')
        file.write('\n[[models]]\nid = "middle"\nsource = "somewhere/else"\ncontrol = "other-corpus"\n')
    return made


@pytest.fixture(scope="module")
def told(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    lines: list[str] = []
    folder = export_study(study, tmp_path_factory.mktemp("out") / "results", tell=lines.append)
    return folder, lines


def test_every_answer_with_rows_is_a_file(study, told):
    folder, lines = told
    con = connect(study)
    con.execute("SET threads = 1")
    assert pq.read_table(folder / "rate_by_size.parquet").to_pylist() == run_query(con, "rate_by_size").to_pylist()
    matched = run_query(con, "noise_output", groups="matched").to_pylist()
    assert pq.read_table(folder / "noise_output__matched.parquet").to_pylist() == matched
    # The other values of a number have no end.
    assert not list(folder.glob("head_importance__*"))
    con.close()
    assert lines == [line for line in lines if " has no rows: " in line and "\n" not in line]
    assert "rate_by_copies" in {line.split()[0] for line in lines}
    assert not (folder / "rate_by_copies.parquet").exists()
    assert (folder / "study.toml").read_bytes() == (study / "study.toml").read_bytes()


def test_models_come_with_what_their_training_recorded(told):
    rows = {row["model_id"]: row for row in pq.read_table(told[0] / "models.parquet").to_pylist()}
    small, middle = rows["small"], rows["middle"]
    assert (small["seed"], small["seconds"], small["final_loss"], small["tokens_per_second"]) == (7, 4.0, 2.5, 250.0)
    assert (small["device"], small["compiled"], small["control"]) == ("a GPU", None, None)
    assert (middle["control"], middle["seconds"], middle["layers"]) == ("other-corpus", None, 6)


def test_an_earlier_export_is_replaced_only_if_asked_and_equal_tables_give_equal_bytes(study, told, tmp_path):
    folder = shutil.copytree(told[0], tmp_path / "results")
    (folder / "old.parquet").write_bytes(b"of a query that is gone")
    (tmp_path / ".results.before").mkdir()
    with pytest.raises(MemindexError, match="--replace"):
        export_study(study, folder)
    assert (folder / "old.parquet").exists()
    (tmp_path / ".results.before").rmdir()
    export_study(study, folder, replace=True)
    assert not (folder / "old.parquet").exists()
    assert content(folder) == content(told[0])
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("kind", ["file", "empty folder", "study", "export and more", "link"])
def test_what_is_no_export_stays(study, told, tmp_path, kind):
    target = tmp_path / "results"
    if kind == "file":
        target.write_text("mine")
    elif kind == "link":
        target.symlink_to(told[0])
    else:
        target.mkdir()
        names = {"empty folder": [], "study": ["study.toml"], "export and more": ["study.toml", "models.parquet", "my"]}
        for name in names[kind]:
            (target / name).write_text("mine")
    assert not is_export(target)
    with pytest.raises(MemindexError, match="no export"):
        export_study(study, target, replace=True)
    assert target.exists()
    assert target.is_symlink() or target.is_file() or {f.read_text() for f in target.iterdir()} <= {"mine"}


def test_a_query_that_fails_is_told_and_the_rest_is_there(tmp_path):
    study = make_study(tmp_path, rows=60, models=MODELS[:1])
    add_probes(study)
    [file] = TableStore(study / "tables").readable("compression")
    file.write_bytes(file.read_bytes()[:200] + bytes(100) + file.read_bytes()[300:])
    lines: list[str] = []
    folder = export_study(study, tmp_path / "results", tell=lines.append)
    assert any(line.startswith("compression is left out: ") and "\n" not in line for line in lines)
    assert (folder / "rate_by_size.parquet").exists()


def test_a_failed_export_leaves_nothing(study, told, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    folder = shutil.copytree(told[0], tmp_path / "results")
    before = content(folder)
    monkeypatch.setattr("memindex.sql.export.pq.write_table", fail)
    with pytest.raises(MemindexError, match="No space left"):
        export_study(study, folder, replace=True)
    assert content(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_the_command(study, tmp_path):
    done = memindex("study", "export", study, "--out", tmp_path / "results")
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "results"))
    assert "memindex: rate_by_copies has no rows" in done.stderr
    assert_refused(memindex("study", "export", study, "--out", tmp_path / "results"), "--replace")
    assert_refused(memindex("study", "export", tmp_path, "--out", tmp_path / "more"), "not a study")
