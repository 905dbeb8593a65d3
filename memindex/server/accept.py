"""What an Accept header asks for (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class _Range(NamedTuple):
    """One entry of an Accept header: `text/csv`, `text/*` or `*/*`, with its weight and its place in the header."""

    kind: str
    weight: float
    place: int


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The media type of `offered` that a client wants most, as it is written there; the first where all are the same.

    Of types with the same weight the one that is named itself goes before those that `*` stands for, then the one that
    is named first. A client that wants none of them gets the first.
    """
    ranges = list(_ranges(accept))
    return max(offered, key=lambda kind: _rank(kind.partition(";")[0], ranges)) if ranges else offered[0]


def _rank(kind: str, ranges: Sequence[_Range]) -> tuple[float, int, int]:
    """Weight, how exactly it is named, and how early: the most exact entry for a type says its weight."""
    for exactness, name in ((2, kind), (1, f"{kind.partition('/')[0]}/*"), (0, "*/*")):
        for entry in ranges:
            if entry.kind == name:
                return (entry.weight, exactness, -entry.place) if entry.weight else (0.0, 0, 0)
    return 0.0, 0, 0


def _ranges(accept: str) -> Iterator[_Range]:
    for place, part in enumerate(accept.split(",")):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if kind:
            yield _Range(kind, _weight(parameters), place)


def _weight(parameters: Sequence[str]) -> float:
    """Of 0 to 1; 1 where it is not said, or not in numbers."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 1.0
    return 1.0
