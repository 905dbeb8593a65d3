"""What a worker can be asked: the functions of `TASKS`, each on one study; arguments come from the router as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from memindex.near_names import hint
from memindex.server.refusals import RefusalError
from memindex.server.sql import StudySql
from memindex.server.sql_writing import Written, written
from memindex.server.study_browsing import overview, sequence, sequences
from memindex.sql.plain_values import encode
from memindex.sql.queries import Parameter, Query, list_queries, load_query, not_in_study, query_values


def sql(asked: StudySql, text: str, values: dict[str, Any], form: str, rows: int | None) -> Written:
    """The answer to a stranger's SQL."""
    return asked.ask(text, values, form, rows)


def question(asked: StudySql, name: str, values: Mapping[str, Parameter], form: str) -> Written:
    """The answer to a query of queries/."""
    query, given = _asked_for(name, values)
    with asked.cursor(query.sql) as cursor:
        _check_in_study(cursor, given)
        return written(cursor.sql(query.sql, params=given or None), form, asked.limits, asked.limits.rows)


def figure(asked: StudySql, name: str, values: Mapping[str, Parameter], width: int) -> Written:
    """The figure of a query's answer, as SVG."""
    from memindex.report.families import families_of
    from memindex.report.figures import standalone_svg, why_nothing

    query, given = _asked_for(name, values)
    with asked.cursor(query.sql) as cursor:
        _check_in_study(cursor, given)
        table = cursor.sql(query.sql, params=given or None).limit(asked.limits.rows).to_arrow_table()
        families = families_of(cursor)
    if why := why_nothing(query, table):
        raise RefusalError(404, f"{name} has nothing to draw: {why}")
    return Written(standalone_svg(query, table, width, families).encode(), truncated=False)


def _asked_for(name: str, values: Mapping[str, Parameter]) -> tuple[Query, dict[str, Parameter]]:
    if name not in list_queries():
        raise RefusalError(404, f"there is no question {name}; {hint(name, list_queries())}")
    query = load_query(name)
    return query, query_values(query, values)


def _check_in_study(cursor: Any, given: Mapping[str, Parameter]) -> None:
    if lacking := not_in_study(cursor, given):
        raise RefusalError(404, lacking.replace("-p ", ""))


def _as_json(answer: Callable[..., Any]) -> Callable[..., Written]:
    """The task whose answer is a dict."""
    return lambda asked, **arguments: Written(encode(answer(asked, **arguments)).encode("utf-8", "replace"), False)


TASKS: Mapping[str, Callable[..., Written]] = {
    "sql": sql,
    "question": question,
    "figure": figure,
    "overview": _as_json(overview),
    "sequences": _as_json(sequences),
    "sequence": _as_json(sequence),
}
