"""Looking through a study: what it holds, its sequences by page, and one sequence token by token."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any

import duckdb

from memindex.server.alignment import aligned, texts_of
from memindex.server.refusals import RefusalError
from memindex.server.sql import StudySql
from memindex.tables.plain_values import rows
from memindex.tables.queries import list_queries

Row = dict[str, Any]

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

#: Order -> what rows are ordered by before their number, the largest first.
_KEYS = {"id": "0::DOUBLE", "frequency": "coalesce(sequence_count, -1)::DOUBLE", "score": "coalesce(score, -1)::DOUBLE"}
_OUTCOMES = {"memorized": "memorized", "half": "score > 0 AND NOT memorized", "unmemorized": "score = 0"}

_WITH_RUN = (
    "SELECT sequence_id, sample, domain, sequence_count, score, matched, memorized, prefix, suffix, continuation "
    "FROM memorization_runs WHERE run_id = $run"
)
_WITHOUT_RUN = (
    "SELECT sequence_id, sample, domain, sequence_count, NULL::FLOAT AS score, NULL::INTEGER AS matched, "
    "NULL::BOOLEAN AS memorized, prefix, suffix, NULL::INTEGER[] AS continuation "
    'FROM sequences LEFT JOIN (FROM frequencies WHERE "index" = study_index()) USING (sequence_id)'
)
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
        answer: Row = {name: list(_rows(cursor, sql)) for name, sql in _OVERVIEW.items()}
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
    values: Row = {}
    wanted = []
    for column, value in (("sample", sample), ("domain", domain)):
        if value is not None:
            wanted.append(f"{column} = ${column}")
            values[column] = value
    if bucket is not None:
        wanted.append("sequence_count = 0" if bucket < 0 else "sequence_count BETWEEN $least AND $most")
        values |= {} if bucket < 0 else {"least": 1 << bucket, "most": (2 << bucket) - 1}
    if outcome is not None:
        if run is None:
            raise RefusalError(422, "outcome: say of which run, with run or model")
        wanted.append(_OUTCOMES[outcome])
    if cursor is not None:
        wanted.append("(key < $key OR (key = $key AND sequence_id > $after))")
        values |= _read_cursor(cursor)
    with asked.cursor() as con:
        if run is not None:
            values["run"] = _run(con, run)
        page = list(_rows(con, _page(run is not None, wanted, order), values | {"limit": limit + 1}))
        after = _cursor(page[limit - 1]) if len(page) > limit else None
        found = page[:limit]
        _add_texts(con, asked.config.index.name, found)
    return {"run": values.get("run"), "sequences": found, "next": after}


def sequence(asked: StudySql, *, number: int, run: str | None) -> Row:
    """One sequence with its counts, its document, and what a run made of it."""
    with asked.cursor() as con:
        found = next(_rows(con, _ONE, {"id": number}), None)
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
            "runs": list(_rows(con, _RUNS, {"id": number})),
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
    outcome = next(_rows(con, _OUTCOME, values), None)
    if outcome is None:
        raise RefusalError(404, f"the run {values['run']} was not asked for sequence {number}")
    kept = next(_rows(con, _KEPT, values), {})
    return {**outcome, **kept, "span": next(_rows(con, _SPAN, values), None)}


def _document(con: duckdb.DuckDBPyConnection, found: Row) -> Row | None:
    """Where the sequence was drawn from; None where that is not known."""
    place = {name: found[name] for name in ("index", "shard", "document")}
    if None in place.values():
        return None
    offset = {"offset": found["document_offset"]}
    named = next(_rows(con, _DOCUMENT, place), None)
    return (named or {**place, "domain": found["domain"], "path": None, "line": None, "tokens": None}) | offset


def _domains(con: duckdb.DuckDBPyConnection, number: int) -> dict[str, int]:
    sql = 'SELECT domain, count FROM domain_counts WHERE sequence_id = $id AND "index" = study_index() ORDER BY ALL'
    found = _rows(con, sql.replace("ORDER BY ALL", "ORDER BY count DESC, domain"), {"id": number})
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


def _page(with_run: bool, wanted: list[str], order: str) -> str:
    where = f" WHERE {' AND '.join(wanted)}" if wanted else ""
    return (
        f"SELECT * FROM (SELECT *, {_KEYS[order]} AS key FROM ({_WITH_RUN if with_run else _WITHOUT_RUN}))"
        f"{where} ORDER BY key DESC, sequence_id LIMIT $limit"
    )


def _add_texts(con: duckdb.DuckDBPyConnection, index: str, found: list[Row]) -> None:
    """Texts in place of tokens; None where the index can't tell them."""
    for name in ("prefix", "suffix", "continuation"):
        lists = [row.pop(name) for row in found]
        for row, text in zip(found, texts_of(con, index, lists), strict=True):
            row[name] = text
    for row in found:
        row.pop("key")


def _cursor(row: Row) -> str:
    return base64.urlsafe_b64encode(json.dumps([row["key"], row["sequence_id"]]).encode()).decode()


def _read_cursor(cursor: str) -> Row:
    try:
        key, after = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return {"key": float(key), "after": int(after)}
    except (ValueError, TypeError, OverflowError, binascii.Error):
        raise RefusalError(422, "cursor: take it from the answer before, as it is") from None


def _rows(con: duckdb.DuckDBPyConnection, sql: str, values: Row | None = None) -> Iterator[Row]:
    """Rows with the values that JSON has."""
    for batch in con.sql(sql, params=values or None).to_arrow_table().to_batches():
        names = batch.schema.names
        yield from (dict(zip(names, row, strict=True)) for row in rows(batch))
