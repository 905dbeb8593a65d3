"""docs/ARCHITECTURE.md names what is there."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(memindex\.[\w.]+)`", TEXT)))

#: Modules that need an extra.
NEEDED = {"memindex.server": "fastapi", "memindex.probes": "torch", "memindex.models.scoring": "torch"}


def found(name: str) -> object:
    """The module, or what a module or class of it holds."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError as error:
            if error.name is None or not ".".join(parts).startswith(error.name):
                raise
            continue
        for part in parts[end:]:
            thing = getattr(thing, part)
        return thing
    raise AssertionError(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_exists(name: str) -> None:
    for module, library in NEEDED.items():
        if name.startswith(module):
            pytest.importorskip(library)
    found(name)


def test_a_walk_has_at_most_ten_stops() -> None:
    walks = re.findall(r"^\*\*An? .+?\*\*.*?(?=\n\n)|^\*\*SQL.*?(?=\n\n)", TEXT, re.MULTILINE | re.DOTALL)
    assert len(walks) == 5
    for walk in walks:
        assert 3 <= len(re.findall(r"`memindex\.[\w.]+`", walk)) <= 10, walk


def test_the_floors_are_those_that_lint_checks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["name"]: contract for contract in settings["tool"]["importlinter"]["contracts"]}
    floors = [
        re.findall(r"memindex\.(\w+)", line) for line in contracts["Floors"]["layers"] if "mistaken_paths" not in line
    ]
    told = [re.findall(r"`memindex\.(\w+)`", row) for row in re.findall(r"^\| \d+ \| (.+?) \|", TEXT, re.MULTILINE)]
    assert told[:-1] == floors[: len(told) - 1]
    packages = {folder.parent.name for folder in (ROOT / "memindex").glob("*/__init__.py")} - {"_queries", "_recipes"}
    assert packages == {name for names in told[:-1] for name in names}
