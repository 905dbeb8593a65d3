"""Imports as a whole: a run of ours that goes out and comes back, kill -9, memory, and the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importing_world import PREFIX, SUFFIX, contents, make_world, rows, run, store, windows

import memindex

#: Imports a list of memorized sequences, in units of 4 rows; dies in the middle of its second write when told so.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from memindex.cli import cli
from memindex.importers import chunks

chunks.UNIT = 4
if sys.argv[1] == "die":
    replace, seen = Path.replace, []

    def dying(self, target):
        seen.append(target)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = dying
cli.main(sys.argv[2:], standalone_mode=False)
"""


def test_a_run_of_ours_goes_out_and_comes_back(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="a model is run")
    torch.set_num_threads(1)
    from memindex.index import Index
    from memindex.models.from_index import train_on_index

    world = make_world(tmp_path)
    options = {"context": 64, "batch_size": 8, "device": "cpu"}
    train_on_index(Index.open(world / "index"), "llama", "5k", 5_000, world / "model", **options)
    shutil.rmtree(world / "study" / "tables")
    with (world / "study" / "study.toml").open("a") as file:
        file.write('\n[[models]]\nid = "ours"\nsource = "../model"\n')
    run_cli = ["study", "run", str(world / "study"), "--device", "cpu"]
    memindex_cli(run_cli)
    ours = store(world).read("continuations").to_pylist()
    assert len(ours) == 30
    fields = ["sequence_id", "continuation", "suffix_logprob", "suffix_logprob_top40", "prefix_logprob",
              "token_logprobs", "token_ranks"]  # fmt: skip
    lines = [json.dumps({field: row[field] for field in fields}) for row in ours]
    (world / "out.jsonl").write_text("\n".join(lines))
    capsys.readouterr()
    run(world, "import", "jsonl", world / "out.jsonl", "--model-id", "back")
    assert "back out: 30 rows" in capsys.readouterr().out
    back = [row for row in store(world).read("continuations").to_pylist() if row["run_id"] == "back out"]
    for row in (*ours, *back):
        del row["run_id"]
    assert back == ours
    con = memindex.connect(world / "study")
    assert con.sql("SELECT model_id, count(*) FROM memorization GROUP BY ALL ORDER BY ALL").fetchall() == [
        ("back", 30), ("ours", 30)]  # fmt: skip


def memindex_cli(arguments: list[str]) -> None:
    from memindex.cli import cli

    cli.main(arguments, standalone_mode=False)


def started(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.kill
def test_killed_imports_go_on_and_end_in_the_same_tables(tmp_path):
    ids = windows(make_world(tmp_path / "whole"), 11)
    ids[7:, -1] = 1  # some are not found
    make_world(tmp_path / "killed")
    pq.write_table(pa.table({"index": range(11), "tokens": ids.tolist()}), tmp_path / "list.parquet")
    arguments = [
        "import",
        "pythia",
        tmp_path / "list.parquet",
        "--model-id",
        "m",
        "--prefix",
        PREFIX,
        "--suffix",
        SUFFIX,
    ]
    undisturbed = started("-c", SCRIPT, "live", *arguments, "-s", tmp_path / "whole" / "study")
    assert undisturbed.returncode == 0, undisturbed.stderr
    deaths = 0
    while (done := started("-c", SCRIPT, "die", *arguments, "-s", tmp_path / "killed" / "study")).returncode == -9:
        deaths += 1
    assert done.returncode == 0, done.stderr
    # Three units of three tables each, the index, the model and the run: every run but the last finished one of them.
    assert deaths == 11
    killed, whole = contents(tmp_path / "killed"), contents(tmp_path / "whole")
    assert len(whole) == 13
    assert killed == whole
    assert len(rows(tmp_path / "killed", "sequences")) == 11


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    world = make_world(tmp_path)
    numbers = np.arange(2_000_000)
    for name, count in (("small", 200_000), ("large", 2_000_000)):
        with (world / f"{name}.csv").open("w") as file:
            np.savetxt(
                file, np.stack([numbers[:count], numbers[:count] % 5 / 4], axis=1), fmt=["%d", "%.2f"], delimiter=","
            )
    measure = "import resource, sys; from memindex.cli import cli; cli.main(sys.argv[1:], standalone_mode=False); " \
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"  # fmt: skip
    peaks = []
    for name in ("small", "large"):
        arguments = ["import", "pythia", world / f"{name}.csv", "-s", world / "study", "--model-id", name]
        done = started("-c", measure, *arguments, "--prefix", PREFIX, "--suffix", SUFFIX, "--name", name)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.splitlines()[-1]))
    con = memindex.connect(world / "study")
    counted = "SELECT model_id, count(*), avg(score) FROM memorization GROUP BY ALL ORDER BY ALL"
    assert con.sql(counted).fetchall() == [("large", 2_000_000, 0.5), ("small", 200_000, 0.5)]
    assert peaks[1] < peaks[0] + 64 * 1024, "kilobytes: ten times the rows take a constant more"


def test_bad_input_on_the_command_line(tmp_path):
    world = make_world(tmp_path)
    (world / "x.csv").write_text("a,b\n1,2\n")
    for arguments in (
        ["pythia", world / "x.csv", "--model-id", "m"],
        ["pythia", world / "missing.csv", "--model-id", "m"],
        ["pythia", world / "x.csv", "--model-id", "m", "--seed", 1],
        ["lm-extraction", world / "x.csv", "--model-id", "m"],
        ["jsonl", world / "x.csv", "--model-id", ""],
        ["jsonl", world / "x.csv", "--model-id", "m" * 300],
    ):
        done = started("-m", "memindex.cli", "import", *arguments, "-s", world / "study")
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr.count("\n") == 1, done.stderr
        assert not done.stdout


def test_importing_loads_no_torch(tmp_path):
    code = "import sys, memindex.cli.importing, memindex.importers.writing, memindex.importers.jsonl; " \
        "assert 'torch' not in sys.modules"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ}, cwd=Path.cwd(), check=False)
    assert done.returncode == 0


def test_named_queries_and_the_report_take_imported_runs(tmp_path):
    from memindex.report import write_report
    from memindex.sql.queries import list_queries, load_query, run_query

    world = make_world(tmp_path)
    ids = windows(world, 30)
    for model, scores in (("small", [1.0] * 10 + [0.25] * 20), ("large", [1.0] * 20 + [0.0] * 10)):
        table = pa.table({"Index": range(30), "Tokens": ids.tolist(), "score": scores})
        pq.write_table(table, world / f"{model}.parquet")
        arguments = ["--prefix", PREFIX, "--suffix", SUFFIX, "--non-embedding-parameters", scores.count(1.0)]
        run(world, "import", "pythia", world / f"{model}.parquet", *arguments, "--model-id", model)
    con = memindex.connect(world / "study")
    for name in list_queries():
        run_query(con, name, **({"sample": "imported"} if "sample" in load_query(name).parameters else {}))
    shares = run_query(con, "domain_shares", sample="imported").to_pylist()
    assert sum(row["memorized"] for row in shares if row["run_label"] == "small") == 10
    assert {row["domain"] for row in shares} <= {f"domain-{i}" for i in range(3)}
    shared = run_query(con, "overlap", sample="imported").to_pylist()
    assert any(10 in row.values() for row in shared)
    assert write_report(world / "study").is_file()
