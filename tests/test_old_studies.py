"""Studies whose tables were written by older versions of the schema: what can be asked of them, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
import scored_study
from synthetic_study import MODELS, add_probes, make_study

from memindex.errors import MemindexError
from memindex.report import write_report
from memindex.sql.connection import connect
from memindex.sql.queries import list_queries, run_query
from memindex.tables.schema import SCHEMA_VERSION, TABLES
from memindex.tables.store import TableStore

_MODELS = (
    "model_id architecture parameters non_embedding_parameters layers hidden_size heads vocabulary context source "
    "revision trained_tokens"
)
_RUN = "run_id model_id prefix_length suffix_length decoding"
_END = "batch_size sequences seconds versions created"
_SEQUENCES = "sequence_id sample bucket index shard position document document_offset domain prefix suffix"
_PROBES = "run_id probe sequences settings dtype device attention batch_size seconds versions created"
_CONTINUATIONS = "run_id sequence_id score matched memorized suffix_logprob token_logprobs continuation"
#: The columns that a version's files had, where they were not those of today; None: there was no such table.
COLUMNS: dict[int, dict[str, str | None]] = {
    1: {
        "models": _MODELS,
        "runs": f"{_RUN} dtype device attention {_END}",
        "sequences": _SEQUENCES,
        "continuations": _CONTINUATIONS,
        "buckets": None,
        "probes": _PROBES,
    },
    2: {
        "models": _MODELS,
        "runs": f"{_RUN} dtype device attention model_fingerprint {_END}",
        "sequences": _SEQUENCES,
        "continuations": _CONTINUATIONS,
        "probes": _PROBES,
    },
    3: {
        "runs": f"{_RUN} seed top_k temperature control made_by dtype device attention compiled model_fingerprint "
        f"{_END}",
        "sequences": _SEQUENCES,
        "probes": _PROBES,
    },
    4: {"sequences": _SEQUENCES, "probes": _PROBES},
    5: {"sequences": f"{_SEQUENCES} prefix_tokens suffix_tokens", "probes": _PROBES},
    6: {"sequences": f"{_SEQUENCES} document_tokens first_document prefix_tokens suffix_tokens", "probes": _PROBES},
}

#: Tables that came with a version, or later in its time.
SINCE = {"ngram_statistics": 4, "domain_counts": 4, "spans": 4, "indexes": 5, "exposures": 5, "planted_exposures": 5}

#: Queries that need nothing that version 1 lacked.
ALWAYS = ("rate_by_size", "rate_by_frequency", "domain_shares", "score_histogram", "overlap", "unseen_floor")


def age(study: Path, version: int, only: str = "") -> None:
    """Make the files of a study what an older version wrote; `only` those whose name has this in it."""
    for name in TABLES:
        folder = study / "tables" / name
        for file in folder.iterdir() if folder.is_dir() else ():
            if only not in file.name:
                continue
            columns = COLUMNS[version].get(name, "")
            if columns is None or version < SINCE.get(name, 1):
                file.unlink()
                continue
            table = pq.read_table(file)
            kept = table.select(columns.split()) if columns else table
            metadata = table.schema.metadata | {b"memindex.schema_version": str(version).encode()}
            pq.write_table(kept.replace_schema_metadata(metadata), file)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = make_study(tmp_path_factory.mktemp("new"), rows=160, models=MODELS[:3])
    add_probes(study)
    return study


@pytest.fixture(params=sorted(COLUMNS))
def old(new: Path, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, int]:
    shutil.copytree(new.parent, tmp_path / "old")
    age(tmp_path / "old" / new.name, request.param)
    return tmp_path / "old" / new.name, request.param


def one_thread(study: Path) -> duckdb.DuckDBPyConnection:
    """Sums of floats depend on the order of their terms."""
    con = connect(study)
    con.execute("SET threads = 1")
    return con


def refused(*arguments: object) -> str:
    command = [sys.executable, "-m", "memindex.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_every_version_before_this_one_is_tested() -> None:
    assert sorted(COLUMNS) == list(range(1, SCHEMA_VERSION))


def test_an_older_study_answers_every_query(new: Path, old: tuple[Path, int]) -> None:
    study, version = old
    now, then = one_thread(new), one_thread(study)
    for name in list_queries():
        answer = run_query(then, name)
        if name in ALWAYS:
            assert answer.num_rows
            assert answer.equals(run_query(now, name)), name
    columns = "run_id, sequence_id, score, memorized, suffix_logprob, sequence_count, unseen, cluster"
    asked = f"SELECT {columns} FROM memorization ORDER BY ALL"
    assert then.sql(asked).fetchall() == now.sql(asked).fetchall() != []
    [(runs,)] = then.sql("SELECT count(*) FROM runs WHERE made_by = 'memindex' AND retokenized IS NOT true").fetchall()
    assert runs == 3
    known = then.sql("SELECT count(bleu), count(edit_distance) FROM continuations").fetchall()
    assert known == [(0, 0) if version < 3 else (480, 480)]
    for name in ("noise_recovery", "perturbation", "head_importance"):
        assert set(run_query(now, name)["sample"].to_pylist()) == {"uniform"}
        assert set(run_query(then, name)["sample"].to_pylist()) == {None}
    if version == 1:
        assert "Memorization rate by frequency" in write_report(study).read_text(encoding="utf-8")


def test_a_study_is_added_to_only_when_its_files_can_stand_beside_new_ones(tmp_path: Path) -> None:
    study = scored_study.make_study(tmp_path / "study", scored_study.make_indexes(tmp_path)).directory
    run = ("study", "run", study, "--only", "sequences")
    subprocess.run([sys.executable, "-m", "memindex.cli", *map(str, run)], capture_output=True, check=True)
    age(study, 4)
    subprocess.run([sys.executable, "-m", "memindex.cli", *map(str, run)], capture_output=True, check=True)
    age(study, 3)
    before = {file: file.read_bytes() for file in study.rglob("*.parquet")}
    assert len(before) == 3
    for command in (run, ("study", "run", study), ("study", "status", study)):
        line = refused(*command)
        assert "memindex sql and memindex report still read it, but nothing can be added; move " in line
    assert {file: file.read_bytes() for file in before} == before
    assert not list(study.rglob("*.tmp"))
    [(rows,)] = connect(study).sql("SELECT count(*) FROM sequences JOIN frequencies USING (sequence_id)").fetchall()
    assert rows > 200
    with pytest.raises(MemindexError, match="was written by an older memindex"):
        TableStore(study / "tables").read("sequences")


@pytest.mark.parametrize("version", sorted(COLUMNS))
def test_files_of_several_versions_stand_in_one_table(new: Path, tmp_path: Path, version: int) -> None:
    shutil.copytree(new.parent, tmp_path / "mixed")
    study = tmp_path / "mixed" / new.name
    age(study, version, only="small")
    con = connect(study)
    rates = [run_query(c, "rate_by_size").select(["run_label", "rate"]) for c in (con, connect(new))]
    assert rates[0].equals(rates[1])
    kinds = con.sql("SELECT run_id, made_by FROM runs ORDER BY ALL").fetchall()
    assert kinds == [(f"{name}-run", "memindex") for name in ("large", "middle", "small")]
    scored = con.sql("SELECT run_id, count(bleu) > 0 FROM continuations GROUP BY ALL ORDER BY ALL").fetchall()
    assert scored == [("large-run", True), ("middle-run", True), ("small-run", version > 2)]


def test_a_newer_study_says_what_to_do(new: Path, tmp_path: Path) -> None:
    shutil.copytree(new.parent, tmp_path / "newer")
    file = TableStore(tmp_path / "newer" / new.name / "tables").files("runs")[0]
    table = pq.read_table(file)
    metadata = table.schema.metadata | {b"memindex.schema_version": str(SCHEMA_VERSION + 1).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), file)
    line = refused("sql", "-s", tmp_path / "newer" / new.name, "FROM runs")
    assert f"has schema version {SCHEMA_VERSION + 1}, this memindex reads up to {SCHEMA_VERSION}: update mem" in line
