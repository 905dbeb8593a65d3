"""The text of a study.toml, which `memindex.study.config` reads."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from memindex.errors import MemindexError
from memindex.study.config import SequenceConfig


def study_toml(
    directory: Path,
    index: str | Path,
    heldout: str | Path | None,
    models: Sequence[str | Path],
    sequences: SequenceConfig,
    *,
    name: str | None = None,
) -> str:
    """The text of a study.toml for a study in `directory`; local paths become relative to it."""
    lines = [
        f"name = {_quoted(name or directory.resolve().name)}",
        f"index = {_quoted(relative_path(index, directory))}",
    ]
    if heldout is not None:
        lines.append(f"heldout = {_quoted(relative_path(heldout, directory))}")
    lines += [
        "",
        "[sequences]",
        *(f"{key} = {value}" for key, value in dataclasses.asdict(sequences).items() if value or key != "per_domain"),
    ]
    sources = [relative_path(model, directory) if Path(model).is_dir() else str(model) for model in models]
    for source, model_id in zip(sources, _distinct_ids(sources), strict=True):
        lines += ["", "[[models]]", f"id = {_quoted(model_id)}", f"source = {_quoted(source)}"]
    return "\n".join(lines) + "\n"


def _distinct_ids(sources: Sequence[str]) -> list[str]:
    """The last part of each source's path, or as many parts as tell it from the others."""
    parts = [source.rstrip("/").split("/") for source in sources]
    for length in range(1, max(map(len, parts), default=1) + 1):
        ids = ["/".join(p[-length:]) for p in parts]
        if len(set(ids)) == len(ids):
            return ids
    raise MemindexError("the same model is named twice")


def relative_path(path: str | Path, directory: Path) -> str:
    """A local path as study.toml in `directory` names it."""
    return Path(os.path.relpath(Path(path).resolve(), directory.resolve())).as_posix()


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string.
    return json.dumps(text, ensure_ascii=False)
