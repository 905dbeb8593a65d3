"""A build is there whole or not at all, and goes on where it was: killed, failed, repeated, and run twice at once."""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthetic_corpus import assert_refused, left_in, memindex, sentences, train_bpe, write_jsonl

from memindex.corpus.sources import ReadOptions
from memindex.errors import MemindexError
from memindex.index import Index, build_index
from memindex.index import builder as builder_module


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    train_bpe(folder / "small.json")
    for part in range(4):
        rows = [{"text": t, "d": f"d{i % 3}"} for i, t in enumerate(sentences(1500, words=60, seed=part + 1))]
        write_jsonl(folder / "text" / f"{part}.jsonl", rows)
    return folder


def arguments(corpus, out):
    options = ["--tokenizer", corpus / "small.json", "--domain-field", "d", "--shards", "3", "--unit-size", "1kB"]
    return ["index", "build", corpus / "text", "--out", out, *options]


def build(corpus, out, **options):
    """The same in this process."""
    tokenizer, fields = corpus / "small.json", ReadOptions("text", "d")
    options = {"shards": 3, "unit_bytes": 1000, "workers": 1} | options
    return build_index([corpus / "text"], out, tokenizer=tokenizer, options=fields, **options)


@pytest.fixture(scope="module")
def reference(corpus):
    result = memindex(*arguments(corpus, corpus / "reference"))
    assert result.returncode == 0, result.stderr
    return corpus / "reference"


def content(index):
    return {p.name: p.read_bytes() for p in index.iterdir() if p.name != "index.json"}


def assert_same_index(index, reference):
    assert content(index) == content(reference)
    manifests = [json.loads((path / "index.json").read_text()) for path in (index, reference)]
    for manifest in manifests:
        del manifest["created"], manifest["name"], manifest["checksum"]
    assert manifests[0] == manifests[1]


def test_a_second_build_gives_the_same_bytes(corpus, reference, tmp_path):
    build(corpus, tmp_path / "again")
    assert_same_index(tmp_path / "again", reference)


def test_the_order_of_workers_changes_nothing(corpus, reference, tmp_path):
    build(corpus, tmp_path / "three", workers=3)
    assert_same_index(tmp_path / "three", reference)


def test_the_size_of_units_changes_nothing(corpus, reference, tmp_path):
    build(corpus, tmp_path / "whole", unit_bytes=1 << 30)
    assert_same_index(tmp_path / "whole", reference)


def partial(folder):
    return folder / ".out.partial"


def units(folder, pattern):
    return list((partial(folder) / "units").glob(pattern))


MOMENTS = {
    "the folder is made": lambda folder: partial(folder).exists(),
    "the first tokens are written": lambda folder: units(folder, "*tokens-*/tokenized.0"),
    "a unit is finished": lambda folder: units(folder, "tokens-*"),
    "documents are dealt": lambda folder: (partial(folder) / "index" / "tokenized.2").exists(),
    "sorting begins": lambda folder: (partial(folder) / "index" / "unigram.0").exists(),
    "a shard is sorted": lambda folder: units(folder, "sorted-*"),
    "the tokenizer is copied": lambda folder: (partial(folder) / "index" / "tokenizer.json").exists(),
}


def size(file):
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return -1


def children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.usefixtures("sigint")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds child processes in /proc, which is not here")
@pytest.mark.parametrize(
    ("kill", "moment"),
    [*((signal.SIGKILL, name) for name in MOMENTS), *((signal.SIGINT, name) for name in list(MOMENTS)[:3])],
)
def test_a_build_that_is_stopped_leaves_no_half_index_and_can_be_repeated(corpus, reference, tmp_path, moment, kill):
    command = [sys.executable, "-m", "memindex.cli", *map(str, arguments(corpus, tmp_path / "out"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not MOMENTS[moment](tmp_path):
            time.sleep(0.0005)
        sorters = children(process.pid)
        process.send_signal(kill)
        _, stderr = process.communicate(timeout=60)
    if (tmp_path / "out").exists():
        # The build was faster than the signal: then all of it must be there.
        assert_same_index(tmp_path / "out", reference)
        # Or it was stopped while it tidied up; that is done by the next one.
        assert_refused(memindex(*arguments(corpus, tmp_path / "out")), "exists already")
        assert left_in(tmp_path) == ["out"]
        return
    if kill == signal.SIGINT:
        kept = "; finished units are kept: run the same command again to resume" * bool(units(tmp_path, "[!.]*"))
        assert process.returncode == 130
        assert stderr.split("\n")[-3:] == ["", f"memindex: stopped{kept}", ""]
        assert "Traceback" not in stderr
    deadline = time.monotonic() + 10
    while any(map(alive, sorters)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(alive, sorters)), "a sorting process outlived its build"
    finished = len(units(tmp_path, "tokens-*")) or len(units(tmp_path, "dealt-*.json") + units(tmp_path, "sorted-*"))
    assert build(corpus, tmp_path / "out").taken_over == finished
    assert_same_index(tmp_path / "out", reference)
    assert left_in(tmp_path) == ["out"]


@pytest.mark.kill
def test_a_build_that_is_killed_over_and_over_ends_with_the_same_files(corpus, reference, tmp_path):
    moment, kills, since = random.Random(6), 0, time.monotonic()
    build(corpus, tmp_path / "warm")
    usual = time.monotonic() - since + 1
    command = [sys.executable, "-m", "memindex.cli", *map(str, arguments(corpus, tmp_path / "out")), "--json"]
    while True:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                answer, stderr = process.communicate(timeout=moment.uniform(0.3, usual) if kills < 5 else 60)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
                continue
        break
    assert kills > 0
    assert_same_index(tmp_path / "out", reference)
    if process.returncode:
        # The last kill came after the index had its name: there was nothing left to do but to tidy up.
        assert b"exists already" in stderr
    else:
        assert json.loads(answer)["tokens"] == Index.open(reference).manifest.tokens
    assert left_in(tmp_path) == ["out", "warm"]


def add_document(file):
    file.write_bytes((file.read_bytes() if file.exists() else b"") + b'{"text": "more", "d": "e"}\n')


CHANGES = {
    "a file is newer": ("tokenize", lambda folder, options: os.utime(folder / "2.jsonl", (1, 1))),
    "a file is longer": ("tokenize", lambda folder, options: add_document(folder / "0.jsonl")),
    "a file more": ("sort", lambda folder, options: add_document(folder / "9.jsonl")),
    "a file less": ("sort", lambda folder, options: (folder / "1.jsonl").unlink()),
    "another number of shards": ("sort", lambda folder, options: options.update(shards=2)),
    "other domains": ("tokenize", lambda folder, options: options.update(options=ReadOptions("text"))),
    "wider tokens": ("tokenize", lambda folder, options: options.update(token_width=4)),
    "larger units": ("tokenize", lambda folder, options: options.update(unit_bytes=1 << 20)),
    "fewer keys": ("sort", lambda folder, options: options.update(key_stride=64)),
}


@pytest.mark.parametrize(("stopped_at", "change"), CHANGES.values(), ids=CHANGES)
def test_what_was_made_from_something_else_is_made_again(corpus, tmp_path, stopped_at, change):
    shutil.copytree(corpus / "text", tmp_path / "text")
    how = {"tokenizer": corpus / "small.json", "options": ReadOptions("text", "d"), "shards": 3, "unit_bytes": 1000}

    def stop(stage, done, total):
        if stage == stopped_at and done > total / 2:
            raise MemindexError("stop")

    with pytest.raises(MemindexError, match="stop; finished units are kept"):
        build_index([tmp_path / "text"], tmp_path / "out", **how, workers=1, progress=stop)
    change(tmp_path / "text", how)
    build_index([tmp_path / "text"], tmp_path / "out", **how, workers=1)
    build_index([tmp_path / "text"], tmp_path / "fresh", **how, workers=1)
    assert_same_index(tmp_path / "out", tmp_path / "fresh")


@pytest.mark.parametrize("stage", ["tokenize", "sort"])
def test_two_builds_at_once_do_not_touch_each_other(corpus, reference, tmp_path, stage):
    refused = []

    def second(told, done, total):
        if told == stage and not refused:
            refused.append(memindex(*arguments(corpus, tmp_path / "out")))

    build(corpus, tmp_path / "out", progress=second)
    assert_refused(refused[0], "out is being written by `memindex index build` (process ", "try again")
    assert_same_index(tmp_path / "out", reference)
    assert left_in(tmp_path) == ["out"]


def test_a_build_that_waited_for_one_that_failed_leaves_the_folder_of_a_third_alone(corpus, tmp_path, monkeypatch):
    flock, third = fcntl.flock, []

    def late(handle, how):
        if not third:
            # Between opening and locking, the build that was there fails, and another begins.
            partial(tmp_path).rmdir()
            partial(tmp_path).mkdir()
            (partial(tmp_path) / "tokenized.0").write_text("the third build's")
            third.append(os.open(partial(tmp_path), os.O_RDONLY))
            flock(third[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    try:
        with pytest.raises(MemindexError, match="is being written by another process"):
            build(corpus, tmp_path / "out")
        assert (partial(tmp_path) / "tokenized.0").read_text() == "the third build's"
    finally:
        os.close(third[0])
    build(corpus, tmp_path / "out")
    assert left_in(tmp_path) == ["out"]


def test_a_build_that_waited_for_one_that_failed_takes_its_place(corpus, reference, tmp_path, monkeypatch):
    flock, removed = fcntl.flock, []

    def late(handle, how):
        if not removed:
            removed.append(partial(tmp_path).rmdir())
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    build(corpus, tmp_path / "out")
    assert_same_index(tmp_path / "out", reference)


def test_an_index_that_appears_during_a_build_is_not_overwritten(corpus, reference, tmp_path):
    def appear(stage, done, total):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "precious").write_text("mine")

    for _ in range(2):
        with pytest.raises((MemindexError, OSError)):
            build(corpus, tmp_path / "out", progress=appear)
        assert left_in(tmp_path) == [".out.partial", "out"]
        assert left_in(tmp_path / "out") == ["precious"]
    shutil.rmtree(tmp_path / "out")
    # Nothing is done again but the manifest.
    assert build(corpus, tmp_path / "out").taken_over == 4
    assert_same_index(tmp_path / "out", reference)


def limited(most_bytes):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


FULL_AT = ["documents.parquet", "metadata.0", "metaoff.1", "tokenized.0", "table.0", "domain.1", "index.json"]


@pytest.mark.parametrize("name", FULL_AT)
def test_a_disk_that_fills_up_gives_one_line_and_the_next_build_goes_on(corpus, reference, tmp_path, name):
    # No file may grow beyond the limit, as on a disk with that much room for it.
    result = memindex(*arguments(corpus, tmp_path / "out"), preexec_fn=limited(size(reference / name) - 1))
    assert_refused(result, "File too large")
    finished = units(tmp_path, "[!.]*")
    assert (left_in(tmp_path), "finished units are kept" in result.stderr) == (
        ([".out.partial"], True) if finished else ([], False)
    )
    assert bool(build(corpus, tmp_path / "out").taken_over) == bool(finished)
    assert_same_index(tmp_path / "out", reference)
    assert left_in(tmp_path) == ["out"]


def test_a_manifest_that_can_not_be_written_leaves_all_but_it(corpus, reference, tmp_path, monkeypatch):
    def full(self, directory):
        raise OSError(28, "No space left on device", str(directory))

    with monkeypatch.context() as patch:
        patch.setattr(builder_module.Manifest, "write", full)
        with pytest.raises(OSError, match="No space left on device; finished units are kept"):
            build(corpus, tmp_path / "out")
    assert left_in(tmp_path) == [".out.partial"]
    assert build(corpus, tmp_path / "out").taken_over == 4
    assert_same_index(tmp_path / "out", reference)


def test_nothing_is_kept_of_a_corpus_without_documents(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n\n")
    assert_refused(
        memindex("index", "build", tmp_path / "a.jsonl", "--out", tmp_path / "out", "--tokenizer", "bytes"),
        "no documents",
    )
    assert left_in(tmp_path) == ["a.jsonl"]


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "abc"}])
    partial(tmp_path).mkdir()
    for name in ("table.7", "index.json", ".index.json.1.tmp", "stray", "units/tokens-00000-0", "index/table.7"):
        (partial(tmp_path) / name).parent.mkdir(exist_ok=True)
        (partial(tmp_path) / name).write_text("old")
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes")
    assert left_in(tmp_path) == ["a.jsonl", "out"]
    index = Index.open(tmp_path / "out")
    assert set(left_in(index.path)) == {*index.manifest.files, "index.json"}


@pytest.mark.parametrize("kind", ["folder", "full folder", "file", "link to a folder", "dangling link"])
def test_a_target_that_exists_is_left_alone(corpus, tmp_path, kind):
    target = tmp_path / "out"
    if kind == "file":
        target.write_text("mine")
    elif kind == "dangling link":
        target.symlink_to(tmp_path / "nowhere")
    elif kind == "link to a folder":
        (tmp_path / "real").mkdir()
        target.symlink_to(tmp_path / "real")
    else:
        target.mkdir()
        if kind == "full folder":
            (target / "mine").write_text("mine")
    before = left_in(tmp_path)
    assert_refused(memindex(*arguments(corpus, target)), f"{target} exists already")
    assert left_in(tmp_path) == before
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("where", ["file/out", "file/deep/out"])
def test_a_target_below_a_file_is_refused(tmp_path, where):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "abc"}])
    (tmp_path / "file").write_text("mine")
    assert_refused(memindex("index", "build", tmp_path / "a.jsonl", "--out", tmp_path / where, "--tokenizer", "bytes"))
    assert (tmp_path / "file").read_text() == "mine"


def test_folders_above_the_target_are_made(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "abc"}])
    build_index([tmp_path / "a.jsonl"], tmp_path / "new" / "deep" / "out", tokenizer="bytes")
    assert left_in(tmp_path / "new" / "deep") == ["out"]


def test_a_folder_without_right_to_write_is_refused(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    write_jsonl(tmp_path / "a.jsonl", [{"text": "abc"}])
    (tmp_path / "locked").mkdir(mode=0o500)
    command = ["index", "build", tmp_path / "a.jsonl", "--out", tmp_path / "locked" / "out", "--tokenizer", "bytes"]
    assert_refused(memindex(*command), "Permission denied")
