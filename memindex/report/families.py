"""Which models of a study belong together: by published family, or else architecture, ordered by size and training.

Figures take colours and panels from here, so that a model looks the same in every figure of a report. Labels of runs
are known by the model they begin with.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from memindex.report.numbers import short

#: More models than this are told apart by the hue of their family and the lightness of their size.
MANY = 8

_MODELS = """
SELECT model_id, coalesce(family, architecture, 'other'), non_embedding_parameters, trained_tokens
FROM models
ORDER BY coalesce(non_embedding_parameters, 0), training_order(trained_tokens, revision), model_id
"""


@dataclass(frozen=True)
class Member:
    """A model's place: its group, its number in the study and in the group, and its name in figures."""

    group: str
    number: int
    number_in_group: int
    name: str


class Families:
    """The models of a study by label; `groups` are the families with their numbers of models, the largest family first.

    A family of many checkpoints is divided by size, the smallest first.
    """

    def __init__(self, models: Iterable[tuple[str, str, int | None, int | None]] = ()) -> None:
        """Models as (model_id, family, parameters, trained tokens), in the order of size and training."""
        rows = list(models)
        named = _groups(rows)
        tails = Counter(_tail(model_id) for model_id, *_ in rows)
        self._members: dict[str, Member] = {}
        self._found: dict[str, Member | None] = {}
        seen: Counter[str] = Counter()
        for number, (model_id, *_) in enumerate(rows):
            group, tail = named[model_id], _tail(model_id)
            name = tail if tails[tail] == 1 else model_id
            self._members[model_id] = Member(group, number, seen[group], name)
            seen[group] += 1
        of_family = Counter(family for _, family, *_ in rows)
        # Groups of one family stay in the order in which they come, that of their sizes.
        family = {named[model_id]: family for model_id, family, *_ in rows}
        self.groups: Mapping[str, int] = {
            group: seen[group] for group in sorted(seen, key=lambda group: (-of_family[family[group]], family[group]))
        }

    def __len__(self) -> int:
        """The number of models."""
        return len(self._members)

    def member(self, label: Any) -> Member | None:
        """The place of a run's label, which is a model's name, perhaps with more after it; None for other texts."""
        text = str(label)
        if text not in self._found:
            self._found[text] = self._members.get(text) or self._beginning(text)
        return self._found[text]

    def _beginning(self, text: str) -> Member | None:
        """The place of the model whose name the text begins with."""
        before = [known for known in self._members if text.startswith((f"{known} (", f"{known}, "))]
        if not before:
            return None
        known = max(before, key=len)
        member = self._members[known]
        return Member(member.group, member.number, member.number_in_group, member.name + text[len(known) :])

    def name(self, label: Any) -> str:
        """A label as figures write it: models without their organization where that leaves no doubt."""
        member = self.member(label)
        return str(label) if member is None else member.name


def families_of(con: duckdb.DuckDBPyConnection) -> Families:
    """The models of a connection of `memindex.connect`."""
    return Families(con.cursor().execute(_MODELS).fetchall())


def _groups(rows: list[tuple[str, str, int | None, int | None]]) -> dict[str, str]:
    """model_id -> its group."""
    models = Counter(family for _, family, *_ in rows)
    sizes = Counter(family for family, _ in {(family, size) for _, family, size, _ in rows})
    return {
        model_id: f"{family}, {short(size)} parameters"
        if models[family] > MANY and 2 * sizes[family] <= models[family] and size
        else family
        for model_id, family, size, _ in rows
    }


def _tail(model_id: str) -> str:
    """The name in organization/name or folder/folder/name; any other text as it is."""
    return model_id.rsplit("/", 1)[1] if re.fullmatch(r"[\w./-]*/[\w.@:+-]+", model_id) else model_id
