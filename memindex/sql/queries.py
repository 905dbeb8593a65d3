"""The questions of queries/*.sql: one file, one question, one table of numbers, one way to draw it.

A file begins with `-- key: value` lines (an indented comment line continues the one above):

    -- title: Memorization rate by model size
    -- question: How does the share of memorized sequences grow with the size of the model?
    -- note: What the numbers are, in a sentence or two.
    -- parameter sample: uniform                 used as $sample; the default gives the type: 3, 0.5 or text
    -- parameter groups: drawn | matched         no other texts than these
    -- parameter top: 0.2 | 0 to 1               no number outside
    -- figure: points                            points, line, dots, cells, heat or none
    -- x: non_embedding_parameters | Non-embedding parameters | log
    -- y: rate | Memorized sequences | percent   a column | its label | how to write or scale it
    -- interval: rate_low, rate_high             columns with the ends of the interval
    -- series: architecture                      one line or colour per value
    -- dashes: outcome                           of a line: full for its first value, dotted for the next
    -- label: run_label                          written beside each point
    -- fit: fitted                               column with the height of the fitted line
    -- panel: sample                             one small figure per value
    -- columns: 2                                so many of them beside each other, on one scale, with one legend
    -- order: bucket                             column that orders a categorical x
    -- apart: unseen                             value of x that stands apart, first and unconnected
    -- reference: share_sample | share in the sample     a mark drawn beside the values of y
    -- optional: yes                             the report leaves it out while it has no rows

Cells and heat are matrices: series down the page, x across, y the value, which cells has written in it and heat, for
many cells, shown by depth of colour alone. A y axis may be logarithmic and still have zeros: they stand apart below.
Series that are names of models have the colour of their family, and from nine models on they are grouped by it.

Parameters are prepared parameters, never pasted into the text, so a value can't become SQL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from memindex.errors import MemindexError, QueryError
from memindex.near_names import FEW, hint, near_names
from memindex.sql.connection import damage_behind
from memindex.sql.functions import readable
from memindex.sql.intervals import ENOUGH_DOCUMENTS

Parameter = str | int | float

#: Where all names of queries are listed.
LIST = "memindex sql --list shows all queries"

#: Samples that were drawn evenly over frequencies, and the query that answers by frequency.
_EVEN_SAMPLES = {"bucket": "rate_by_frequency", "domain": "frequency_in_domains"}

_KINDS = ("points", "line", "dots", "cells", "heat", "none")
_KEYS = (
    *("title", "question", "note", "figure", "x", "y", "interval", "series", "panel", "order", "apart"),
    *("reference", "label", "fit", "dashes", "columns", "optional"),
)


@dataclass(frozen=True)
class Axis:
    """A column and how it is shown: `style` is '', log, percent or percent-log."""

    column: str
    label: str = ""
    style: str = ""


@dataclass(frozen=True)
class Figure:
    """How a query's numbers are drawn; the header of its file says what each part means."""

    kind: str = "none"
    x: Axis = Axis("")
    y: Axis = Axis("")
    interval: tuple[str, ...] = ()
    series: str = ""
    panel: str = ""
    order: str = ""
    apart: str = ""
    reference: Axis = Axis("")
    label: str = ""
    fit: str = ""
    dashes: str = ""
    columns: int = 1


@dataclass(frozen=True)
class Query:
    """One question: `text` is the whole file, `sql` the statement with $parameters."""

    name: str
    title: str
    question: str
    note: str
    figure: Figure
    sql: str
    text: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    optional: bool = False
    allowed: Mapping[str, str] = field(default_factory=dict)

    def literal_sql(self) -> str:
        """The statement with the defaults written out, to paste into `memindex sql`."""

        def literal(match: re.Match[str]) -> str:
            value = self.parameters[match.group(1)]
            return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)

        return re.sub(r"\$([a-z_]+)", literal, self.sql)


def queries_directory() -> Path:
    """Where the .sql files lie: beside the package in a checkout, inside it when it is installed."""
    package = Path(__file__).resolve().parent.parent
    # A checkout may hold an outdated copy inside the package, left by an editable install; its own folder comes first.
    checkout = [package.parent / "queries"] if (package.parent / "pyproject.toml").is_file() else []
    for folder in (*checkout, package / "_queries"):
        if any(folder.glob("*.sql")):
            return folder
    raise MemindexError("the files of queries/ are not installed; reinstall memindex")


def list_queries() -> list[str]:
    """The names of all queries, sorted."""
    return sorted(file.stem for file in queries_directory().glob("*.sql"))


def load_query(name: str) -> Query:
    """The query `name`; an unknown name or a bad header raises MemindexError."""
    known = list_queries()
    if name not in known:
        raise MemindexError(f"there is no query {name!r}; {hint(name, known, LIST)}")
    return parse_query(name, (queries_directory() / f"{name}.sql").read_text(encoding="utf-8"))


def parse_query(name: str, text: str) -> Query:
    """A query from the text of its file."""
    header, sql = _split(name, text)
    declared = {
        key.removeprefix("parameter "): value.partition(" | ")
        for key, value in header.items()
        if key.startswith("parameter ")
    }
    parameters = {key: _value(default) for key, (default, _, _) in declared.items()}
    unknown = [key for key in header if key not in _KEYS and not key.startswith("parameter ")]
    if unknown:
        raise MemindexError(f"queries/{name}.sql: unknown header {', '.join(unknown)}")
    for key in ("title", "question"):
        if not header.get(key):
            raise MemindexError(f"queries/{name}.sql: the header {key} is missing")
    used = set(re.findall(r"\$([a-z_]+)", sql))
    if used != set(parameters):
        raise MemindexError(f"queries/{name}.sql: declares {sorted(parameters)} but uses {sorted(used)}")
    return Query(
        name=name,
        title=header["title"],
        question=header["question"],
        note=header.get("note", ""),
        figure=_figure(name, header),
        sql=sql,
        text=text,
        parameters=parameters,
        optional=header.get("optional") == "yes",
        allowed={key: allowed for key, (_, _, allowed) in declared.items() if allowed},
    )


def run_query(con: duckdb.DuckDBPyConnection, name: str | Query, **parameters: Parameter) -> pa.Table:
    """The answer to a query (a name, or one parsed) on a connection of `memindex.connect`.

    Raises:
        MemindexError: An unknown query or parameter, a value of another type than its default, or an error of
            DuckDB.
    """
    query = load_query(name) if isinstance(name, str) else name
    values = query_values(query, parameters)
    cursor = con.cursor()  # the caller may still be fetching from the connection
    try:
        return cursor.sql(query.sql, params=values or None).to_arrow_table()
    except duckdb.Error as error:
        raise (damage_behind(con, error) or readable(error)) from error


def query_values(query: Query, given: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The value of each parameter: the one given, in the type of the default, or the default.

    Raises:
        QueryError: An unknown parameter, a value of another type than its default, one that its header rules out, or a
            sample that does not describe the corpus.
    """
    values = dict(query.parameters)
    for key, value in given.items():
        if key not in values:
            raise QueryError(f"query {query.name} has no parameter {key!r}; {hint(key, values)}")
        default = values[key]
        values[key] = _typed(query.name, key, value, default)
        _check_allowed(query, key, values[key], default)
    _check_sample(query, values)
    return values


def few_documents_note(answer: pa.Table) -> str:
    """What to say of rows whose interval rests on few documents; empty where there are none."""
    if "few_documents" not in answer.column_names or not (few := pc.sum(answer["few_documents"]).as_py()):
        return ""
    rows = "the row rests" if answer.num_rows == 1 else f"{few:,} of {answer.num_rows:,} rows rest"
    return (
        f"{rows} on fewer than {ENOUGH_DOCUMENTS:g} effective documents (few_documents): an interval there may be too "
        "narrow"
    )


def not_in_study(con: duckdb.DuckDBPyConnection, values: Mapping[str, Parameter]) -> str:
    """What to say when the parameter `sample` or `model` names one that the study does not have; empty otherwise."""
    for key, column, table, lacking in (
        ("sample", "sample", "sequences", "has no sequences of the sample"),
        ("model", "run_label", "memorization", "has no run labelled"),
    ):
        wanted = values.get(key)
        if wanted is None or (key == "model" and wanted == "all"):
            continue
        known = [
            name for (name,) in con.cursor().execute(f"SELECT DISTINCT {column} FROM {table} ORDER BY 1").fetchall()
        ]
        if known and wanted not in known:
            possible = [name for name in known if key != "sample" or name not in _EVEN_SAMPLES]
            near = near_names(str(wanted), possible) or possible[:FEW]
            instead = f"; ask with -p {key}={f' or {key}='.join(near)}" if near else ""
            return f"the study {lacking} {wanted!r}{instead}"
    return ""


def _split(name: str, text: str) -> tuple[dict[str, str], str]:
    """The header's keys and the statement below it."""
    header: dict[str, str] = {}
    key = ""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("--"):
            return header, "\n".join(lines[number:]).strip().rstrip(";")
        content = line.removeprefix("--")
        found = re.fullmatch(r" ?((?:parameter )?[a-z_]+): *(.*)", content)
        if found:
            key = found.group(1)
            header[key] = found.group(2)
        elif key:
            header[key] += " " + content.strip()
    raise MemindexError(f"queries/{name}.sql: there is no statement below the header")


def _figure(name: str, header: Mapping[str, str]) -> Figure:
    kind = header.get("figure", "none")
    if kind not in _KINDS:
        raise MemindexError(f"queries/{name}.sql: figure {kind!r} is none of {', '.join(_KINDS)}")
    return Figure(
        kind=kind,
        x=_axis(header.get("x", "")),
        y=_axis(header.get("y", "")),
        interval=tuple(part.strip() for part in header.get("interval", "").split(",") if part.strip()),
        series=header.get("series", ""),
        panel=header.get("panel", ""),
        order=header.get("order", ""),
        apart=header.get("apart", ""),
        reference=_axis(header.get("reference", "")),
        label=header.get("label", ""),
        fit=header.get("fit", ""),
        dashes=header.get("dashes", ""),
        columns=_columns(name, header.get("columns", "1")),
    )


def _columns(name: str, value: str) -> int:
    if value not in {"1", "2", "3"}:
        raise MemindexError(f"queries/{name}.sql: columns must be 1, 2 or 3, not {value}")
    return int(value)


def _axis(value: str) -> Axis:
    return Axis(*(part.strip() for part in value.split("|", 2)))


def _value(text: str) -> Parameter:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _typed(query_name: str, key: str, value: Parameter, default: Parameter) -> Parameter:
    """The value in the type of the default; the command line gives every value as text."""
    try:
        return type(default)(value)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}[type(default)]
        raise QueryError(f"query {query_name}: {key} must be {kind}, not {value!r}") from None


def _check_sample(query: Query, values: Mapping[str, Parameter]) -> None:
    """Refuse a sample whose shares would be taken for those of the corpus."""
    if answering := _EVEN_SAMPLES.get(str(values.get("sample"))):
        raise QueryError(
            f"query {query.name}: the sample {values['sample']} has as many rare sequences as frequent ones, so its "
            f"rates and shares are not the corpus's: use sample=uniform, or the query {answering}"
        )


def _check_allowed(query: Query, key: str, value: Parameter, default: Parameter) -> None:
    """Refuse what the header rules out: a text that would silently mean the default, a number that means nothing."""
    allowed = query.allowed.get(key)
    if allowed is None:
        return
    if isinstance(value, str):
        if value not in (default, *allowed.split(", ")):
            raise QueryError(f"query {query.name}: {key} must be {default} or {allowed}, not {value!r}")
        return
    least, most = map(float, allowed.split(" to "))
    if not least <= value <= most:
        raise QueryError(f"query {query.name}: {key} must be {allowed}, not {value:g}")
