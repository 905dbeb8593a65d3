"""Environments that users have: the wheel without extras, one extra alone, odd working directories, homes and users.

The wheel is built once and installed into fresh environments. Every command of the command line is in `BASE`: a new one
fails `test_every_command_is_run` until it is there, too.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import pytest
from synthetic_corpus import sentences, write_jsonl

from memindex.cli import cli

ROOT = Path(__file__).resolve().parents[1]

#: Commands that work without extras, with their arguments in the folder that `_world` makes.
BASE = {
    "index build": "corpus --out built --tokenizer bytes --domain-field source",
    "index add": "built more.jsonl",
    "index remove": "built --where line=1",
    "index info": "built",
    "index list": "",
    "index open": "plain --tokenizer bytes",
    "index stats": "index",
    "index verify": "index",
    "count": "-i index fox --by-domain",
    "documents": "-i index fox",
    "trace": "-i index 'the quick brown fox'",
    "next": "-i index fox",
    "models": "pythia",
    "plant": "heldout.jsonl -i index --out planted --length 16 --sequences 2 --copies 1,2",
    "study init": "new-study -i index --prefix 8 --suffix 8 --uniform 5 --per-bucket 2",
    "study run": "study",
    "study check": "study",
    "study status": "study",
    "study export": "study --out exported",
    "export": "-s study --out prompts.jsonl",
    "import jsonl": "results.jsonl -s study --model-id theirs",
    "import mynlp": "memorization_evals_70m-deduped-v0_8_16_143000.csv -s imported --no-lookup",
    "import pythia": "memorized.parquet -s imported --model-id pythia-70m --prefix 8 --suffix 8 --no-lookup",
    "import lm-extraction": "guesses.npy --decoding greedy --prefix-file prefix.npy --suffix-file suffix.npy "
    "-s imported --model-id gpt --no-lookup",
    "sql": "-s study 'SELECT count(*) FROM sequences'",
    "report": "-s study",
}

#: Commands that need an extra, which the message names.
EXTRAS = {
    "demo": ("--out demo", "models"),
    "train": ("-i index --size 0.01M --tokens 1000 --out model", "models"),
    "run": ("--model model -s study", "models"),
    "probe": ("compression -s study", "models"),
    "serve": ("-i index --port 0", "server"),
    "index pull": ("s3://bucket/index --out pulled", "s3"),
}


def commands(command: click.Command, context: click.Context, name: str = "") -> Iterator[str]:
    """Names of all commands that do something."""
    if not isinstance(command, click.Group):
        yield name
        return
    for part in command.list_commands(context):
        inner = command.get_command(context, part)
        assert inner is not None
        yield from commands(inner, context, f"{name} {part}".strip())


def test_every_command_is_run():
    assert set(commands(cli, click.Context(cli))) == {*BASE, *EXTRAS}


UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

#: Another user than root, where the tests run as root.
NOBODY = 65534


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel; Rust's part was compiled when the development environment was made."""
    if UV is None or shutil.which("cargo") is None:
        pytest.skip("needs uv and cargo to build the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([UV, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that every user can read; those of pytest are their owner's."""
    folder = Path(tempfile.mkdtemp(prefix="memindex-environments-"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+w", folder], check=False)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def installed(wheel, open_folder) -> Callable[[str], Path]:
    """Makes a fresh environment with the wheel and an extra; returns its folder of programs."""

    def install(extra: str = "") -> Path:
        folder = open_folder / f"environment{extra}"
        subprocess.run([UV, "venv", "--quiet", "--python", _python(), folder], check=True)
        place = ["--python", folder / "bin" / "python"]
        subprocess.run([UV, "pip", "install", "--quiet", *place, f"{wheel}{extra}"], check=True)
        return folder / "bin"

    return install


def _python() -> str:
    """This Python, or one of the same version that other users can run, too."""
    own = Path(sys.executable).resolve()
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in own.parents):
        return str(own)
    name = f"python3.{sys.version_info.minor}"
    return shutil.which(name, path="/usr/local/bin:/usr/bin") or str(own)


@pytest.fixture(scope="module")
def base(installed) -> Path:
    return installed()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with an index, a study of it, and what each command reads."""
    return _world(tmp_path_factory.mktemp("world"))


def _world(folder: Path) -> Path:
    from infini_gram_folder import write_folder

    from memindex.corpus.sources import ReadOptions
    from memindex.index import build_index
    from memindex.study.config import load_study
    from memindex.study.running import run_study

    texts = [f"{text} the quick brown fox" for text in sentences(40)]
    rows = [{"text": text, "source": f"domain {i % 2}"} for i, text in enumerate(texts)]
    (folder / "corpus").mkdir()
    write_jsonl(folder / "corpus" / "a.jsonl", rows)
    write_jsonl(folder / "more.jsonl", rows[:3])
    write_jsonl(folder / "heldout.jsonl", [{"text": text} for text in sentences(40, words=40, seed=2)])
    options = ReadOptions(domain_field="source")
    build_index([folder / "corpus"], folder / "index", tokenizer="bytes", options=options)
    write_folder(folder / "plain", [[list(b"the quick brown fox")] * 3], 1)
    settings = "[sequences]\nprefix = 8\nsuffix = 8\nuniform = 20\nper_bucket = 2\nheldout = 0\n"
    for name in ("study", "imported"):
        (folder / name).mkdir()
        (folder / name / "study.toml").write_text(f'index = "../index"\n{settings}')
    run_study(load_study(folder / "study"))
    _write_results(folder)
    return folder


def _write_results(folder: Path) -> None:
    """What other runners write."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from memindex.tables.store import TableStore

    sequences = TableStore(folder / "study" / "tables").read("sequences").slice(0, 4).to_pylist()
    write_jsonl(
        folder / "results.jsonl", [{"sequence_id": s["sequence_id"], "continuation": s["suffix"]} for s in sequences]
    )
    (folder / "memorization_evals_70m-deduped-v0_8_16_143000.csv").write_text("idx,score\n0,1.0\n1,0.5\n")
    tokens = [list(range(16))] * 2
    pq.write_table(pa.table({"index": [0, 1], "tokens": tokens}), folder / "memorized.parquet")
    guesses = np.arange(64, dtype=np.uint16).reshape(4, 16)
    for name, columns in (("prefix", guesses[:, :8]), ("suffix", guesses[:, 8:]), ("guesses", guesses)):
        np.save(folder / f"{name}.npy", columns)


def environment(**more: str) -> dict[str, str]:
    """The variables of a plain login: nothing of the development environment's."""
    return {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8", **more}


def run(programs: Path, command: str, folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    defaults = {"capture_output": True, "text": True, "timeout": 120, "stdin": subprocess.DEVNULL}
    given = {"env": environment(), **defaults, **options}
    return subprocess.run([programs / "memindex", *shlex.split(command)], check=False, cwd=folder, **given)


def assert_all_work(done: dict[str, subprocess.CompletedProcess[str]]) -> None:
    assert {name: result.stderr for name, result in done.items() if result.returncode} == {}
    assert [name for name, result in done.items() if "Traceback" in result.stderr] == []


def test_every_base_command_works_without_torch(base, world):
    assert not list((base.parent / "lib").glob("python*/site-packages/torch*"))

    def run_all(kind: bool) -> dict[str, subprocess.CompletedProcess[str]]:
        chosen = {name: arguments for name, arguments in BASE.items() if name.startswith("index ") == kind}
        return {name: run(base, f"{name} {arguments}", world) for name, arguments in chosen.items()}

    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(run_all, (True, False)):
            assert_all_work(done)


@pytest.mark.parametrize("name", EXTRAS)
def test_a_command_that_needs_an_extra_names_the_command_that_installs_it(base, world, wheel, name):
    arguments, extra = EXTRAS[name]
    refused = run(base, f"{name} {arguments}", world)
    assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1), refused.stderr
    command = refused.stderr.rpartition("; run: ")[2]
    assert command == f"uv pip install '{wheel}[{extra}]'\n"
    if extra == "s3":
        # It works, from any folder.
        tried = [UV, *shlex.split(command)[1:], "--dry-run"]
        subprocess.run(tried, env=os.environ | {"VIRTUAL_ENV": str(base.parent)}, cwd="/", check=True)


@pytest.fixture
def misleading(tmp_path) -> Path:
    """A working directory whose files and folders are called like modules."""
    for name in ("numpy", "json", "pickle", "pyarrow", "duckdb", "click", "runpy", "typing", "rich", "uvicorn"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the working directory')")
    for name in ("memindex", "torch", "transformers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text("a clone")
    (tmp_path / "memindex" / "__init__.py").write_text("raise SystemExit('memindex of the working directory')")
    return tmp_path


@pytest.mark.parametrize("path", [""])
def test_a_working_directory_of_misleading_names(base, world, misleading, path):
    variables = environment() if path is None else environment(PYTHONPATH=path)
    build = f"index build {world}/corpus --out built --tokenizer bytes --workers 2"
    done = {
        name: run(base, name, misleading, env=variables) for name in (build, f"sql -s {world}/study 'FROM sequences'")
    }
    assert_all_work(done)
    refused = run(base, f"train -i {world}/index --size 1M --tokens 1000 --out m", misleading, env=variables)
    assert "torch is not installed; run: " in refused.stderr


def test_without_a_home(base, world, tmp_path):
    bare = {"PATH": "/usr/bin:/bin"}
    nowhere = {**bare, "HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent/cache"}
    commands = (f"report -s {world}/study --out {tmp_path}/report.html", f"count -i {world}/index fox", "models")
    assert_all_work(
        {f"{name} {len(env)}": run(base, name, tmp_path, env=env) for name in commands for env in (bare, nowhere)}
    )


@pytest.fixture(scope="module")
def read_only(world, open_folder) -> Path:
    """The world, which nobody may write, not even its owner (but root)."""
    shutil.copytree(world, open_folder / "world")
    subprocess.run(["chmod", "-R", "a=rX", open_folder / "world"], check=True)
    return open_folder / "world"


@contextmanager
def _other_user(programs: Path) -> Iterator[dict[str, object]]:
    """Options of `run` for another user than root."""
    options: dict[str, object] = {}
    if os.getuid() == 0:
        options = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        try:
            subprocess.run([programs / "python", "-c", ""], check=True, **options)
        except (PermissionError, subprocess.CalledProcessError):
            pytest.skip("no Python here that another user than root can run")
    yield options | {"env": {"PATH": "/usr/bin:/bin"}}


READING = (
    "count -i index fox",
    "documents -i index fox",
    "trace -i index fox",
    "next -i index fox",
    "index info index",
)
READING += ("index stats index", "index verify index", "sql -s study 'SELECT count(*) FROM documents'", "index list")
READING += ("study check study", "study status study")


def test_an_index_and_a_study_that_another_user_may_only_read(base, read_only):
    with _other_user(base) as options:
        assert_all_work({name: run(base, name, read_only, **options) for name in READING})
        for name in ("report -s study", "index add index more.jsonl", "study run study --only spans"):
            refused = run(base, name, read_only, **options)
            problems = [line for line in refused.stderr.splitlines() if line.startswith("memindex: ")]
            assert len(problems) <= 1 and "Traceback" not in refused.stderr, refused.stderr
            assert refused.returncode in {0, 2}
            assert "Traceback" not in refused.stderr
        assert "ermission denied" in run(base, "report -s study", read_only, **options).stderr


def test_the_server_alone(installed, world, misleading):
    """The extra `server`, from a directory of misleading names: an index and a study, whose SQL is run in a process."""
    programs = installed("[server]")
    command = [programs / "memindex", "serve", "-i", world / "index", "-s", world / "study", "--port", "0"]
    with subprocess.Popen(command, cwd=misleading, env=environment(), stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = next(line for line in server.stderr if " at http://" in line)
            address = line.rpartition(" at ")[2].strip()
            count = _ask(f"{address}/v1/indexes/index/count", {"queries": ["fox"]})
            texts = [json.loads(line)["text"] for line in (world / "corpus" / "a.jsonl").read_text().splitlines()]
            assert [row["count"] for row in count["counts"]] == [sum(text.count("fox") for text in texts)]
            rows = _ask(f"{address}/v1/studies/study/sql", {"sql": "SELECT count(*) AS n FROM documents"})
            assert rows["rows"] in ([[len(texts)]], [{"n": len(texts)}])
        finally:
            server.kill()


def _ask(address: str, body: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


#: Runs commands of memindex, of the extra `models` alone: what neither memindex nor it brings can't be imported.
ALONE = """
import importlib, importlib.metadata, json, re, sys
from packaging.requirements import Requirement

def names(name, extra):
    done = {}
    left = [(name, {"", extra})]
    while left:
        name, extras = left.pop()
        key = re.sub("[-_.]+", "-", name).lower()
        new = extras - done.get(key, set())
        if not new:
            continue
        done[key] = done.get(key, set()) | new
        try:
            needed = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        for text in needed:
            one = Requirement(text)
            if one.marker is None or any(one.marker.evaluate({"extra": which}) for which in new):
                left.append((one.name, {"", *one.extras}))
    return set(done)

allowed = names("memindex", "models")
brought = importlib.metadata.packages_distributions()
blocked = {
    module for module, owners in brought.items()
    if not any(re.sub("[-_.]+", "-", owner).lower() in allowed for owner in owners)
}
assert {"fastapi", "pytest", "obstore", "pandas"} <= blocked, blocked

class Hiding:
    def __init__(self, finder):
        self._finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)

sys.meta_path[:] = map(Hiding, sys.meta_path)
from memindex.cli import main

codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
        codes.append(0)
    except SystemExit as end:
        codes.append(end.code or 0)
for name in ("compression", "head_ablation", "layer_decoding", "noise", "perturbation"):
    importlib.import_module(f"memindex.probes.{name}")
print(json.dumps(codes))
"""


@pytest.mark.models
def test_the_models_alone(world, tmp_path):
    pytest.importorskip("torch")
    study = shutil.copytree(world / "imported", tmp_path / "study")
    settings = (study / "study.toml").read_text().replace("../index", str(world / "index"))
    (study / "study.toml").write_text(settings)
    calls = (
        f"train -i {world}/index --size 2000 --tokens 400 --context 16 --eos-id 0 --out model --device cpu",
        f"study run {study} --device cpu",
        f"run -s {study} --model model --device cpu",
        f"sql -s {study} 'SELECT count(*) FROM continuations'",
        f"serve -s {study}",
    )
    command = [sys.executable, "-c", ALONE, json.dumps([shlex.split(call) for call in calls])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, 0, 0, 0, 2], done.stderr
    assert "serving needs " in done.stderr
    assert "[server]'" in done.stderr
