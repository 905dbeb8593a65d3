"""`memindex count --cnf`: texts with AND and OR, counted where they stand near each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memindex.cli.forms import print_objects
from memindex.index.index import Index


def count_cnf(index: Index, texts: Sequence[str], max_distance: int, form: str) -> None:
    """Answer all queries, then print: a bad one leaves no half of an answer."""
    answers = [_answer(index, text, max_distance) for text in texts]
    if form != "table":
        print_objects(form, answers)
        return
    from memindex.cli.output import print_table

    rows = [[a["query"], _ids(a["clauses"]), a["count"], a["low"], a["high"], a["engine"]] for a in answers]
    if all(answer["exact"] for answer in answers):
        print_table(["query", "ids", "count"], [row[:3] for row in rows])
    else:
        print_table(["query", "ids", "count", "at least", "at most", "engine"], rows)


def _answer(index: Index, text: str, max_distance: int) -> dict[str, Any]:
    from memindex.index.cooccurrence import parse_cnf

    batches = [index.tokenize(clause) for clause in parse_cnf(text)]
    clauses = [[batch.row(i).tolist() for i in range(batch.rows)] for batch in batches]
    found = index.count_cnf(clauses, max_distance=max_distance)
    return {
        "query": text,
        "clauses": clauses,
        "count": found.low if found.exact else None,
        "exact": found.exact,
        "low": found.low,
        "high": found.high,
        "engine": found.engine,
    }


def _ids(clauses: list[list[list[int]]]) -> str:
    return " AND ".join(" OR ".join(" ".join(map(str, term)) for term in clause) for clause in clauses)
