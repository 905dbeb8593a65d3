"""What must be in a wheel is in what maturin takes; no wheel is built for that.

maturin takes all of the package that no .gitignore leaves out, and what `include` names of the build's own output.
"""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from memindex.server import page

ROOT = Path(__file__).resolve().parents[1]
MATURIN = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["maturin"]
PAGE = sorted(path for path in Path(page.__file__).parent.iterdir() if path.is_file())


def test_the_whole_package_is_taken():
    assert (MATURIN["python-source"], MATURIN["python-packages"]) == (".", ["memindex"])
    assert "exclude" not in MATURIN
    assert ROOT / "memindex" in PAGE[0].parents
    assert {"index.html", "main.js", "page.css", "icon.svg"} < {path.name for path in PAGE}


def test_no_file_of_the_package_is_ignored():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs the repository and git")
    made = (".so", ".pyd", ".pyc", ".sql", ".toml")
    files = [path for path in (ROOT / "memindex").rglob("*") if path.is_file() and path.suffix not in made]
    assert set(PAGE) <= set(files)
    asked = ["git", "check-ignore", "--no-index", *map(str, files)]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (1, ""), told.stderr


@pytest.mark.parametrize(
    ("folder", "inside", "suffix"), [("queries", "_queries", "sql"), ("indexes", "_recipes", "toml")]
)
def test_what_the_build_copies_is_taken(folder, inside, suffix):
    [entry] = [entry for entry in MATURIN["include"] if entry.get("from") == "out-dir" and inside in entry["path"]]
    assert entry["to"] == "memindex/"
    files = list((ROOT / folder).glob(f"*.{suffix}"))
    assert files
    assert all(fnmatch.fnmatch(f"{inside}/{file.name}", entry["path"]) for file in files)
    assert f'copy("../{folder}", "{suffix}", "{inside}")' in (ROOT / "core" / "build.rs").read_text(encoding="utf-8")
    # A source distribution builds the same wheel.
    assert {"path": f"{folder}/*.{suffix}", "format": "sdist"} in MATURIN["include"]
