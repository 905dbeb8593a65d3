"""Inputs that came out wrong: how memindex is started, and how it fails."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import Distribution
from pathlib import Path

import duckdb
import pytest
from scored_study import make_indexes
from synthetic_corpus import assert_refused, left_in, memindex, sentences, write_jsonl

from memindex import _core, extras, memory
from memindex.errors import CorruptIndexError, MemindexError, ReplacedIndexError
from memindex.index import Index, build_index, opening
from memindex.index.adding import add_documents
from memindex.index.removing import remove_documents
from memindex.sql import connection
from memindex.sql import statements as asking
from memindex.sql.connection import connect
from memindex.study.config import load_study
from memindex.study.running import run_study
from memindex.work import processes
from memindex.work.folders import partial_of
from memindex.work.locks import FolderLock

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Three files, so that several processes tokenize them where units are small."""
    for name in ("a", "b", "c"):
        write_jsonl(tmp_path / "corpus" / f"{name}.jsonl", [{"text": f"{name} {text}"} for text in sentences(20)])
    return tmp_path / "corpus"


@pytest.fixture
def index(corpus, tmp_path) -> Path:
    build_index([corpus], tmp_path / "index", tokenizer="bytes", shards=2)
    return tmp_path / "index"


# C1: without torch; tests/test_environments.py runs every command in an environment that has none.

BLOCKED = """
import sys
class Hiding:
    def __init__(self, finder):
        self._finder = finder

    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in ("torch", "transformers")
        return None if hidden else self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)

sys.meta_path[:] = map(Hiding, sys.meta_path)
"""


def test_c1_nothing_outside_of_models_probes_and_workers_imports_torch():
    names = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in sorted((ROOT / "memindex").rglob("*.py"))
        if file.name not in {"__main__.py", "child.py"}
    ]
    free = ("families", "membership", "shapes", "sources", "exposures", "stream", "tokenizer_check")
    need = [name for name in names if name.startswith(("memindex.models.", "memindex.probes"))]
    need = [name for name in need if name.rpartition(".")[2] not in free]
    others = [name for name in names if name not in need and name != "memindex.study.training_worker"]
    assert len(others) > 200
    script = BLOCKED + "import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    script += "assert not {'torch', 'transformers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, *others], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["memindex.models.loading", "memindex.models.from_index", "memindex.probes.noise"])
def test_c1_a_module_that_needs_torch_says_how_to_get_it(module):
    script = BLOCKED + "from memindex.errors import MissingExtraError\n"
    script += f"try: import {module}\nexcept MissingExtraError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("torch is not installed; run: ")
    assert done.stdout.endswith("[models]'\n")


def installed_from(tmp_path: Path, **origin: object) -> Distribution:
    folder = tmp_path / "memindex-1.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(
        "Name: memindex\nVersion: 1\nRequires-Dist: click>=8\n"
        "Requires-Dist: torch>=2.7; extra == 'models'\nRequires-Dist: ray>=2; python_version > '3' and extra == 'ray'\n"
    )
    (folder / "INSTALLER").write_text("pip\n")
    if origin:
        (folder / "direct_url.json").write_text(json.dumps(origin))
    return Distribution.at(folder)


def test_c1_the_command_names_where_memindex_was_installed_from(tmp_path, monkeypatch):
    clone = tmp_path / "my clone"
    clone.mkdir()
    (clone / "pyproject.toml").write_text("")
    (tmp_path / "a.whl").write_text("")
    url = "https://example.org/memindex"
    cases = [
        ({}, "pip install 'memindex[models]'"),
        ({"url": clone.as_uri(), "dir_info": {}}, f"pip install '{clone}[models]'"),
        ({"url": clone.as_uri(), "dir_info": {"editable": True}}, f"pip install -e '{clone}[models]'"),
        ({"url": (tmp_path / "a.whl").as_uri(), "archive_info": {}}, f"pip install '{tmp_path}/a.whl[models]'"),
        (
            {"url": url, "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            f"pip install 'memindex[models] @ git+{url}@abc'",
        ),
        ({"url": f"{url}.whl", "archive_info": {}}, f"pip install 'memindex[models] @ {url}.whl'"),
        # The clone is gone: then only the packages themselves can be named.
        ({"url": (tmp_path / "gone").as_uri(), "dir_info": {}}, "pip install 'torch>=2.7'"),
    ]
    for number, (origin, command) in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        installed = installed_from(tmp_path / str(number), **origin)
        monkeypatch.setattr("importlib.metadata.distribution", lambda _, installed=installed: installed)
        assert extras.install_command("models") == command


# C2: a working directory of misleading names.

MISLEADING = ("numpy", "json", "pickle", "pyarrow", "runpy", "typing", "queue", "memindex", "struct", "click")

#: A script that builds with several processes, in a directory like that.
BUILDING = """
import sys, os
import numpy, json, pickle, pyarrow, typing, queue
from memindex.index import build_index
import memindex.index.builder, memindex.corpus.sources, memindex.index.engines, pyarrow.json, pyarrow.parquet
os.chdir(sys.argv[1])
sys.path.insert(0, "")
sys.path.insert(0, os.getcwd())
sys.path.insert(1, ".")
report = build_index([sys.argv[2]], sys.argv[3], tokenizer="bytes", unit_bytes=1, workers=2, shards=2)
print(report.manifest.documents)
"""


@pytest.fixture
def misleading(tmp_path) -> Path:
    folder = tmp_path / "misleading"
    folder.mkdir()
    for name in MISLEADING:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} of the working directory')")
    (folder / "torch").mkdir()
    return folder


@pytest.mark.parametrize("path", [None, ":"])
def test_c2_processes_import_nothing_from_the_working_directory(corpus, tmp_path, misleading, path):
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {} if path is None else {"PYTHONPATH": path}
    command = [sys.executable, "-c", BUILDING, misleading, corpus, tmp_path / "out"]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("60\n", 0), done.stderr
    assert Index.open(tmp_path / "out").count_one(list(b"fox")) == sum(
        json.loads(line)["text"].count("fox") for file in corpus.iterdir() for line in file.read_text().splitlines()
    )


def test_c2_nor_from_the_folder_of_the_script(corpus, tmp_path, misleading):
    for name in ("numpy", "json", "pickle", "pyarrow", "typing", "queue", "struct", "click", "runpy", "memindex"):
        (misleading / f"{name}.py").unlink()
    # Names that only the processes import anew: the script itself would not get as far with others.
    (misleading / "build.py").write_text(BUILDING.replace("os.chdir(sys.argv[1])", "early(sys.argv[1])").replace(
        "import sys, os\n",
        "import sys, os\ndef early(folder):\n    for name in ('numpy', 'json', 'runpy', 'memindex'):\n"
        "        open(os.path.join(folder, name + '.py'), 'w').write('raise SystemExit(name)')\n",
    ))  # fmt: skip
    command = [sys.executable, misleading / "build.py", misleading, corpus, tmp_path / "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("60\n", 0), done.stderr


def test_c2_places_that_were_added_on_purpose_are_handed_down(tmp_path, monkeypatch):
    (tmp_path / "added").mkdir()
    (tmp_path / "added" / "only_here.py").write_text("import sys\nprint(*sys.argv[1:], sys.flags.safe_path)")
    monkeypatch.syspath_prepend(tmp_path / "added")
    monkeypatch.chdir(tmp_path)
    with processes.Process("only_here", ["an argument"]) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"an argument True\n"
    monkeypatch.chdir(tmp_path / "added")
    assert str(tmp_path / "added") not in processes.import_path()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'added'}{os.pathsep}")
    assert str(tmp_path / "added") in processes.import_path()


ENDINGS = {
    "import sys; sys.exit(3)": r"^ended with exit code 3$",
    "import nothing_like_it": r"^ended with exit code 1: ModuleNotFoundError: No module named 'nothing_like_it'$",
    "raise MemoryError": r"^ran out of memory \(MemoryError\): use less$",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": r"^was killed \(SIGKILL\).*memory.*: use less$",
    "import os, signal; os.kill(os.getpid(), signal.SIGTERM)": r"^was killed \(SIGTERM\)$",
    "import os, sys; sys.stderr.write('memory allocation of 64 bytes failed\\n'); os.abort()": r"^ran out of",
    "import os; os.abort()": r"^was killed \(SIGABRT\)$",
}


@pytest.mark.parametrize("code", ENDINGS)
def test_c2_a_cause_is_named_only_where_it_is_known(tmp_path, monkeypatch, code):
    import re

    (tmp_path / "ending.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with processes.Process("ending") as process:
        reason = process.reason("use less")
    assert re.search(ENDINGS[code], reason), reason
    assert ("memory" in reason) == ("memory" in ENDINGS[code] or "out of" in ENDINGS[code])


def test_c2_messages_of_a_process_are_passed_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "telling.py").write_text("import sys; print('a warning', file=sys.stderr); raise ValueError('a bug')")
    monkeypatch.syspath_prepend(tmp_path)
    with processes.Process("telling") as process:
        assert process.reason() == "ended with exit code 1: ValueError: a bug"
    shown = capsys.readouterr().err
    # A bug's traceback is shown, too: it is needed to mend it.
    assert shown.startswith("a warning\nTraceback (most recent call last)")


# C3: little memory.


def limited(megabytes: int):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    return limit


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize("megabytes", [150, 300, 600, 1200])
def test_c3_a_build_with_little_memory_says_one_line(corpus, tmp_path, megabytes):
    done = memindex(
        "index", "build", corpus, "--out", tmp_path / "out", "--tokenizer", "bytes", preexec_fn=limited(megabytes)
    )
    if done.returncode == 0:
        assert megabytes > 600
        Index.open(tmp_path / "out").verify()
        return
    assert_refused(done, "memory", f"{megabytes:,} MB", "ulimit -v")
    assert left_in(tmp_path) == ["corpus"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize("command", ["documents -i {index} fox", "sql -s . x", "study check ."])
def test_c3_other_commands_do_so_too(index, command):
    done = memindex(*command.format(index=index).split(), preexec_fn=limited(300))
    assert_refused(done, "memory", "300 MB", "ulimit -v")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_c3_a_count_needs_little(index):
    assert memindex("count", "-i", index, "fox", preexec_fn=limited(150)).returncode == 0


def test_c3_errors_of_every_library_are_known_as_lack_of_memory():
    import numpy as np
    import pyarrow as pa

    known = [MemoryError(), pa.ArrowMemoryError("malloc of size 64 failed"), OSError(errno.ENOMEM, "x")]
    known += [duckdb.OutOfMemoryException("could not allocate block"), RuntimeError("can't start new thread")]
    known += [ImportError("libarrow.so: failed to map segment from shared object")]
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 60, dtype=np.uint8)
    assert all(memory.memory_problem(error) for error in [*known, caught.value])
    others = [ValueError("memory"), ImportError("No module named 'x'"), OSError(errno.ENOSPC, "No space left")]
    assert not any(map(memory.memory_problem, others))


# C4: opening while another version takes the place.


def test_c4_an_index_that_is_replaced_while_it_is_opened_opens(index, tmp_path, monkeypatch):
    more = write_jsonl(tmp_path / "more.jsonl", [{"text": "one more fox"}])
    before, check = Index.open(index).manifest.documents, opening.check_files
    swaps = []

    def swap(directory, manifest):
        check(directory, manifest)
        if len(swaps) < 7:  # more often than it once tried
            swaps.append(manifest.documents)
            add_documents(index, [more], again=True)

    monkeypatch.setattr("memindex.index.index.check_files", swap)
    opened = Index.open(index)
    assert swaps == list(range(before, before + 7))
    assert opened.manifest.documents == before + 7
    assert opened.documents(list(b"one more fox"), limit=None).num_rows == 7


@pytest.mark.parametrize("change", ["add", "remove"])
def test_c4_an_open_index_answers_from_its_own_version(index, tmp_path, change):
    opened, other = Index.open(index), Index.open(index)
    before = other.documents(list(b"fox"), limit=None).to_pylist()
    if change == "add":
        add_documents(index, [write_jsonl(tmp_path / "more.jsonl", [{"text": "one more fox"}])])
    else:
        remove_documents(index, documents=[(0, 0)])
    assert opened.documents(list(b"fox"), limit=None).to_pylist() == before
    assert Index.open(index).documents(list(b"fox"), limit=None).to_pylist() != before


def test_c4_where_folders_can_not_be_exchanged_the_gap_is_waited_for(index, tmp_path, monkeypatch):
    def no_exchange(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(_core, "exchange", no_exchange)
    rename, seen, threads = Path.rename, [], []

    def slow(self, target):
        done = rename(self, target)
        if self == index:  # it is gone now
            threads.append(threading.Thread(target=lambda: seen.append(Index.open(index).manifest.documents)))
            threads[0].start()
            time.sleep(0.2)
        return done

    monkeypatch.setattr(Path, "rename", slow)
    before = Index.open(index).manifest.documents
    add_documents(index, [write_jsonl(tmp_path / "more.jsonl", [{"text": "one more fox"}])])
    threads[0].join(30)
    assert seen == [before + 1]


def test_c4_an_index_that_is_gone_is_not_waited_for(index):
    shutil.rmtree(index)
    with pytest.raises(MemindexError, match=r"not an index|no such"):
        Index.open(index)


def test_c4_verify_does_not_take_another_version_for_damage(index, tmp_path):
    opened = Index.open(index)
    more = write_jsonl(tmp_path / "more.jsonl", [{"text": "one more fox"}])
    swapped = []

    def swap(_):
        if not swapped:
            swapped.append(add_documents(index, [more]))

    with pytest.raises(ReplacedIndexError, match="another version took its place"):
        opened.verify(swap)
    (index / "table.0").write_bytes(b"\0" * (index / "table.0").stat().st_size)
    with pytest.raises(CorruptIndexError, match=r"keys\.0|table\.0") as damage:
        Index.open(index).verify()
    assert not isinstance(damage.value, ReplacedIndexError)


# C5: two writers.


@pytest.mark.parametrize("running", ["index build", "index remove"])
def test_c5_a_second_writer_names_the_first(index, tmp_path, running):
    more = write_jsonl(tmp_path / "more.jsonl", [{"text": "one more fox"}])
    lock = FolderLock(partial_of(index), index, running)
    try:
        second = [
            memindex("index", "add", index, more),
            memindex("index", "remove", index, "--where", "line = 1"),
        ]
    finally:
        lock.release()
    for refused in second:
        assert_refused(
            refused, f"{index} is being written by `memindex {running}` (process {os.getpid()} on ", ", since "
        )
        assert "--out" not in refused.stderr
    # Nothing of either is left, and the next one works.
    assert memindex("index", "add", index, more).returncode == 0
    assert left_in(tmp_path) == ["corpus", "index", "more.jsonl"]


def test_c5_the_note_of_a_writer_that_is_gone_is_not_believed(index, tmp_path):
    held = FolderLock(partial_of(index), index, "index add")
    note = partial_of(index) / ".writer.json"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    try:
        for text in (json.dumps(json.loads(note.read_text()) | {"process": gone.pid}), "{", '{"work": 1}', "[]"):
            note.write_text(text)
            with pytest.raises(MemindexError, match="is being written by another process: try again when"):
                remove_documents(index, documents=[(0, 0)])
        note.unlink()
        with pytest.raises(MemindexError, match="is being written by another process: try again when"):
            remove_documents(index, documents=[(0, 0)])
    finally:
        held.release()


# C8: a study whose index is missing.


@pytest.fixture(scope="module")
def made_study(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("study")
    train, heldout = make_indexes(root)
    (root / "study").mkdir()
    (root / "study" / "study.toml").write_text(
        f'index = "../{train.name}"\nheldout = "../{heldout.name}"\n'
        "[sequences]\nprefix = 8\nsuffix = 8\nuniform = 20\nper_bucket = 2\nheldout = 5\n"
    )
    run_study(load_study(root / "study"))
    return root


def damage_format(folder: Path) -> None:
    text = (folder / "index.json").read_text()
    (folder / "index.json").write_text(text.replace("memindex-1", "memindex-9"))


INDEX_DAMAGE = {
    "missing": shutil.rmtree,
    "no manifest": lambda folder: (folder / "index.json").unlink(),
    "newer": damage_format,
    "cut": lambda folder: os.truncate(folder / "table.0", 8),
    "no documents": lambda folder: (folder / "documents.parquet").unlink(),
}


@pytest.mark.filterwarnings("ignore:.*-index")
@pytest.mark.parametrize("kind", INDEX_DAMAGE)
@pytest.mark.parametrize("name", ["train-index", "heldout-index"])
def test_c8_documents_of_an_index_that_can_not_be_used_are_an_error(made_study, tmp_path, kind, name):
    shutil.copytree(made_study, tmp_path / "copy")
    study, other = tmp_path / "copy" / "study", {"train-index": "heldout-index"}.get(name, "train-index")
    INDEX_DAMAGE[kind](tmp_path / "copy" / name)
    con = connect(study)
    rows = Index.open(tmp_path / "copy" / other).manifest.documents
    try:
        for sql in ("SELECT count(*) FROM documents", "FROM corpora", f"FROM documents WHERE \"index\" = '{name}'"):
            with pytest.raises(MemindexError, match=rf"(?s){name}.*"):
                asking.ask(con, sql)
        # What does not need it goes on working.
        assert con.sql(f"SELECT count(*) FROM documents WHERE \"index\" = '{other}'").fetchall() == [(rows,)]
        assert con.sql("SELECT count(*) > 20 FROM sequences").fetchall() == [(True,)]
        assert con.sql("SELECT count(*) FROM frequencies").fetchall() != [(0,)]
    finally:
        con.close()


def test_c8_the_command_line_names_the_index(made_study, tmp_path):
    shutil.copytree(made_study, tmp_path / "copy")
    study = tmp_path / "copy" / "study"
    shutil.rmtree(tmp_path / "copy" / "heldout-index")
    refused = memindex("sql", "-s", study, "SELECT count(*) FROM documents")
    assert_refused(refused, f"the index heldout-index is not at {tmp_path / 'copy' / 'heldout-index'}", "study.toml")
    assert memindex("sql", "-s", study, "SELECT count(*) FROM sequences").returncode == 0


# C9: queries that do not stop.


@pytest.mark.usefixtures("sigint")
def test_c9_a_query_that_does_not_stop_is_left(made_study, monkeypatch):
    monkeypatch.setattr(asking, "STOPPING", 0.3)
    con, let_go = connect(made_study / "study"), threading.Event()

    def stuck(number: int) -> int:
        let_go.wait(60)
        return number

    con.create_function("stuck", stuck, ["BIGINT"], "BIGINT", side_effects=True)
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            asking.ask(con, "SELECT sum(stuck(range)) FROM range(3)")
        assert not let_go.is_set()
        assert connection.is_one_left_open()
        connection.close(con)  # does not wait
    finally:
        timer.join()
        let_go.set()


@pytest.mark.usefixtures("sigint")
def test_c9_what_a_signal_raises_leaves_at_once(made_study):
    """As the timeout of a test, which is no KeyboardInterrupt."""

    class Over(BaseException):
        pass

    def raise_over(*_):
        raise Over

    con = connect(made_study / "study")
    before = signal.signal(signal.SIGUSR1, raise_over)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Over):
            asking.ask(con, "SELECT sum(sqrt(a.range * b.range)) FROM range(1000000) a, range(1000000) b")
        assert asking.ask(con, "SELECT 1 AS n").to_pylist() == [{"n": 1}]
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
        con.close()
