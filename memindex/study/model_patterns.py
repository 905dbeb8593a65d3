"""Shell patterns of model ids, by which a study says which of its models something is done with."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def fits_any(model_id: str, patterns: Iterable[str]) -> bool:
    """Whether a model's id fits one of the patterns, as gpt_neox-25M fits *-25M."""
    return any(fnmatchcase(model_id, pattern) for pattern in patterns)


def idle_patterns(patterns: Iterable[str], ids: Iterable[str]) -> list[str]:
    """The patterns that no id fits: slips of the pen, which would quietly leave a model out."""
    known = list(ids)
    return [pattern for pattern in patterns if not any(fits_any(model_id, [pattern]) for model_id in known)]
