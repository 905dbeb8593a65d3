"""How a query's rows are divided into panels, and what each series looks like in them.

Up to eight series stand in one panel, each with a colour and a marker of its own. More models than that are grouped by
family: small figures below each other, or where the query has panels of its own (and for dots) one figure that draws
the largest model of each family in full and the others faintly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from memindex.report.families import MANY, Families
from memindex.report.palette import MARKERS, Palette
from memindex.sql.queries import Query

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Look:
    """How a series is drawn; a faint one is without marker, interval and label. `lane` is its row among the dots."""

    colour: str
    marker: str
    name: str
    lane: int = 0
    faint: bool = False


@dataclass(frozen=True)
class Panel:
    """Rows on one pair of axes; `peers` are all rows on the same scale, these among them.

    `looks` tells of each series how it is drawn, `names` of each model how it is written, in the order of the rows.
    """

    rows: Rows
    looks: Mapping[Any, Look]
    names: Mapping[Any, str]
    title: str = ""
    peers: Rows = field(default_factory=list)
    lanes: int = 1
    in_family: bool = False

    @property
    def is_grouped(self) -> bool:
        """Whether some series are faint."""
        return any(look.faint for look in self.looks.values())


def panels(query: Query, rows: Rows, palette: Palette, families: Families) -> list[Panel]:
    """The panels of a figure, top to bottom."""
    column = query.figure.panel
    parts = {"": rows}
    if column:
        names_there = distinct(rows, column)
        before = f"{column}: " if query.figure.columns == 1 else ""
        parts = {f"{before}{families.name(name)}": [r for r in rows if r[column] == name] for name in names_there}
    series = distinct(rows, query.figure.series) if query.figure.series else []
    grouped = query.figure.kind in {"line", "dots"} and len(series) > MANY and all(map(families.member, series))
    names = _names(query, rows, families)
    made: list[Panel] = []
    for title, part in parts.items():
        if grouped and query.figure.kind == "line" and len(parts) == 1:
            made += _by_family(query, part, palette, families, names)
        else:
            there = set(distinct(part, query.figure.series)) if series else set()
            inside = {name: look for name, look in looks(series, palette, families).items() if name in there}
            inside = _grouped(inside, families) if grouped else _lanes(inside)
            lanes = 1 + max((look.lane for look in inside.values()), default=0)
            peers = part if query.figure.columns == 1 else rows
            made.append(Panel(part, inside, names, title, peers, lanes))
    return made


def looks(series: Sequence[Any], palette: Palette, families: Families) -> dict[Any, Look]:
    """What each series looks like; a model looks the same in every figure of a study."""
    members = [families.member(name) for name in series]
    by_hue = len(families.groups) > 1 or len(families) > MANY
    groups = list(families.groups)
    found: dict[Any, Look] = {}
    for place, (name, member) in enumerate(zip(series, members, strict=True)):
        # Markers go on at another colour after eight, so that no two of 64 series are alike.
        marker, colour = MARKERS[(place + place // 8) % 8], palette.colour(place)
        if member is not None and by_hue:
            hue = groups.index(member.group)
            colour = palette.shade(hue, member.number_in_group, families.groups[member.group])
        elif member is not None:
            colour = palette.colour(member.number)
        elif by_hue and name in families.groups:
            colour = palette.colour(groups.index(name))
        found[name] = Look(colour, marker, families.name(name))
    return found


def distinct(rows: Sequence[dict[str, Any]], column: str) -> list[Any]:
    """The values of a column in the order of their first appearance."""
    return list(dict.fromkeys(row[column] for row in rows))


def _lanes(known: dict[Any, Look]) -> dict[Any, Look]:
    """A lane for each series."""
    return {name: replace(look, lane=lane) for lane, (name, look) in enumerate(known.items())}


def _grouped(known: dict[Any, Look], families: Families) -> dict[Any, Look]:
    """A lane for each family, in the order of the study; in full the last run of its largest model here."""
    places = [(member.group, member.number, name) for name in known if (member := families.member(name))]
    here = [group for group in families.groups if any(group == there for there, *_ in places)]
    last = {group: max((p for p in places if p[0] == group), key=lambda p: p[1:])[2] for group in here}
    return {
        name: replace(known[name], lane=here.index(group), faint=name != last[group])
        for group, _, name in sorted(places, key=lambda p: here.index(p[0]))
    }


def _by_family(query: Query, rows: Rows, palette: Palette, families: Families, names: dict[Any, str]) -> list[Panel]:
    """One panel per family, its models ordered by size and training."""
    made = []
    for group in families.groups:
        inside = [row for row in rows if _member(families, row, query).group == group]
        inside.sort(key=lambda row: _member(families, row, query).number)
        if inside:
            series = distinct(inside, query.figure.series)
            made.append(Panel(inside, looks(series, palette, families), names, group, rows, in_family=True))
    return made


def _member(families: Families, row: dict[str, Any], query: Query) -> Any:
    return families.member(row[query.figure.series])


def _names(query: Query, rows: Rows, families: Families) -> dict[Any, str]:
    """The models that the figure names: the label in the table -> the name in the figure."""
    columns = {query.figure.series, query.figure.x.column, query.figure.label} - {""}
    values = {row[column] for row in rows for column in columns if isinstance(row[column], str)}
    return {value: families.name(value) for value in values if families.member(value)}
