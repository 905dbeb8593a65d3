"""A corpus that every machine with memindex has: the Python sources installed on it.

Real text with natural duplicates: licence headers, copied code, generated tables. The domain is the package; modules
of the standard library share one. A file goes to the held-out part by a hash of its name, so no machine's file order
matters.
"""

from __future__ import annotations

import hashlib
import shutil
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memindex.errors import MemindexError

STANDARD_LIBRARY = "standard library"


@dataclass(frozen=True)
class CorpusPlan:
    """How much text to take: bytes of the standard library, packages, bytes of each, and the held-out share.

    Files outside `smallest` and `largest` bytes are left out: empty ones say nothing, and small ones make many licence
    headers and copied modules in little text.
    """

    standard_library: int = 200_000
    packages: int = 4
    package: int = 450_000
    heldout_share: float = 0.08
    smallest: int = 400
    largest: int = 4_000


def write_corpus(target: Path, plan: CorpusPlan) -> dict[str, int]:
    """Copy the chosen files to TARGET/train/DOMAIN and TARGET/heldout/DOMAIN; returns bytes by domain.

    Raises:
        MemindexError: Hardly any Python source is installed as text.
    """
    copied: dict[str, int] = {}
    for domain, root, files, limit in _domains(plan):
        size = 0
        for file in sorted(files, key=lambda f: _hash(domain, f.relative_to(root))):
            size += file.stat().st_size
            if size > limit:
                break
            name = "__".join(file.relative_to(root).parts)
            # The second half of the hash: the first half chose the file.
            held_out = int(_hash(domain, file.relative_to(root))[32:40], 16) < plan.heldout_share * 2**32
            place = target / ("heldout" if held_out else "train") / domain / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
            copied[domain] = copied.get(domain, 0) + file.stat().st_size
    if sum(copied.values()) < 50_000:
        raise MemindexError("this Python has hardly any source files installed as text: the demo has nothing to read")
    return copied


def _domains(plan: CorpusPlan) -> Iterator[tuple[str, Path, list[Path], int]]:
    """(domain, root, files, bytes to take) for the standard library and the packages with the most files."""
    library = Path(sysconfig.get_path("stdlib"))
    yield STANDARD_LIBRARY, library, _sources(library, plan), plan.standard_library
    site = Path(sysconfig.get_path("purelib"))
    packages = [(p.name, _sources(p, plan)) for p in site.iterdir() if (p / "__init__.py").is_file()]
    ranked = sorted(packages, key=lambda item: (-len(item[1]), item[0]))
    for name, files in ranked[: plan.packages]:
        yield name, site / name, files, plan.package


def _sources(root: Path, plan: CorpusPlan) -> list[Path]:
    """Python files of a fitting size that are UTF-8; tests and installed packages below a library are left out."""
    skipped = {"site-packages", "test", "tests", "__pycache__", "_vendor"}
    files = []
    for file in root.rglob("*.py"):
        if skipped.isdisjoint(file.relative_to(root).parts) and plan.smallest <= file.stat().st_size <= plan.largest:
            try:
                file.read_bytes().decode("utf-8")
            except (UnicodeDecodeError, OSError):
                continue
            files.append(file)
    return files


def _hash(domain: str, name: Path) -> str:
    return hashlib.sha256(f"{domain}/{name.as_posix()}".encode()).hexdigest()
