"""Runs: what a protocol means, what a control is, and that no way of dividing the work changes what comes out."""

from __future__ import annotations

import io
import pickle
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scored_study import SMALL, assert_same_tables, make_indexes, make_model, make_study, tables

from memindex.errors import MemindexError
from memindex.study.config import FILE, ModelConfig, load_study
from memindex.study.controls import shuffled_rows
from memindex.study.engines import local
from memindex.study.planning import Units, check_unchanged, name_models
from memindex.study.protocol import CONTROL_SEED, ScoringConfig
from memindex.study.running import RunOptions, run_study, status, study_runs
from memindex.study.sampling import token_matrix
from memindex.study.units import finish_run
from memindex.study.worker import Job, Worker, serve
from memindex.tables.store import TableStore

torch = pytest.importorskip("torch")

from memindex.models.loading import load_model  # noqa: E402
from memindex.models.scoring import Decoding, score_sequences  # noqa: E402
from memindex.work.processes import Process  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums of floats depend on the number of threads; the workers of these tests have one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    return make_indexes(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def model(tmp_path_factory, indexes) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny", indexes[0])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, indexes, model):
    """A study whose one run went through in one piece."""
    study = make_study(tmp_path_factory.mktemp("studies") / "whole", indexes, model)
    run_study(study, options=SMALL)
    return study


def copied(undisturbed, folder: Path, *, without: tuple[str, ...] = ("continuations", "models", "runs")):
    """A study beside the undisturbed one, with its sequences and, of its other tables, none."""
    shutil.copytree(undisturbed.directory, folder, ignore=shutil.ignore_patterns(*without))
    text = (folder / FILE).read_text()
    for path in (undisturbed.index, undisturbed.heldout):
        text = text.replace(f'"../../{path.parent.name}/{path.name}"', f'"{path}"')
    (folder / FILE).write_text(text)
    return load_study(folder)


def rows_of(study, table: str, **wanted) -> list[dict]:
    rows = TableStore(study.tables).read(table).to_pylist()
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def ids_of(study) -> tuple[np.ndarray, np.ndarray]:
    table = TableStore(study.tables).read("sequences")
    return token_matrix(table, "prefix"), token_matrix(table, "suffix")


def test_a_prefix_is_cut_from_the_left_and_a_suffix_from_the_right(undisturbed, tmp_path, model):
    study = copied(undisturbed, tmp_path / "s")
    run_study(study, scoring=ScoringConfig(prefix=(1, 3, 8), suffix=5), options=SMALL)
    prefixes, suffixes = ids_of(study)
    loaded = load_model(model, device="cpu")
    assert [row["run_id"] for row in rows_of(study, "runs")] == ["tiny 1+5", "tiny 3+5", "tiny 8+5"]
    for length in (1, 3, 8):
        (run,) = rows_of(study, "runs", prefix_length=length)
        assert (run["suffix_length"], run["decoding"], run["seed"], run["control"]) == (5, "greedy", None, None)
        got = rows_of(study, "continuations", run_id=run["run_id"])
        wanted = score_sequences(loaded, prefixes[:, -length:], suffixes[:, :5], batch_size=32)
        assert [row["continuation"] for row in got] == wanted.continuation.tolist()
        assert np.allclose([row["suffix_logprob"] for row in got], wanted.suffix_logprob, atol=1e-4)
        if length == 1:
            assert {row["prefix_logprob"] for row in got} == {None}
        else:
            assert np.allclose([row["prefix_logprob"] for row in got], wanted.prefix_logprob, atol=1e-4)


def test_sampling_is_recorded_and_depends_on_the_sequence_alone(undisturbed, tmp_path, model):
    study = copied(undisturbed, tmp_path / "s")
    scoring = ScoringConfig(decoding="sampled", seed=7, top_k=20, temperature=1.5)
    run_study(study, scoring=scoring, options=replace(SMALL, unit_size=50, batch_size=7))
    (run,) = rows_of(study, "runs")
    assert run["run_id"] == "tiny 8+8 seed=7 top-k=20 temperature=1.5"
    assert (run["decoding"], run["seed"], run["top_k"], run["temperature"]) == ("sampled", 7, 20, 1.5)
    prefixes, suffixes = ids_of(study)
    decoding = Decoding(seed=7, top_k=20, temperature=1.5)
    ids = np.arange(len(prefixes))
    wanted = score_sequences(load_model(model, device="cpu"), prefixes, suffixes, decoding=decoding, sequence_ids=ids)
    assert [row["continuation"] for row in rows_of(study, "continuations")] == wanted.continuation.tolist()


def test_shuffled_suffixes_are_compared_with_the_same_continuations(undisturbed, tmp_path):
    study = copied(undisturbed, tmp_path / "s")
    run_study(study, scoring=ScoringConfig(controls=("shuffled-suffixes",)), options=SMALL)
    (run,) = rows_of(study, "runs", control="shuffled-suffixes")
    assert run["model_id"] == "tiny"
    own = rows_of(study, "continuations", run_id="tiny 8+8")
    shuffled = rows_of(study, "continuations", run_id=run["run_id"])
    assert [row["continuation"] for row in own] == [row["continuation"] for row in shuffled]
    table = TableStore(study.tables).read("sequences")
    suffixes = token_matrix(table, "suffix")[shuffled_rows(table, CONTROL_SEED)]
    continuations = np.array([row["continuation"] for row in shuffled])
    assert np.allclose([row["score"] for row in shuffled], (continuations == suffixes).mean(axis=1))
    assert np.mean([row["score"] for row in shuffled]) < np.mean([row["score"] for row in own])


def test_an_untrained_model_has_the_same_shape_and_other_weights(undisturbed, tmp_path, model):
    study = copied(undisturbed, tmp_path / "s")
    run_study(study, scoring=ScoringConfig(controls=("untrained",)), options=SMALL)
    (run,) = rows_of(study, "runs", control="untrained")
    assert run["model_id"] == "tiny (untrained)"
    trained, untrained = (rows_of(study, "models", model_id=name)[0] for name in ("tiny", "tiny (untrained)"))
    assert (untrained["trained_tokens"], untrained["parameters"]) == (0, trained["parameters"])
    scores = {row["run_id"]: [] for row in rows_of(study, "runs")}
    for row in rows_of(study, "continuations"):
        scores[row["run_id"]].append(row["suffix_logprob"])
    # Random weights know nothing: 8 tokens of a vocabulary of 256.
    assert abs(np.mean(scores[run["run_id"]]) + 8 * np.log(256)) < 2
    assert np.mean(scores["tiny 8+8"]) > np.mean(scores[run["run_id"]]) + 5


def test_a_model_of_another_corpus_is_marked(undisturbed, tmp_path):
    study = copied(undisturbed, tmp_path / "s")
    with (study.directory / FILE).open("a") as file:
        file.write('control = "other-corpus"\n[scoring]\nprefix = [2, 4]\ncontrols = "shuffled-suffixes"\n')
    study = load_study(study.directory)
    run_study(study, options=SMALL)
    controls = {row["run_id"]: row["control"] for row in rows_of(study, "runs")}
    assert controls == {
        "tiny 2+8 other-corpus": "other-corpus",
        "tiny 4+8 other-corpus": "other-corpus",
        "tiny 2+8 shuffled-suffixes": "shuffled-suffixes",
        "tiny 4+8 shuffled-suffixes": "shuffled-suffixes",
    }
    assert {state for _, state in status(study)} == {"done"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[scoring]\nprefxi = 3", "unknown key prefxi"),
        ("[scoring]\nprefix = [4, true]", "prefix must be a whole number, or a list of such"),
        ("[scoring]\nprefix = 0", "at least 1"),
        ("[scoring]\nsuffix = [4]", "suffix must be a whole number"),
        ("[scoring]\nseed = 3", "seed is for sampled"),
        ('[scoring]\ndecoding = "beam"', "unknown decoding 'beam'"),
        ('[scoring]\ndecoding = "sampled"\ntop_k = 0', "top_k must be at least 1"),
        ('[scoring]\ndecoding = "sampled"\ntop_k = 2147483648', "top_k must be at least 1 and below"),
        ('[scoring]\ndecoding = "sampled"\ntemperature = 0', "temperature must be above 0"),
        ('[scoring]\ndecoding = "sampled"\ntemperature = nan', "temperature must be above 0"),
        ('[scoring]\ndecoding = "sampled"\nseed = -1', "seed must be"),
        ('[scoring]\ndtype = "int8"', "unknown dtype 'int8'"),
        ('[scoring]\ncontrols = ["unseen"]', "unknown control 'unseen'"),
        ('[scoring]\ncontrols = ["other-corpus"]', "unknown control 'other-corpus'"),
        ('[[models]]\nid = "m"\nsource = "m"\ncontrol = "untrained"', "unknown control 'untrained' of m"),
        ('[[models]]\nid = "m"\nsource = "m"\ntrained_tokens = -1', "trained_tokens of m must be between 0"),
        ("scoring = 3", "scoring must be a table"),
    ],
)
def test_mistakes_in_a_protocol_are_named(tmp_path, text, message):
    (tmp_path / FILE).write_text(f'index = "i"\n{text}\n')
    with pytest.raises(MemindexError, match=message) as raised:
        load_study(tmp_path)
    assert FILE in str(raised.value)


def test_lengths_beyond_the_sequences_or_the_context_are_refused(undisturbed, tmp_path, indexes):
    study = copied(undisturbed, tmp_path / "s")
    for scoring, message in (
        (ScoringConfig(prefix=(4, 9)), "prefix of 9 tokens is asked for, the study's sequences have 8"),
        (ScoringConfig(suffix=9), "suffix of 9 tokens is asked for"),
    ):
        with pytest.raises(MemindexError, match=message):
            run_study(study, scoring=scoring, options=SMALL)
    from memindex.models.from_index import train_on_index

    train_on_index(indexes[0], "llama", 2000, 200, tmp_path / "short", context=12, device="cpu")
    short = [ModelConfig("short", str(tmp_path / "short"))]
    with pytest.raises(MemindexError, match="16 tokens, short reads at most 12"):
        run_study(study, models=short, options=SMALL)
    run_study(study, models=short, scoring=ScoringConfig(prefix=(4,)), options=SMALL)
    assert [row["run_id"] for row in rows_of(study, "runs")] == ["short 4+8"]


def test_shares_of_the_units_make_the_whole(undisturbed, tmp_path):
    study = copied(undisturbed, tmp_path / "s")
    units = len(TableStore(undisturbed.tables).units("continuations"))
    assert units > 3
    seen = 0
    for share in (3, 1, 2):
        assert not TableStore(study.tables).units("runs")
        run_study(study, options=replace(SMALL, part=(share, 3)))
        numbers = [int(name.split()[-1]) // 64 for name in TableStore(study.tables).units("continuations")]
        assert {n % 3 for n in numbers[:seen] + numbers} >= {share - 1}
        assert len(numbers) == seen + len(range(share - 1, units, 3))
        seen = len(numbers)
    assert_same_tables(study, undisturbed)


@pytest.mark.parametrize("share", [(0, 2), (3, 2)])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(MemindexError, match="no unit share"):
        RunOptions(part=share)


def test_processes_give_the_same_tables(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study = copied(undisturbed, tmp_path / "s")
    seen = []
    done = run_study(study, options=replace(SMALL, workers=2), progress=lambda *report: seen.append(report))
    assert_same_tables(study, undisturbed)
    rows = len(TableStore(study.tables).read("sequences"))
    assert done.sequences == rows
    counts = [count for stage, count, _ in seen if stage == "score tiny 8+8"]
    assert counts == sorted(counts)
    assert counts[-1] == rows


@pytest.mark.usefixtures("ray")
def test_a_ray_cluster_gives_the_same_tables(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study = copied(undisturbed, tmp_path / "s")
    run_study(study, options=replace(SMALL, engine="ray", workers=2))
    assert_same_tables(study, undisturbed)


def test_a_dead_worker_is_told(undisturbed, tmp_path, monkeypatch):
    study = copied(undisturbed, tmp_path / "s")
    (tmp_path / "dying.py").write_text("import os, sys; sys.stdin.buffer.read(1); os._exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(local, "_start", lambda *_: Process("dying"))
    with pytest.raises(MemindexError, match="ended with exit code 3"):
        run_study(study, options=replace(SMALL, workers=2))
    assert not rows_of(study, "runs")


@pytest.fixture
def broken(tmp_path, model) -> list[ModelConfig]:
    """A model whose weights are partly NaN."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    name = next(name for name in weights if "norm" in name)
    save_file({**weights, name: weights[name] * np.nan}, tmp_path / "broken" / "model.safetensors", {"format": "pt"})
    return [ModelConfig("broken", str(tmp_path / "broken"))]


def test_nan_logits_are_refused_and_leave_nothing(undisturbed, tmp_path, broken):
    study = copied(undisturbed, tmp_path / "s")
    with pytest.raises(MemindexError, match="NaN"):
        run_study(study, models=broken, options=SMALL)
    assert not any(rows_of(study, table) for table in ("continuations", "models", "runs"))


def test_a_worker_tells_what_went_wrong(undisturbed, tmp_path, broken):
    """The loop of a worker process, here in a thread: its answers, and what it writes."""
    study = copied(undisturbed, tmp_path / "s")
    bad, good = first_job(study, models=broken), first_job(study)
    for jobs, wanted in (([good, None], ["progress", "progress", "done", "written"]), ([bad, None], ["failed"])):
        commands, answers = io.BytesIO(b"".join(pickle.dumps(job) for job in jobs)), io.BytesIO()
        serve(lambda: Worker(study.tables), commands, answers)
        answers.seek(0)
        got = [pickle.load(answers) for _ in wanted]
        assert [answer[0] for answer in got] == wanted
        assert not answers.read()
    assert "NaN" in got[0][1]
    assert TableStore(study.tables).units("continuations") == [good.units.names()[0]]


def test_a_unit_is_written_beside_the_next_one_s_scoring(undisturbed, tmp_path, monkeypatch):
    """The second unit is scored while the first one's writing has not ended."""
    study = copied(undisturbed, tmp_path / "s")
    scored, ended = threading.Event(), []

    def slow_write(store, unit):
        if unit.number == 0:
            assert scored.wait(timeout=60), "the next unit waited for this one"
        ended.append(unit.number)

    monkeypatch.setattr("memindex.study.worker.write_unit", slow_write)

    def progress(stage, done, total):
        if stage.startswith("score") and done >= 128:
            scored.set()

    run_study(study, options=SMALL, progress=progress)
    assert ended == sorted(ended)
    assert len(ended) > 3


def test_what_can_t_be_written_ends_the_run(undisturbed, tmp_path, monkeypatch):
    study = copied(undisturbed, tmp_path / "s")
    written = []

    def full(store, unit):
        written.append(unit.number)
        if unit.number == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("memindex.study.worker.write_unit", full)
    with pytest.raises(OSError, match="No space left"):
        run_study(study, options=SMALL)
    assert not rows_of(study, "runs")
    # The last unit's error must surface too.
    with Worker(study.tables) as worker, pytest.raises(OSError, match="No space left"):
        job = first_job(study, number=1)
        worker.score(job)
        worker.flush()


def first_job(study, number: int = 0, models: list[ModelConfig] | None = None) -> Job:
    rows = len(TableStore(study.tables).read("sequences"))
    return Job(Units(study_runs(study, models)[0], "cpu", rows, 64), number, 32)


def test_whoever_finishes_last_writes_the_row(undisturbed, tmp_path):
    study = copied(undisturbed, tmp_path / "s", without=("runs",))
    store, units = TableStore(study.tables), first_job(study).units
    last = store.file("continuations", units.names()[-1])
    last.rename(tmp_path / "aside")
    assert not finish_run(store, units)
    (tmp_path / "aside").rename(last)
    threads = [threading.Thread(target=finish_run, args=(store, units)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same_tables(study, undisturbed)


def test_a_run_that_others_did_in_other_units_stands_there_once(undisturbed, tmp_path):
    """Two processes, each with units of its own size, neither of which could know of the other when it began."""
    study = copied(undisturbed, tmp_path / "s")
    store, first = TableStore(study.tables), first_job(study).units
    second = replace(first, size=100)
    for units in (first, second):
        with Worker(study.tables) as worker:
            for number in range(len(units) - 1):
                worker.score(Job(units, number, 32))
    for units in (first, second):
        with Worker(study.tables) as worker:
            worker.score(Job(units, len(units) - 1, 32))
        assert_same_tables(study, undisturbed)
    assert store.units("continuations") == first.names()


def test_an_import_hides_no_change_of_the_model(undisturbed, tmp_path):
    study = copied(undisturbed, tmp_path / "s", without=())
    store = TableStore(study.tables)
    imported = store.read("runs").to_pydict() | {"run_id": ["tiny z"], "model_fingerprint": [None]}
    store.write("runs", "tiny z", imported)
    changed = [replace(run, fingerprint="0" * 12) for run in study_runs(study)]
    check_unchanged(store, study_runs(study), study)
    with pytest.raises(MemindexError, match="changed since it was scored"):
        check_unchanged(store, changed, study)


def test_near_temperatures_are_runs_of_their_own():
    near = (0.7, 0.7000001, 1.0, 1.0000001)
    configs = [ScoringConfig(decoding="sampled", temperature=value) for value in near]
    labels = [next(config.protocols(8, 8)).label() for config in configs]
    assert labels == [
        "8+8 seed=0" + end for end in (" temperature=0.7", " temperature=0.7000001", "", " temperature=1.0000001")
    ]
    assert (
        next(ScoringConfig(decoding="sampled", temperature=2).protocols(8, 8)).label() == "8+8 seed=0 temperature=2.0"
    )


def test_a_run_all_of_whose_units_are_there_needs_no_model(undisturbed, tmp_path, monkeypatch):
    study = copied(undisturbed, tmp_path / "s", without=("runs",))
    monkeypatch.setattr(Worker, "score", None)
    run_study(study, options=SMALL)
    assert_same_tables(study, undisturbed)


def test_a_run_leaves_the_units_of_runs_with_longer_names_alone(undisturbed, tmp_path):
    study = copied(undisturbed, tmp_path / "s")
    run_study(study, scoring=ScoringConfig(dtype="bfloat16"), options=SMALL)
    before = tables(study)["continuations"]
    run_study(study, options=SMALL)
    assert tables(study)["continuations"].slice(len(before)).equals(before) or tables(study)["continuations"].slice(
        0, len(before)
    ).equals(before)
    assert sorted(row["dtype"] for row in rows_of(study, "runs")) == ["bfloat16", "float32"]


def test_sequences_of_others_are_not_scored(undisturbed, tmp_path):
    study = copied(undisturbed, tmp_path / "s")
    store = TableStore(study.tables)
    foreign = store.read("sequences").slice(0, 1)
    column = foreign.schema.get_field_index("sequence_id")
    foreign = foreign.set_column(column, foreign.field(column), [[1 << 40]])
    store.write("sequences", "import other", foreign)
    run_study(study, options=SMALL)
    assert 1 << 40 not in {row["sequence_id"] for row in rows_of(study, "continuations")}
    assert rows_of(study, "runs")[0]["sequences"] == len(store.read("sequences")) - 1


def test_texts_are_tokenized_anew_for_a_model_with_another_tokenizer(indexes, tmp_path, model):
    from memindex.corpus.tokenizer import load_tokenizer
    from memindex.corpus.tokenizer_training import train_tokenizer
    from memindex.index import Index, build_index
    from memindex.study.retokenizing import retokenize

    for part in ("train", "heldout"):
        texts = indexes[0].path.parent / part
        if part == "train":
            words = [file.read_text() for file in sorted(texts.glob("*.txt"))]
            train_tokenizer(words, tmp_path / "tokenizer", 400)
        build_index([texts], tmp_path / part, tokenizer=load_tokenizer(tmp_path / "tokenizer"))
    others = Index.open(tmp_path / "train"), Index.open(tmp_path / "heldout")
    study = make_study(tmp_path / "s", others, model)
    with pytest.raises(MemindexError, match="--retokenize"):
        run_study(study, options=SMALL)
    assert not study.tables.exists()
    run_study(study, scoring=ScoringConfig(prefix=(3, 8), retokenize=True), options=SMALL)
    table = TableStore(study.tables).read("sequences")
    wanted = retokenize(others, table, indexes[0].tokenizer, 8, 8)
    loaded = load_model(model, device="cpu")
    for length in (3, 8):
        (run,) = rows_of(study, "runs", prefix_length=length)
        assert (run["retokenized"], run["sequences"]) == (True, len(wanted.rows))
        rows = rows_of(study, "continuations", run_id=run["run_id"])
        assert [row["sequence_id"] for row in rows] == wanted.rows.tolist()
        scores = score_sequences(loaded, wanted.prefixes[:, -length:], wanted.suffixes, batch_size=32)
        assert [row["continuation"] for row in rows] == scores.continuation.tolist()
        assert np.allclose([row["score"] for row in rows], scores.score)


def test_models_are_named_by_their_last_part_or_by_more(undisturbed, tmp_path, model, monkeypatch):
    study = copied(undisturbed, tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / "a" / "tiny")
    named = name_models(study, ["org/m", "other/m", "a/tiny", "tiny"], control="other-corpus")
    assert [m.id for m in named] == ["m", "other/m", "a/tiny", "tiny"]
    assert named[2].source == "../a/tiny"
    assert named[3].source == study.models[0].source
    assert {m.control for m in named} == {"other-corpus"}
    named = name_models(study, ["org/m"], ["step1", "step2"])
    assert [(m.id, m.source, m.revision) for m in named] == [
        ("m@step1", "org/m", "step1"),
        ("m@step2", "org/m", "step2"),
    ]
    for sources, revisions, message in (
        (["org/m", "org/m"], [], "named twice"),
        (["a/tiny"], ["main"], "is a folder, which has no revisions"),
    ):
        with pytest.raises(MemindexError, match=message):
            name_models(study, sources, revisions)
