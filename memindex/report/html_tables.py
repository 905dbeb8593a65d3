"""Tables of the report: the numbers to read, and all of them as a CSV file inside the page."""

from __future__ import annotations

import csv
import io
import json
from html import escape
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from memindex.report import numbers

#: Rows that are shown; the CSV has all.
MOST_ROWS = 400

#: What may stand as it is in the address of a file (RFC 3986) and in an attribute.
_PLAIN = "/:?@!$()*+,;=-._~ "


def html_table(table: pa.Table, label: str) -> str:
    """A table that scrolls sideways where it is wide, with the keyboard too; `label` names it for screen readers."""
    numeric = [pa.types.is_integer(t) or pa.types.is_floating(t) for t in table.schema.types]
    marks = [" class=number" if is_number else "" for is_number in numeric]
    names = table.column_names
    head = "".join(f"<th scope=col{m}>{escape(n.replace('_', ' '))}" for n, m in zip(names, marks, strict=True))
    rows = table.slice(0, MOST_ROWS).to_pylist()
    body = "".join("<tr>" + "".join(map(_cell, names, marks, row.values())) for row in rows)
    rest = table.num_rows - len(rows)
    more = f"<p class=note>And {numbers.whole(rest)} rows more, in the CSV file.</p>" if rest else ""
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{escape(label)}"><table><thead><tr>{head}'
        f"<tbody>{body}</table></div>{more}"
    )


def csv_link(table: pa.Table, name: str) -> str:
    """A link that saves all rows as NAME.csv; the file stands in the link itself, so it needs no network."""
    content = quote(csv_text(table), safe=_PLAIN)
    return (
        f'<p class=save><a download="{escape(name)}.csv" href="data:text/csv;charset=utf-8,{content}">'
        f"Save as CSV</a></p>"
    )


def csv_text(table: pa.Table) -> str:
    """The table as CSV (RFC 4180): exact numbers, NULL empty, lists as JSON."""
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(table.column_names)
    writer.writerows([[_plain(value) for value in row.values()] for row in table.to_pylist()])
    return sink.getvalue()


def _plain(value: Any) -> Any:
    return json.dumps(value, default=str) if isinstance(value, (list, dict)) else value


def _cell(name: str, mark: str, value: Any) -> str:
    text = numbers.cell(name, value)
    return f"<td{' class=long' if len(text) > 32 else mark}>{escape(text)}"
