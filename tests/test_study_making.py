"""A study that makes its own corpus, planted texts and models: everything from one study.toml, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memindex.errors import MemindexError
from memindex.index import Index
from memindex.study.checking import check_study
from memindex.study.config import StudyConfig, load_study, parse_study, with_models

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "r", "st")]

STUDY = """
index = "index/mixed"
heldout = "index/mixed-heldout"
planted = "planted"

[build]
vocabulary = 400

[[corpus]]
sources = ["texts/lines/train"]
heldout = ["texts/lines/heldout"]
domain_field = "kind"

[[corpus]]
sources = ["texts/rows/train.parquet"]
heldout = ["texts/rows/heldout.parquet"]
text_field = "content"
domain_field = "lang"

[[other]]
sources = ["texts/other"]

[plant]
copies = [0, 1, 4]
sequences = 3

[[train]]
architectures = ["gpt_neox", "llama"]
sizes = ["5k"]
passes = 1.5
context = 32
batch_size = 8
checkpoints = ["1k", "2k"]

[[train]]
architectures = ["gpt_neox"]
sizes = ["5k"]
tokens = "3k"
context = 32
batch_size = 8
seeds = [1]

[[train]]
architectures = ["gpt_neox"]
sizes = ["5k"]
tokens = "1k"
context = 32
batch_size = 8
other = true

[sequences]
prefix = 8
suffix = 8
uniform = 40
per_bucket = 10
per_domain = 12
heldout = 20

[scoring]
controls = ["shuffled-suffixes"]
controlled = ["gpt_neox-5k"]

[probes]
run = ["layer_decoding"]
models = ["llama-*"]
sequences = 2
"""


def texts(number: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, size=60)) for _ in range(number)]


def write_texts(root: Path) -> None:
    """Two parts in two formats, and other text in plain files."""
    for name, number, seed in (("train", 60, 1), ("heldout", 12, 2)):
        folder = root / "texts" / "lines" / name
        folder.mkdir(parents=True)
        lines = [json.dumps({"text": text, "kind": f"kind{i % 2}"}) for i, text in enumerate(texts(number, seed))]
        (folder / "a.jsonl").write_text("\n".join(lines))
        rows = root / "texts" / "rows"
        rows.mkdir(exist_ok=True)
        pq.write_table(
            pa.table({"content": texts(number, seed + 10), "lang": ["code"] * number}), rows / f"{name}.parquet"
        )
    (root / "texts" / "other").mkdir()
    for i, text in enumerate(texts(20, 5)):
        (root / "texts" / "other" / f"{i}.txt").write_text(text)


def study_in(root: Path, text: str = STUDY) -> StudyConfig:
    root.mkdir(exist_ok=True)
    if not (root / "texts").exists():
        write_texts(root)
    (root / "study.toml").write_text(text)
    return load_study(root)


def states(config: StudyConfig) -> dict[str, bool | None]:
    return {one.what: one.there for one in check_study(config)}


def test_the_plan_is_told_before_anything_is_made(tmp_path):
    config = study_in(tmp_path)
    plan = {one.what: one for one in check_study(config)}
    assert plan["planted"].amount == "3 texts of each of 0, 1, 4 copies: 15 documents"
    assert "nearest to 5k" in plan["model llama-5k"].amount
    assert plan["runs"].amount == "9: 8 of 8+8, 1 of 8+8 shuffled-suffixes"
    assert {one.there for name, one in plan.items() if name.startswith(("index", "model"))} == {False}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.toml", "texts"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("texts/lines/train", "texts/nowhere", "texts/nowhere; put the corpus, or a link to it, there"),
        ("vocabulary = 400", 'tokenizer = "nothing.json"', "unknown tokenizer nothing.json"),
        ("vocabulary = 400", 'vocabulary = 400\ntokenizer = "bytes"', "name a tokenizer, or the vocabulary"),
        ('"gpt_neox", "llama"', '"gpt_neox", "mamba"', "unknown architecture 'mamba'; known: gpt_bigcode, "),
        ('sizes = ["5k"]', 'sizes = ["5q"]', "'5q' is no size"),
        ("passes = 1.5", 'passes = 1.5\ntokens = "3k"', "say how long: tokens, or passes"),
        ("passes = 1.5", 'tokens = "1k"', "after 1k tokens is not before the end, 1,000 tokens"),
        ("seeds = [1]", "seeds = [0]", "two models are called gpt_neox-5k"),
        ("context = 32", "context = 8", "trained with a context of 8"),
        ("seeds = [1]", "sedes = [1]", "unknown key sedes"),
        ('planted = "planted"', "", "plant needs planted, heldout and [build] beside it"),
        ('[[other]]\nsources = ["texts/other"]', "", "train needs [[other]] beside it"),
        ('index = "index/mixed"', 'index = "index/other"', "the index of [[other]] is called other"),
        ('models = ["llama-*"]', 'models = ["olmo-*"]', "names no model of the study"),
        ('models = ["llama-*"]', 'models = ["llama-*", "olmo-*"]', "names no model of the study (olmo-*); known: "),
        (
            'controlled = ["gpt_neox-5k"]',
            'controlled = ["gpt_neo-5k"]',
            "controlled names no model of the study (gpt_neo-5k)",
        ),
    ],
)
def test_what_can_not_be_run_is_refused_in_one_line(tmp_path, old, new, message):
    assert old in STUDY
    with pytest.raises(MemindexError) as refused:
        check_study(study_in(tmp_path, STUDY.replace(old, new, 1)))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.toml", "texts"]


def test_a_corpus_that_is_shorter_than_the_budget_is_found_before_it_is_indexed(tmp_path):
    longer = STUDY.replace("vocabulary = 400", 'tokenizer = "bytes"').replace('tokens = "3k"', 'tokens = "300k"')
    with pytest.raises(MemindexError, match=r"trained on 300,000 tokens, and the corpus has .*: write passes = "):
        check_study(study_in(tmp_path, longer))
    check_study(study_in(tmp_path, longer.replace('tokens = "300k"', "passes = 10")))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A study that ran, as its only command runs it."""
    pytest.importorskip("torch", reason="a study runs models")
    root = tmp_path_factory.mktemp("made") / "study"
    study_in(root)
    command = [sys.executable, "-m", "memindex.cli", "study", "run", root, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root


def test_one_command_makes_the_indexes_the_models_and_the_tables(made):
    from memindex.study.running import status

    config = load_study(made)
    work = dict(status(config))
    # Random words are nothing that can be memorized.
    probes = {name: state for name, state in work.items() if name.startswith("layer_decoding")}
    assert probes == {f"layer_decoding of llama-5k{end}": "too few sequences" for end in ("@1k", "@2k", "")}
    assert {state for name, state in work.items() if name not in probes} == {"done"}
    assert {"index mixed", "index other", "model llama-5k", "scores of gpt_neox-5k-seed1"} <= set(work)
    assert False not in states(config).values()
    index = Index.open(config.index)
    assert set(index.manifest.domain_names()) == {"code", "kind0", "kind1", "planted"}
    assert index.manifest.documents == 60 + 60 + 15
    assert Index.open(config.heldout).manifest.documents == 24
    planted = pq.read_table(made / "planted" / "planted.parquet")
    assert index.count([list(ids) for ids in planted["tokens"].to_pylist()]).tolist() == [0] * 3 + [1] * 3 + [4] * 3


def test_models_are_what_the_study_says(made):
    config = load_study(made)
    corpus = Index.open(config.index).manifest.tokens
    record = json.loads((made / "models" / "llama-5k" / "training.json").read_text())
    assert record["architecture"] == "llama"
    assert record["config"]["tokens"] == round(1.5 * corpus)
    assert record["trained_tokens"] == round(1.5 * corpus) // 32 * 32
    half = json.loads((made / config_source(config, "llama-5k@1k") / "training.json").read_text())
    assert 1000 <= half["trained_tokens"] < 1000 + 8 * 32
    other = json.loads((made / "models" / "gpt_neox-5k-other" / "training.json").read_text())
    assert other["corpus"] == "other"
    seeds = [
        json.loads((made / "models" / f"gpt_neox-5k{end}" / "training.json").read_text()) for end in ("", "-seed1")
    ]
    assert seeds[0]["config"]["seed"] != seeds[1]["config"]["seed"]


def config_source(config: StudyConfig, model_id: str) -> str:
    return next(model.source for model in config.models if model.id == model_id)


def test_tables_know_checkpoints_and_controls(made):
    from memindex.sql.connection import connect

    con = connect(made)
    rows = con.execute(
        "SELECT model_id, control, trained_tokens FROM runs JOIN models USING (model_id) ORDER BY ALL"
    ).fetchall()
    con.close()
    controls = {(model, control) for model, control, _ in rows}
    assert ("gpt_neox-5k-other", "other-corpus") in controls
    assert ("gpt_neox-5k", "shuffled-suffixes") in controls
    assert ("llama-5k", "shuffled-suffixes") not in controls
    tokens = {model: tokens for model, control, tokens in rows if control is None}
    assert tokens["llama-5k@1k"] < tokens["llama-5k@2k"] < tokens["llama-5k"]


def test_rates_of_a_frequency_in_a_domain_are_those_of_its_sample(made):
    from memindex.sql.connection import connect
    from memindex.sql.queries import run_query

    con = connect(made)
    rows = run_query(con, "frequency_in_domains").to_pylist()
    plain = """SELECT run_label, domain, count(*), avg(memorized::INT) FROM memorization
               WHERE sample = 'domain' AND sequence_count = 1 GROUP BY ALL HAVING count(*) >= 10"""
    expected = {(run, domain): (number, rate) for run, domain, number, rate in con.execute(plain).fetchall()}
    con.close()
    once = {(r["run_label"], r["domain"]): (r["sequences"], r["rate"]) for r in rows if r["frequency_bucket"] == 0}
    assert once == expected
    assert {domain for _, domain in once} == {"code", "kind0", "kind1"}
    assert {number for number, _ in once.values()} == {12}


@pytest.mark.filterwarnings("ignore:layer_decoding compares")
def test_a_second_run_makes_nothing_anew(made):
    from memindex.study.running import run_study

    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    run_study(load_study(made))
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sequences = 3", "sequences = 2", "changed since its indexes were made"),
        ("vocabulary = 400", "vocabulary = 401", "changed since its indexes were made"),
        ("passes = 1.5", "passes = 1.25", "study.toml says"),
        ("batch_size = 8", "batch_size = 4", "trained with batch_size = 8, study.toml says 4"),
        ("passes = 1.5", "passes = 1.5\nlearning_rate = 0.004", "with learning_rate = 0.01, study.toml says 0.004"),
    ],
)
def test_what_was_made_otherwise_is_not_mixed_in(made, old, new, message):
    from memindex.study.running import run_study

    changed = parse_study(STUDY.replace(old, new, 1), made)
    with pytest.raises(MemindexError, match=message):
        run_study(changed)


def test_machines_that_share_nothing_take_some_of_the_models_each(made, tmp_path):
    """Two folders, each with some of the models; the files of their tables are those of a run of all."""
    from memindex.study.running import RunOptions, run_study, status

    whole = load_study(made)
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder, patterns in zip(folders, (["llama-*"], ["gpt_neox-5k*"]), strict=True):
        shutil.copytree(made, folder, ignore=shutil.ignore_patterns("models", "tables"))
        part = with_models(load_study(folder), patterns)
        with pytest.warns(UserWarning, match="layer_decoding compares") if "llama" in patterns[0] else nullcontext():
            run_study(part, options=RunOptions(device="cpu"))
        assert {state for _, state in status(part)} <= {"done", "too few sequences"}
    assert len(with_models(whole, ["llama-5k@1k"]).train) == 1
    with pytest.raises(MemindexError, match=r"no model of the study is called bert; known: gpt_neox-5k@1k, "):
        with_models(whole, ["llama-*", "bert"])
    for table in (folders[1] / "tables").iterdir():
        shutil.copytree(table, folders[0] / "tables" / table.name, dirs_exist_ok=True)
    assert _files(made / "tables") == _files(folders[0] / "tables")


def _files(tables: Path) -> list[str]:
    """Names of files, without what tells two states of a model apart: sums of fewer threads are other sums."""
    names = (path.relative_to(tables).as_posix() for path in tables.rglob("*"))
    return sorted(re.sub(r" [0-9a-f]{8}(?= \d{9})", "", name) for name in names)


@pytest.mark.slow
def test_trainings_can_be_shared_out(made, tmp_path):
    from memindex.study.running import RunOptions, run_study

    root = tmp_path / "shared"
    shutil.copytree(made, root, ignore=shutil.ignore_patterns("models", "tables"))
    config = load_study(root)
    run_study(config, only="train", options=RunOptions(device="cpu", part=(1, 2)))
    assert sorted(path.name for path in (root / "models").iterdir()) == ["gpt_neox-5k", "gpt_neox-5k-seed1"]
    run_study(config, only="train", options=RunOptions(device="cpu", part=(2, 2), workers=2))
    assert sorted(path.name for path in (root / "models").iterdir()) == [
        "gpt_neox-5k",
        "gpt_neox-5k-other",
        "gpt_neox-5k-seed1",
        "llama-5k",
    ]
    # Sums of fewer threads are other sums in the last bits.
    for name in ("gpt_neox-5k", "gpt_neox-5k-other", "llama-5k"):
        records = [json.loads((folder / "models" / name / "training.json").read_text()) for folder in (made, root)]
        assert records[0]["config"] == records[1]["config"]
        assert records[0]["final_loss"] == pytest.approx(records[1]["final_loss"], abs=1e-3)
