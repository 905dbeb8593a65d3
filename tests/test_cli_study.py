"""The commands of a study, as a user types them: init, train, run, status, sql, report; and what they refuse."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import here

torch = pytest.importorskip("torch", reason="a study runs models")


def memindex(*arguments: object, cwd: Path | None = None, stdin: str | None = None):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "memindex.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        input=stdin,
        env=environment,
        check=False,
    )


def ok(*arguments: object, **options) -> str:
    done = memindex(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: object, run=here, **options) -> str:
    """The one line on stderr of a command that exits with 2."""
    done = run(*arguments, **options)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1, done.stderr
    assert not done.stdout
    return done.stderr


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with two indexes, a model, and a study that ran."""
    root = tmp_path_factory.mktemp("work")
    random = np.random.default_rng(1)
    for part, files in (("train", 40), ("heldout", 8)):
        (root / part).mkdir()
        for i in range(files):
            body = bytes(random.integers(97, 123, 300).tolist()).decode()
            (root / part / f"{i}.txt").write_text("the same first line in every file, word for word\n" + body)
        ok("index", "build", root / part, "--out", root / f"{part}-index", "--tokenizer", "bytes")
    train = ["train", "-i", root / "train-index", "--architecture", "llama", "--size", "5k", "--tokens", "12k"]
    ok(*train, "--context", 64, "--device", "cpu", "--out", root / "models" / "tiny")
    options = ["--prefix", 8, "--suffix", 8, "--uniform", 50, "--per-bucket", 10, "--heldout-sequences", 20]
    indexes = ["-i", root / "train-index", "--heldout", root / "heldout-index"]
    printed = ok("study", "init", root / "study", *indexes, "--model", root / "models" / "tiny", *options)
    assert printed.strip() == str(root / "study" / "study.toml")
    work = [json.loads(line) for line in ok("study", "status", root / "study", "--json").splitlines()]
    assert [(one["kind"], one["name"], one["state"]) for one in work] == [
        ("sequences", None, "missing"),
        ("frequencies", None, "missing"),
        ("scores", "tiny", "missing"),
        ("exposures", None, "missing"),
        ("spans", None, "missing"),
    ]
    ok("study", "run", root / "study", "--device", "cpu")
    return root


def test_a_study_that_ran_is_done(work):
    lines = ok("study", "status", work / "study", "--json").splitlines()
    assert {json.loads(line)["state"] for line in lines} == {"done"}


def test_training_says_what_it_made(work):
    record = json.loads((work / "models" / "tiny" / "training.json").read_text())
    assert record["trained_tokens"] == 12_000 // 64 * 64
    command = ["train", "-i", work / "train-index", "--size", "5k", "--tokens", "640", "--context", 32]
    more = ["--device", "cpu", "--out", work / "models" / "second", "--checkpoints", "100,640", "--json"]
    done = memindex(*command, *more)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert (again["architecture"], again["trained_tokens"]) == ("gpt_neox", 640)
    assert "5k is no size of a whole number of layers and heads: 6,144 parameters come nearest" in done.stderr
    # Steps of 16 windows of 32 tokens.
    checkpoints = sorted(path.name for path in (work / "models" / "second" / "checkpoints").iterdir())
    assert checkpoints == ["step1", "step2"]


def test_sql_answers_as_json_csv_and_table(work):
    query = "SELECT sample, count(*) AS n FROM memorization GROUP BY sample ORDER BY sample"
    rows = [json.loads(line) for line in ok("sql", "-s", work / "study", query, "--json").splitlines()]
    assert {row["sample"] for row in rows} == {"bucket", "heldout", "uniform"}
    table = list(csv.DictReader(io.StringIO(ok("sql", "-s", work / "study", query, "--csv"))))
    assert [(row["sample"], int(row["n"])) for row in table] == [(row["sample"], row["n"]) for row in rows]
    assert "uniform" in ok("sql", "-s", work / "study", query)
    (work / "question.sql").write_text(query)
    assert ok("sql", "-s", work / "study", "-f", work / "question.sql", "--json").count("\n") == 3
    assert ok("sql", "-s", work / "study", "-f", "-", "--json", stdin=query).count("\n") == 3


def test_sql_counts_in_the_index(work):
    query = """SELECT ngram_count('train-index', prefix || suffix) AS n, sequence_count
               FROM sequences JOIN frequencies USING (sequence_id)"""
    rows = [json.loads(line) for line in ok("sql", "-s", work / "study", query, "--json").splitlines()]
    assert len(rows) > 70
    assert all(row["n"] == row["sequence_count"] for row in rows)
    text = "SELECT text_count('train-index', 'word for word') AS n"
    assert json.loads(ok("sql", "-s", work / "study", text, "--json"))["n"] == 40


def test_named_queries_run_and_take_parameters(work):
    names = [json.loads(line)["query"] for line in ok("sql", "-s", work / "study", "--list", "--json").splitlines()]
    assert "rate_by_frequency" in names
    unprobed = {"compression", "layer_decoding", "layer_depth", "paired_depths", "perturbation"}
    unprobed |= {name for name in names if name.startswith(("noise_", "head_"))}
    for name in names:
        if name in unprobed:
            assert "fill it with: memindex probe " in refused("sql", "-s", work / "study", name, "--json")
        else:
            done = here("sql", "-s", work / "study", name, "--json")
            assert done.returncode == 0, done.stderr
    few = ok("sql", "-s", work / "study", "most_memorized_documents", "-p", "documents=1", "--json")
    assert few.count("\n") <= 1


def test_report_writes_one_page(work):
    page = Path(ok("report", "-s", work / "study").strip())
    assert page == work / "study" / "report.html"
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sql", "-s", "nowhere", "SELECT 1"], "no such folder: nowhere"),
        (["sql", "-s", "study", "SELECT nothing FROM memorization"], "nothing"),
        (["sql", "-s", "study", "SELEC 1 FROM memorization"], "SELEC"),
        (["sql", "-s", "study", "no_such_query"], "no query"),
        (["sql", "-s", "study", "rate_by_size", "-p", "colour=1"], "colour"),
        (["sql", "-s", "study"], "QUERY"),
        (["sql", "-s", "study", "-f", "missing.sql"], "missing.sql"),
        (["sql", "-s", "study", "SELECT ngram_count('no-index', [1])"], "no-index"),
        (["sql", "-s", "study", "SELECT ngram_count('train-index', []::INT[])"], "empty"),
        (["report", "-s", "nowhere"], "no such folder"),
        (["study", "run", "nowhere"], "no such folder"),
        (["study", "init", "study", "-i", "train-index"], "exists already"),
        (["study", "init", "other", "-i", "nowhere"], "no such folder"),
        (["study", "init", "other", "-i", "train-index", "--prefix", "0"], "at least 1"),
        (["train", "-i", "nowhere", "--size", "5k", "--tokens", "1k", "--out", "m"], "no such folder"),
        (["train", "-i", "train-index", "--size", "many", "--tokens", "1k", "--out", "m"], "many"),
        (["train", "-i", "train-index", "--size", "5k", "--tokens", "-3", "--out", "m"], "-3"),
        (["train", "-i", "train-index", "--size", "5k", "--tokens", "1k", "--out", "models/tiny"], "exists"),
        (["train", "-i", "train-index", "--size", "5k", "--tokens", "1k", "--out", "m", "--context", "1"], "context"),
        (
            ["train", "-i", "train-index", "--size", "5k", "--tokens", "1k", "--out", "m", "--architecture", "rnn"],
            "unknown architecture",
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_leaves_nothing(work, arguments, message):
    before = sorted(work.rglob("*"))
    assert message in refused(*arguments, cwd=work)
    assert sorted(work.rglob("*")) == before


def test_a_missing_model_is_named(work, tmp_path):
    ok("study", "init", tmp_path / "s", "-i", work / "train-index", "--model", "no-such-org/no-such-model")
    assert "no-such-org/no-such-model" in refused("study", "run", tmp_path / "s", run=memindex)


def test_a_mistake_in_study_toml_is_named_with_its_file(work, tmp_path):
    (tmp_path / "study.toml").write_text('index = "x"\n[sequences]\nprefx = 1\n')
    line = refused("study", "run", tmp_path)
    assert "study.toml" in line
    assert "prefx" in line


def runs(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


@pytest.mark.slow
def test_run_makes_a_study_and_scores_a_model_that_study_toml_does_not_name(work, tmp_path):
    """All a user types: a model and an index. What is there already is not done again."""
    tiny, study = work / "models" / "tiny", tmp_path / "new"
    command = ["run", "--model", tiny, "-i", work / "train-index", "-s", study, "--device", "cpu", "--json"]
    command += ["--suffix", 8]
    done = memindex(*command, "--prefix", 8, "--control", "untrained", "--unit", "1/2", "--unit-size", 500)
    assert done.returncode == 0, done.stderr
    assert [run["run_id"] for run in runs(done.stdout)] == ["tiny 8+8", "tiny (untrained) 8+8 untrained"]
    assert {run["state"] for run in runs(done.stdout)} == {"missing"}
    assert done.stderr.splitlines()[-1].startswith("scored ")
    toml = (study / "study.toml").read_text()
    assert "prefix = 8\nsuffix = 8\n" in toml
    assert "[[models]]" not in toml
    printed = ok(*command, "--prefix", "8", "--control", "untrained", "--unit", "2/2", "--unit-size", 500)
    assert {(run["state"], run["sequences"]) for run in runs(printed)} == {("done", runs(printed)[0]["sequences"])}
    before = {file: file.stat().st_mtime_ns for file in study.rglob("*") if file.is_file()}
    again = memindex(*command)
    assert (again.returncode, again.stderr) == (0, "")
    assert {file: file.stat().st_mtime_ns for file in study.rglob("*") if file.is_file()} == before
    work = [json.loads(line) for line in ok("study", "status", study, "--json").splitlines()]
    added = [one for one in work if not one["in_study"]]
    assert ("scores", "tiny 8+8", "done") in [(one["kind"], one["name"], one["state"]) for one in added]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(work):
    assert "there is no such GPU" in refused(
        "run", "--model", "models/tiny", "-s", "study", "--prefix", 2, "--device", "cuda", cwd=work
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "models/none"], "models/none"),
        (["--model", "models/tiny", "--prefix", "9"], "the study's sequences have 8"),
        (["--model", "models/tiny", "--prefix", "4,x"], "'4,x' is not a number of tokens"),
        (["--model", "models/tiny", "--prefix", "0"], "at least 1"),
        (["--model", "models/tiny", "--seed", "3"], "seed is for sampled"),
        (["--model", "models/tiny", "--decoding", "sampled", "--temperature", "0"], "temperature must be above 0"),
        (["--model", "models/tiny", "--control", "unseen"], "unseen"),
        (["--model", "models/tiny", "--unit", "3/2"], "3/2"),
        (["--model", "models/tiny", "--unit", "3"], "'3' is not a share"),
        (["--model", "models/tiny", "--revision", "main"], "is a folder, which has no revisions"),
        (["--model", "models/tiny", "--model", "models/tiny"], "named twice"),
        (["--model", "models/tiny", "--attention", "sparse", "--prefix", "4"], "sparse"),
        (["--model", "models/tiny", "-i", "elsewhere"], "names other indexes"),
        (["--model", "models/tiny", "-s", "nowhere"], "is not a study"),
        (["--model", "models/none", "-s", "nowhere", "-i", "train-index"], "models/none"),
        (["--model", "models/tiny", "-s", "nowhere", "-i", "train-index", "--prefix", "33"], "reads at most 64"),
        ([], "--model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_run_that_can_t_be_leaves_nothing(work, arguments, message):
    before = sorted(work.rglob("*"))
    study = [] if "-s" in arguments else ["-s", "study"]
    assert message in refused("run", *arguments, *study, "--device", "cpu", cwd=work)
    assert sorted(work.rglob("*")) == before
