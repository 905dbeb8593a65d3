"""Answers say where too few documents are behind an interval: a column, and a note on every surface."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_study import MODELS, make_study

from memindex.report import write_report
from memindex.sql.connection import connect
from memindex.sql.queries import few_documents_note, list_queries, load_query, run_query
from memindex.tables.store import TableStore


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All uniform sequences of the domain Law are of one document, those of C++ of three."""
    study = make_study(tmp_path_factory.mktemp("few"), rows=600, models=MODELS[:2])
    store = TableStore(study / "tables")
    rows = store.read("sequences").to_pydict()
    few = {"Law": lambda row: 3, "C++": lambda row: 1 + 5 * (row % 3)}
    for name in ("document", "first_document"):
        rows[name] = [
            few.get(d, lambda row, n=n: n)(i) for i, (d, n) in enumerate(zip(rows["domain"], rows[name], strict=True))
        ]
    store.write("sequences", "all", rows)
    return study


def test_every_query_with_an_interval_has_the_column() -> None:
    for name in list_queries():
        query = load_query(name)
        if "_interval(" in query.sql:
            assert re.search(r"few_documents\(.+\)+ AS few_documents\b", query.sql), name
            assert query.sql.count("AS few_documents") == 1


def test_the_column_counts_kish_s_documents(study: Path) -> None:
    con = connect(study)
    answer = run_query(con, "domain_shares").to_pandas()
    rows = con.execute("SELECT run_label, domain, cluster, memorized FROM memorization WHERE sample = 'uniform'").df()
    con.close()
    for row in answer.itertuples():
        of_run = rows[rows["run_label"] == row.run_label]
        # The share of the memorized sequences rests on the documents that hold one.
        size = of_run[of_run["memorized"]].groupby("cluster").size()
        assert row.few_documents == (size.sum() ** 2 / (size**2).sum() < 8)
    domains = connect(study).execute("""
        SELECT domain, few_documents(rate_interval(memorized, cluster)) AS few,
               rate_interval(memorized, cluster).low AS low
        FROM memorization WHERE sample = 'uniform' AND run_label = 'small' GROUP BY domain
    """)
    found = {domain: (few, low) for domain, few, low in domains.fetchall()}
    assert found["Law"] == (True, None)
    assert found["C++"][0] is True
    assert found["C++"][1] is not None
    assert found["Python"][0] is False


def test_the_note_is_on_stderr_and_in_the_report(study: Path, undrawn: None) -> None:
    con = connect(study)
    answers = {name: run_query(con, name) for name in list_queries()}
    con.close()
    notes = {name: few_documents_note(answer) for name, answer in answers.items()}
    noted = next(name for name, note in notes.items() if note)
    clean = next(name for name, note in notes.items() if not note and answers[name].num_rows)
    few = sum(answers[noted]["few_documents"].to_pylist())
    assert notes[noted].startswith(f"{few} of {answers[noted].num_rows} rows rest on fewer than 8 effective documents")
    for name in (noted, clean):
        done = subprocess.run(
            [sys.executable, "-m", "memindex.cli", "sql", "-s", str(study), name, "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "effective documents" not in done.stdout
        assert (f"memindex: {notes[name]}" in done.stderr) == (name == noted)
        assert ("effective documents" in done.stderr) == (name == noted)
    page = write_report(study).read_text(encoding="utf-8")
    for name in (noted, clean):
        section = page[page.index(f'<section id="{name}">') :].partition("</section>")[0]
        assert ("effective documents (few_documents)" in section) == (name == noted)
