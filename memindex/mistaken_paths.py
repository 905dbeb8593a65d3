"""What is at a path where an index, a study, a tokenizer or a model was expected: one line that says what to do.

Standard library only, and loaded where something went wrong.
"""

from __future__ import annotations

import os
from pathlib import Path

from memindex.near_names import did_you_mean

INDEX, STUDY = "index.json", "study.toml"

#: First folders of names such as models/mine that would also be names on the model hub (organisation/repository).
FOLDERS = ("corpora", "data", "index", "indexes", "model", "models", "tokenizer", "tokenizers")


def not_an_index(path: Path) -> str:
    """Why there is no index at a path."""
    build = "build an index with: memindex index build SRC --out DIR"
    if not path.exists():
        return _missing(path, INDEX) or f"no such folder: {path}; {_stopped_build(path) or build}"
    if not path.is_dir():
        return f"{path} is a file, not an index; " + (f"give {path.parent}" if path.name == INDEX else "give a folder")
    if (path / STUDY).exists():
        return f"{path} is a study, not an index: pass it with -s, or give the index that its {STUDY} names"
    if _is_empty(path):
        return f"{path} is an empty folder, not an index; {build}"
    return f"{path} is not an index: it has no {INDEX}; {build}"


def not_a_study(given: str | Path) -> str:
    """Why there is no study at a path."""
    path, named = Path(given), str(given) or "."
    make = f"make a study with: memindex study init {named} -i INDEX"
    if not path.exists():
        return _missing(path, STUDY) or f"no such folder: {named}; {make}"
    if not path.is_dir():
        return f"{named} is a file, not a study; " + (f"give {path.parent}" if path.name == STUDY else "give a folder")
    if (path / INDEX).exists():
        return f"{named} is an index, not a study: pass it with -i, or make a study: memindex study init DIR -i {named}"
    if _is_empty(path):
        return f"{named} is an empty folder, not a study; {make}"
    return f"{named} is not a study: it has no {STUDY}; {make}"


def _missing(path: Path, file: str) -> str:
    """A folder next to a missing one that has nearly its name, and the file that is looked for."""
    try:
        beside = sorted(entry.name for entry in path.absolute().parent.iterdir() if (entry / file).exists())
    except OSError:
        beside = []
    near = did_you_mean(path.name, beside)
    return f"no such folder: {path}; {near}" if near else ""


def _stopped_build(path: Path) -> str:
    from memindex.work.folders import partial_of

    stopped = partial_of(path.absolute()).exists()
    return "its build is not finished: give the same `memindex index build` again to resume it" if stopped else ""


def _is_empty(path: Path) -> bool:
    try:
        return next(path.iterdir(), None) is None
    except OSError:
        return False


def looks_like_path(name: str) -> bool:
    """Whether a name is a path rather than one on the model hub (organisation/repository)."""
    if name.startswith(("/", "./", "../", "~")) or name in (".", "..") or name.count("/") > 1 or "\\" in name:
        return True
    first, slash, _ = name.partition("/")
    return bool(slash) and first in FOLDERS


def no_such(name: str, base: Path | None = None, put: str = "") -> str:
    """`no such file or folder: FULL PATH`, what to put there, and which README says more."""
    full = Path(os.path.normpath((base or Path()).absolute() / Path(name).expanduser()))
    said = f"no such file or folder: {full}"
    if not put:
        return said
    readme = next((file for file in (full.parent / "README.md", *_readmes(base)) if file.is_file()), None)
    return f"{said}; put {put} there" + (f" ({readme} says which)" if readme else "")


def _readmes(base: Path | None) -> list[Path]:
    return [] if base is None else [folder / "README.md" for folder in (base, base.parent)]
