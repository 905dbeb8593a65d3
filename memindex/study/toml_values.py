"""Values of a TOML file as the fields of dataclasses; an unknown key or another type is one clear line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from memindex.errors import MemindexError
from memindex.near_names import hint


def reject_unknown(file: Path, section: str, raw: dict[str, Any], known: set[str]) -> None:
    """Raise MemindexError at a key that is not known."""
    for key in raw:
        if key not in known:
            place = f"[{section}] " if section else ""
            raise MemindexError(f"{file}: {place}unknown key {key}; {hint(key, sorted(known))}")


def build(kind: Any, raw: Any, file: Path, section: str) -> Any:
    """A dataclass from a table of a TOML file; MemindexError for what it has no field for, or of another type."""
    if not isinstance(raw, dict):
        raise MemindexError(f"{file}: {section} must be a table")
    fields = {f.name: str(f.type) for f in dataclasses.fields(kind)}
    reject_unknown(file, section, raw, set(fields))
    typed = {key: _typed(value, fields[key], f"{file}: [{section}] {key}") for key, value in raw.items()}
    try:
        return kind(**typed)
    except TypeError as error:
        raise MemindexError(f"{file}: [{section}] {str(error).removeprefix(f'{kind.__name__}.__init__() ')}") from None
    except MemindexError as error:
        raise MemindexError(f"{file}: {error}") from None


#: First word of a field's type -> what a value in the file must be, and how a message says it.
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "str": (str, "text in quotes"),
    "bool": (bool, "true or false"),
}


def _typed(value: Any, wanted: str, place: str) -> Any:
    """The value as a field of the type `wanted` holds it; MemindexError at `place` when it is of another kind."""
    listed = wanted.startswith("tuple[")
    kind, words = _KINDS[wanted.removeprefix("tuple[").split(",")[0].split(" ")[0]]
    # One value is a list of one.
    values = value if listed and isinstance(value, list) else [value]
    if any(not isinstance(v, kind) or (isinstance(v, bool) and kind is not bool) for v in values):
        raise MemindexError(f"{place} must be {words}{', or a list of such' if listed else ''}")
    return tuple(values) if listed else value
