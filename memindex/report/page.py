"""The report of a study: one HTML file that needs nothing else, with every query's figure, numbers and SQL.

No script, no font, no network: it can be mailed, archived and opened years later, and its content security policy
forbids browsers to load anything. Everything that comes from the data (names of models, domains, paths) is escaped.
Every figure stands twice in the file, drawn for a desk and for a phone; the style sheet shows one. The numbers of each
can be saved as a CSV file, which stands in its link.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

import duckdb
import pyarrow as pa

from memindex.errors import MemindexError
from memindex.index.manifest import write_atomically
from memindex.progress import Progress
from memindex.report import numbers
from memindex.report.families import Families, families_of
from memindex.report.figures import NARROW, WIDE, inline_svg, why_nothing
from memindex.report.html_tables import csv_link, html_table
from memindex.report.style import style_sheet
from memindex.report.summary import fits, summary
from memindex.sql.connection import connect, lacks_index
from memindex.sql.empty_tables import check_answered, unfinished_runs, why_empty
from memindex.sql.functions import readable
from memindex.sql.queries import Query, few_documents_note, list_queries, load_query
from memindex.sql.query_pool import run_queries
from memindex.sql.reading_order import reading_order
from memindex.study.config import StudyConfig, load_study

#: Nothing is loaded, run or sent, whatever a name in the data says; matplotlib's drawings carry inline styles.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

#: More rows than this are folded away.
_UNFOLDED = 12

_MODELS = """
SELECT model_id AS model, family, architecture, non_embedding_parameters, parameters, layers, hidden_size,
       trained_tokens, run_id AS run, prefix_length || '+' || suffix_length AS tokens, decoding, control, made_by,
       dtype, device, runs.sequences, seconds
FROM models LEFT JOIN runs USING (model_id)
ORDER BY architecture, non_embedding_parameters, model_id, run_id
"""

_CORPORA = 'SELECT * FROM corpora ORDER BY "index", tokens DESC, domain'


def write_report(
    study: str | Path,
    out: str | Path | None = None,
    progress: Progress | None = None,
    *,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Write a study's report and return its file: `out`, or report.html in the study's directory.

    The file appears whole or not at all; the same tables give the same bytes. A folder that is missing is made.

    Args:
        study: Directory of the study.
        out: File to write.
        progress: Called with (stage, done, total) after every query and every section.
        tell: Called with one line about runs that are not finished, which the report lacks.

    Raises:
        MemindexError: No study there, tables that can't be read, no query that has rows (then nothing is written), or
            a file that can't be written.
    """
    report = progress or (lambda *_: None)
    config = load_study(study)
    target = config.directory / "report.html" if out is None else Path(out)
    con = connect(study)
    try:
        page = _page(con, config, report)
        unfinished = unfinished_runs(con, config)
    finally:
        con.close()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MemindexError(f"can't write {target}: {target.parent}: {error.strerror or error}") from None
    write_atomically(target, page.encode())
    if unfinished and tell is not None:
        tell(f"the report lacks runs: {unfinished}")
    return target


def _page(con: duckdb.DuckDBPyConnection, config: StudyConfig, progress: Progress) -> str:
    title = escape(config.name)
    answers, families = _answers(con, progress), families_of(con)
    check_answered(con, config, (answer for _, answer in answers))
    body = [
        f"<header><p class=kind>Memorization study</p><h1>{title}</h1>",
        f"<p class=summary>{escape(summary(con))}</p></header>",
        _contents(answers),
        _table_section(con, "models", "Models", "What was scored, and how?", _MODELS),
        *_query_sections(con, answers, families, progress),
        _table_section(con, "corpora", "Corpora", "What do the indexes hold?", _CORPORA),
        "<footer><p>Made by memindex from the study's tables. The SQL under each figure runs with "
        "<code>memindex sql</code>.</p></footer>",
    ]
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{style_sheet()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _query_sections(
    con: duckdb.DuckDBPyConnection,
    answers: list[tuple[Query, pa.Table | MemindexError]],
    families: Families,
    progress: Progress,
) -> list[str]:
    sections: list[str] = []
    progress("draw figures", 0, len(answers))
    for query, table in answers:
        sections.append(_query_section(con, query, table, families))
        progress("draw figures", len(sections), len(answers))
    return sections


def _answers(con: duckdb.DuckDBPyConnection, progress: Progress) -> list[tuple[Query, pa.Table | MemindexError]]:
    """The queries in reading order with their results; without the optional ones that have no rows.

    Of a query that needs an index which is not there, what is wrong with that.
    """
    queries = [load_query(name) for name in reading_order(list_queries())]
    answers: list[tuple[Query, pa.Table | MemindexError]] = []
    progress("run queries", 0, len(queries))
    answered = zip(queries, run_queries(con, [(query, {}) for query in queries]), strict=True)
    for done, (query, answer) in enumerate(answered, 1):
        progress("run queries", done, len(queries))
        if isinstance(answer, MemindexError):
            if not lacks_index(con, answer):
                raise answer
            answers.append((query, answer))
        elif answer.num_rows or not query.optional:
            answers.append((query, answer))
    return answers


def _contents(answers: list[tuple[Query, pa.Table | MemindexError]]) -> str:
    links = "".join(f'<li><a href="#{query.name}">{escape(query.title)}</a>' for query, _ in answers)
    return f'<nav aria-label="Questions"><ul>{links}</ul></nav>'


def _section(anchor: str, title: str, question: str, inside: str) -> str:
    return (
        f'<section id="{escape(anchor)}"><h2>{escape(title)}</h2>'
        f"<p class=question>{escape(question)}</p>\n{inside}</section>"
    )


def _table_section(con: duckdb.DuckDBPyConnection, anchor: str, title: str, question: str, sql: str) -> str:
    try:
        table = con.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        if not lacks_index(con, problem := readable(error)):
            raise
        return _section(anchor, title, question, _problem(problem))
    shown = _numbers(table, anchor, title, unfolded=table.num_rows <= _UNFOLDED) or _empty(con, sql)
    return _section(anchor, title, question, shown)


def _problem(error: MemindexError) -> str:
    return f"<p class=empty>{escape(str(error))}</p>"


def _query_section(
    con: duckdb.DuckDBPyConnection, query: Query, table: pa.Table | MemindexError, families: Families
) -> str:
    if isinstance(table, MemindexError):
        return _section(query.name, query.title, query.question, _problem(table))
    figure = _figure(query, table, families)
    unfolded = not figure and (query.figure.kind == "none" or table.num_rows <= _UNFOLDED)
    rows = _numbers(table, query.name, query.title, unfolded) or _empty(con, query.sql)
    if not figure and table.num_rows and query.figure.kind != "none":
        figure = f"<p class=empty>There is no figure: {escape(why_nothing(query, table))}.</p>"
    fitted = fits(table) if query.figure.fit else []
    figure += "".join(f"<p class=fit>{escape(sentence)}</p>" for sentence in fitted)
    note = f"<p class=note>{escape(query.note)}</p>" if query.note else ""
    if few := few_documents_note(table):
        note += f"<p class=note>{escape(few[0].upper() + few[1:])}.</p>"
    sql = (
        f"<details><summary>The SQL</summary><pre tabindex=0><code>{escape(query.literal_sql())}</code></pre></details>"
    )
    return _section(query.name, query.title, query.question, f"{figure}{note}{rows}{sql}")


def _figure(query: Query, table: pa.Table, families: Families) -> str:
    wide = inline_svg(query, table, WIDE, families)
    if not wide:
        return ""
    narrow = inline_svg(query, table, NARROW, families)
    return f"<figure><div class=wide>{wide}</div><div class=narrow>{narrow}</div></figure>\n"


def _empty(con: duckdb.DuckDBPyConnection, sql: str) -> str:
    why = why_empty(con, sql) or "nothing in the tables answers this"
    return f"<p class=empty>No rows yet: {escape(why)}.</p>"


def _numbers(table: pa.Table, name: str, title: str, unfolded: bool) -> str:
    """The numbers of a section, folded away or not, with the link that saves them; '' without rows."""
    if not table.num_rows:
        return ""
    shown = html_table(table, f"{title}: the numbers") + csv_link(table, name)
    if unfolded:
        return shown
    rows = "1 row" if table.num_rows == 1 else f"{numbers.whole(table.num_rows)} rows"
    return f"<details><summary>The numbers ({rows})</summary>{shown}</details>"
