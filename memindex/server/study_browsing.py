"""Looking through a study: what it holds, its sequences by page, and one sequence token by token."""

from __future__ import annotations

import duckdb

from memindex.server.alignment import aligned, texts_of
from memindex.server.refusals import RefusalError
from memindex.server.sequence_pages import Filters, Row, page_of, rows_of
from memindex.server.sql import StudySql
from memindex.sql.queries import list_queries

_OVERVIEW = {
    "models": "SELECT model_id, family, architecture, parameters, non_embedding_parameters, revision, trained_tokens "
    "FROM models ORDER BY non_embedding_parameters, trained_tokens, model_id",
    "runs": "SELECT run_id, model_id, prefix_length, suffix_length, decoding, control, made_by, dtype, sequences "
    "FROM runs ORDER BY model_id, run_id",
    "samples": "SELECT sample, count(*) AS sequences FROM sequences GROUP BY ALL ORDER BY ALL",
    "domains": "SELECT domain, count(*) AS sequences FROM sequences WHERE domain IS NOT NULL GROUP BY ALL ORDER BY ALL",
    "buckets": "SELECT CASE WHEN sequence_count > 0 THEN floor(log2(sequence_count))::INTEGER ELSE -1 END AS bucket, "
    'count(*) AS sequences FROM frequencies WHERE "index" = study_index() GROUP BY ALL ORDER BY ALL',
    "rates": "SELECT run_id, run_label, sample, count(*) AS sequences, avg(memorized::DOUBLE) AS rate "
    "FROM memorization GROUP BY ALL ORDER BY ALL",
}

_ONE = """
SELECT * EXCLUDE (prefix, suffix), prefix, suffix
FROM sequences LEFT JOIN (
    SELECT sequence_id, sequence_count, prefix_count, suffix_count FROM frequencies WHERE "index" = study_index()
) USING (sequence_id)
WHERE sequence_id = $id
"""
_OUTCOME = """
SELECT run_id, model_id, score, matched, memorized, edit_distance, bleu, suffix_logprob, prefix_perplexity,
       suffix_perplexity, prefix, suffix, continuation
FROM memorization_runs WHERE run_id = $run AND sequence_id = $id
"""


def overview(asked: StudySql) -> Row:
    """Models, runs, samples, domains, frequency buckets, rates and questions of the study."""
    with asked.cursor() as cursor:
        answer: Row = {name: list(rows_of(cursor, sql)) for name, sql in _OVERVIEW.items()}
    indexes = list(asked.config.indexes())
    title = asked.config.name
    return {"title": title, "index": asked.config.index.name, "indexes": indexes, **answer, "questions": list_queries()}


def sequences(
    asked: StudySql,
    *,
    run: str | None,
    sample: str | None,
    domain: str | None,
    bucket: int | None,
    outcome: str | None,
    order: str,
    limit: int,
    cursor: str | None,
) -> Row:
    """A page of sequences, and the cursor of the next one."""
    with asked.cursor() as con:
        run = None if run is None else _run(con, run)
        filters = Filters(run, sample, domain, bucket, outcome)
        found, after = page_of(con, filters, order, limit, cursor)
        _add_texts(con, asked.config.index.name, found)
    return {"run": run, "sequences": found, "next": after}


def sequence(asked: StudySql, *, number: int, run: str | None) -> Row:
    """One sequence with its counts, its document, and what a run made of it."""
    with asked.cursor() as con:
        found = next(rows_of(con, _ONE, {"id": number}), None)
        if found is None:
            raise RefusalError(404, f"there is no sequence {number} in this study")
        prefix, suffix = found.pop("prefix"), found.pop("suffix")
        outcome = _outcome(con, number, run) if run is not None else None
        continuation = None
        if outcome is not None:
            prefix, suffix, continuation = (outcome.pop(name) for name in ("prefix", "suffix", "continuation"))
        index = found["index"] or asked.config.index.name
        return {
            **found,
            "document": _document(con, found),
            "domains": _domains(con, number),
            "outcome": outcome,
            **aligned(con, index, prefix, suffix, continuation),
            "runs": list(rows_of(con, _RUNS, {"id": number})),
        }


_RUNS = """
SELECT run_id, model_id, score, memorized
FROM continuations JOIN runs USING (run_id) WHERE sequence_id = $id ORDER BY run_id
"""
_KEPT = "SELECT token_logprobs, token_ranks FROM continuations WHERE run_id = $run AND sequence_id = $id"
_SPAN = 'SELECT "index", start, length, count, domain FROM spans WHERE run_id = $run AND sequence_id = $id'
_DOCUMENT = """
SELECT "index", shard, document, domain, path, line, tokens
FROM documents WHERE "index" = $index AND shard = $shard AND document = $document
"""


def _outcome(con: duckdb.DuckDBPyConnection, number: int, run: str) -> Row:
    """What a run made of a sequence."""
    values = {"run": _run(con, run), "id": number}
    outcome = next(rows_of(con, _OUTCOME, values), None)
    if outcome is None:
        raise RefusalError(404, f"the run {values['run']} was not asked for sequence {number}")
    kept = next(rows_of(con, _KEPT, values), {})
    return {**outcome, **kept, "span": next(rows_of(con, _SPAN, values), None)}


def _document(con: duckdb.DuckDBPyConnection, found: Row) -> Row | None:
    """Where the sequence was drawn from; None where that is not known."""
    place = {name: found[name] for name in ("index", "shard", "document")}
    if None in place.values():
        return None
    offset = {"offset": found["document_offset"]}
    try:
        named = next(rows_of(con, _DOCUMENT, place), None)
    except duckdb.InvalidInputException:
        # The index is not there, or is another one: the study's own tables still say where the sequence was.
        named = None
    return (named or {**place, "domain": found["domain"], "path": None, "line": None, "tokens": None}) | offset


def _domains(con: duckdb.DuckDBPyConnection, number: int) -> dict[str, int]:
    sql = 'SELECT domain, count FROM domain_counts WHERE sequence_id = $id AND "index" = study_index() ORDER BY ALL'
    found = rows_of(con, sql.replace("ORDER BY ALL", "ORDER BY count DESC, domain"), {"id": number})
    return {row["domain"]: row["count"] for row in found}


def _run(con: duckdb.DuckDBPyConnection, name: str) -> str:
    """The run of this name, or the only one of the model of this name."""
    found = con.execute("SELECT run_id FROM runs WHERE run_id = $1 ORDER BY 1", [name]).fetchall()
    found = found or con.execute("SELECT run_id FROM runs WHERE model_id = $1 ORDER BY 1", [name]).fetchall()
    if not found:
        raise RefusalError(404, f"there is no run or model {name} in this study")
    if len(found) > 1:
        raise RefusalError(422, f"the model {name} has several runs; say which: {', '.join(run for (run,) in found)}")
    return str(found[0][0])


def _add_texts(con: duckdb.DuckDBPyConnection, index: str, found: list[Row]) -> None:
    """Texts in place of tokens; None where the index can't tell them."""
    for name in ("prefix", "suffix", "continuation"):
        lists = [row.pop(name) for row in found]
        for row, text in zip(found, texts_of(con, index, lists), strict=True):
            row[name] = text
