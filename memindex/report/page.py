"""The report of a study: one HTML file that needs nothing else, with every query's figure, numbers and SQL.

No script, no font, no network: it can be mailed, archived and opened years later. Everything that comes from
the data (names of models, domains, paths) is escaped. Every figure stands twice in the file, drawn for a desk
and for a phone; the style sheet shows one.
"""

from __future__ import annotations

import os
import secrets
from html import escape
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from memindex.report import numbers
from memindex.report.figures import NARROW, WIDE, inline_svg
from memindex.report.style import style_sheet
from memindex.report.summary import fits, summary
from memindex.study.config import StudyConfig, load_study
from memindex.tables.connection import connect
from memindex.tables.queries import Query, list_queries, load_query, run_query

#: Reading order; queries that are not named here follow in the order of their names.
_ORDER = (
    "rate_by_size",
    "rate_by_frequency",
    "corpus_by_frequency",
    "unseen_floor",
    "controls",
    "context_curve",
    "score_histogram",
    "approximate",
    "discoverable",
    "frequency_of_memorized",
    "perplexity_of_memorized",
    "domain_shares",
    "overlap",
    "most_memorized_documents",
)

_MOST_ROWS = 400

_MODELS = """
SELECT model_id AS model, family, architecture, non_embedding_parameters, parameters, layers, hidden_size,
       trained_tokens, run_id AS run, prefix_length || '+' || suffix_length AS tokens, decoding, control, made_by,
       dtype, device, runs.sequences, seconds
FROM models LEFT JOIN runs USING (model_id)
ORDER BY architecture, non_embedding_parameters, model_id, run_id
"""

_CORPORA = 'SELECT * FROM corpora ORDER BY "index", tokens DESC, domain'


def write_report(study: str | Path, out: str | Path | None = None) -> Path:
    """Write a study's report and return its file: `out`, or report.html in the study's directory.

    The file appears whole or not at all; the same tables give the same bytes.

    Raises:
        MemindexError: No study there, or tables that can't be read.
    """
    config = load_study(study)
    target = config.directory / "report.html" if out is None else Path(out)
    con = connect(study)
    con.execute("SET threads = 1")  # sums of floats depend on the order of their terms
    try:
        page = _page(con, config)
    finally:
        con.close()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return target


def _page(con: duckdb.DuckDBPyConnection, config: StudyConfig) -> str:
    title = escape(config.name)
    answers = _answers(con)
    body = [
        f"<header><p class=kind>Memorization study</p><h1>{title}</h1>",
        f"<p class=summary>{escape(summary(con))}</p></header>",
        _contents(answers),
        _section("models", "Models", "What was scored, and how?", _table(con.sql(_MODELS).to_arrow_table())),
        *(_query_section(query, table) for query, table in answers),
        _section(
            "corpora",
            "Corpora",
            "What do the indexes hold?",
            _details("Domains", con.sql(_CORPORA).to_arrow_table()),
        ),
        "<footer><p>Made by memindex from the study's tables. The SQL under each figure runs with "
        "<code>memindex sql</code>.</p></footer>",
    ]
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{style_sheet()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _reading_order() -> list[str]:
    known = list_queries()
    first = [name for name in _ORDER if name in known]
    return first + [name for name in known if name not in first]


def _answers(con: duckdb.DuckDBPyConnection) -> list[tuple[Query, pa.Table]]:
    """The queries in reading order with their results; without the optional ones that have no rows."""
    queries = [load_query(name) for name in _reading_order()]
    answers = [(query, run_query(con, query)) for query in queries]
    return [(query, table) for query, table in answers if table.num_rows or not query.optional]


def _contents(answers: list[tuple[Query, pa.Table]]) -> str:
    links = "".join(f'<li><a href="#{query.name}">{escape(query.title)}</a>' for query, _ in answers)
    return f"<nav><ul>{links}</ul></nav>"


def _section(anchor: str, title: str, question: str, inside: str) -> str:
    return (
        f'<section id="{escape(anchor)}"><h2>{escape(title)}</h2>'
        f"<p class=question>{escape(question)}</p>\n{inside}</section>"
    )


def _query_section(query: Query, table: pa.Table) -> str:
    figure = _figure(query, table)
    rows = _details("The numbers", table) if figure else _table(table)
    fitted = fits(table) if query.figure.fit else []
    figure += "".join(f"<p class=fit>{escape(sentence)}</p>" for sentence in fitted)
    note = f"<p class=note>{escape(query.note)}</p>" if query.note else ""
    sql = f"<details><summary>The SQL</summary><pre><code>{escape(query.literal_sql())}</code></pre></details>"
    return _section(query.name, query.title, query.question, f"{figure}{note}{rows}{sql}")


def _figure(query: Query, table: pa.Table) -> str:
    wide = inline_svg(query, table, WIDE)
    if not wide:
        return ""
    name = f'role=img aria-label="{escape(query.title)}"'
    return (
        f"<figure {name}><div class=wide>{wide}</div>"
        f"<div class=narrow>{inline_svg(query, table, NARROW)}</div></figure>\n"
    )


def _details(name: str, table: pa.Table) -> str:
    if not table.num_rows:
        return _table(table)
    return f"<details><summary>{name} ({numbers.whole(table.num_rows)} rows)</summary>{_table(table)}</details>"


def _table(table: pa.Table) -> str:
    if not table.num_rows:
        return "<p class=empty>No rows yet: fill the tables with <code>memindex study run</code>.</p>"
    numeric = [pa.types.is_integer(t) or pa.types.is_floating(t) for t in table.schema.types]
    marks = [" class=number" if is_number else "" for is_number in numeric]
    names = table.column_names
    head = "".join(f"<th{m}>{escape(n.replace('_', ' '))}" for n, m in zip(names, marks, strict=True))
    rows = table.slice(0, _MOST_ROWS).to_pylist()
    body = "".join("<tr>" + "".join(map(_cell, names, marks, row.values())) for row in rows)
    rest = table.num_rows - len(rows)
    more = f"<p class=note>And {numbers.whole(rest)} rows more.</p>" if rest else ""
    return f"<div class=scroll><table><thead><tr>{head}<tbody>{body}</table></div>{more}"


def _cell(name: str, mark: str, value: Any) -> str:
    text = numbers.cell(name, value)
    return f"<td{' class=long' if len(text) > 32 else mark}>{escape(text)}"
