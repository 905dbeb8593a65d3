"""Tables in Markdown: a value and its interval in one cell, and the values of a column side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from memindex.errors import MemindexError
from memindex.report import numbers
from memindex.report.labels import shown

Row = dict[str, Any]


def markdown_table(table: pa.Table, across: str = "") -> str:
    """The rows as a table of GitHub's Markdown; columns X_low and X_high are the interval in the cells of X.

    Args:
        table: The rows.
        across: A column whose values become the columns: those before it name a row, the one after it is in the cells.

    Raises:
        MemindexError: There are no rows, or no column `across` with one after it.
    """
    if not table.num_rows:
        raise MemindexError("a table without rows can't be shown")
    rows = table.to_pylist()
    columns = _shown_columns(table.column_names)
    if across:
        return _crossed(rows, columns, across)
    cells = [[value_text(row, name) for name in columns] for row in rows]
    kinds = {name: table.schema.field(name).type for name in columns}
    numeric = [pa.types.is_integer(kinds[name]) or pa.types.is_floating(kinds[name]) for name in columns]
    return _table([_heading(name) for name in columns], cells, numeric)


def value_text(row: Row, column: str, *, interval: bool = True) -> str:
    """A value as the tables write it, with its interval where the row has one."""
    value = row[column]
    low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
    if interval and isinstance(value, float) and low is not None and high is not None:
        return numbers.with_interval(column, value, low, high)
    return numbers.cell(column, value)


def _shown_columns(names: Sequence[str]) -> list[str]:
    ends = {f"{name}_{end}" for name in names for end in ("low", "high")}
    return [name for name in names if name not in ends]


def _crossed(rows: list[Row], columns: list[str], across: str) -> str:
    place = columns.index(across) if across in columns else len(columns)
    if place + 1 >= len(columns):
        raise MemindexError(f"no column {across} with one after it; there are: {', '.join(columns)}")
    names, value = columns[:place], columns[place + 1]
    over = list(dict.fromkeys(row[across] for row in rows))
    lines: dict[tuple[str, ...], dict[Any, str]] = {}
    for row in rows:
        line = lines.setdefault(tuple(value_text(row, name) for name in names), {})
        line[row[across]] = value_text(row, value)
    cells = [[*named, *(line.get(name, "—") for name in over)] for named, line in lines.items()]
    numeric = [False] * len(names) + [True] * len(over)
    return _table([*map(_heading, names), *(value_text({across: name}, across) for name in over)], cells, numeric)


def _heading(name: str) -> str:
    return name.replace("_", " ")


def _table(head: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    rule = [" ---: " if right else " --- " for right in numeric]
    lines = [f"|{'|'.join(f' {_plain(cell)} ' for cell in line)}|" for line in (head, *cells)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    for character in "\\|*_`<[":
        text = text.replace(character, f"\\{character}")
    return shown(text, longest=200)
