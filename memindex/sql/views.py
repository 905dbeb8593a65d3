"""The joined views of a connection, as SQL: `memorization`, `memorization_runs` and `corpora`."""

from __future__ import annotations

import re
from pathlib import Path

from memindex.tables.schema import MEMORIZATION, MEMORIZATION_RUNS

# All rows of all runs; main_protocol: greedy, with the whole sequence, and no baseline. What an import does not know of
# its sequences or its run (NULL) counts as the whole.
# {index} is the index the models were trained on: counts in another one may stand in the table too.
# Runs with their models, and sequences with their counts, are joined first: then each continuation looks up two rows.
# The union with no rows (no sequence_id is NULL) keeps DuckDB from looking up counts for each continuation instead,
# which takes twice as long (benchmarks/view.py). Filters and unused columns pass it; a MATERIALIZED part stops them.
# {prefix_tokens} and {suffix_tokens} are numbers where all sequences are of one length: whether a run is of the main
# protocol is then asked once for each run, else for every row.
_JOINED = """
-- NaN is above every number in DuckDB: a comparison would call it the best of all. So it counts as not known.
WITH known_continuations AS (
    SELECT * REPLACE (nullif(bleu, 'nan') AS bleu,
                      nullif(suffix_logprob, 'nan') AS suffix_logprob,
                      nullif(suffix_logprob_top40, 'nan') AS suffix_logprob_top40,
                      nullif(prefix_logprob, 'nan') AS prefix_logprob)
    FROM continuations
)
SELECT run_id, run_label, model_id, family, corpus, architecture, parameters, non_embedding_parameters, revision,
       trained_tokens, prefix_length, suffix_length, decoding, seed, top_k, temperature, control, made_by, dtype,
       sequence_id, sample, bucket, inclusion, domain, document, document_offset, document_tokens, s."index", shard,
       position,
       CASE WHEN planted_text IS NOT NULL THEN hash(s."index", 'planted', planted_text) >> 1
            WHEN document IS NULL THEN hash(sequence_id) >> 1
            WHEN first_document IS NOT NULL THEN hash(s."index", 0, first_document) >> 1
            ELSE hash(s."index", shard, document) >> 1 END::BIGINT AS cluster,
       sequence_count, prefix_count, suffix_count,
       sequence_count - CASE WHEN s."index" = {index} THEN 1 ELSE 0 END AS duplicates,
       CASE WHEN sequence_count > 0 THEN floor(log2(sequence_count))::INTEGER END AS frequency_bucket,
       sample = 'heldout' AND coalesce(suffix_count = 0, false) AS unseen,
       score, matched, memorized, edit_distance, bleu,
       memorized OR bleu > 0.75 OR edit_distance * 10 <= coalesce(suffix_length, {suffix_tokens}) AS approximate,
       suffix_logprob, -- Rounding can make the log-probability of a certain suffix slightly positive.
       CASE WHEN suffix_logprob > 0 THEN 1 ELSE exp(suffix_logprob::DOUBLE) END AS p_z,
       CASE WHEN suffix_logprob_top40 > 0 THEN 1 ELSE exp(suffix_logprob_top40::DOUBLE) END AS p_z_top40,
       discoverable_n(CASE WHEN suffix_logprob_top40 > 0 THEN 1 ELSE exp(suffix_logprob_top40::DOUBLE) END, 0.5)
           AS discoverable_n,
       nullif(exp(-prefix_logprob::DOUBLE / nullif(coalesce(prefix_length, {prefix_tokens}) - 1, 0)), 'inf')
           AS prefix_perplexity,
       nullif(exp(-suffix_logprob::DOUBLE / coalesce(suffix_length, {suffix_tokens})), 'inf') AS suffix_perplexity,
       CASE WHEN retokenized IS NOT true THEN prefix[-coalesce(prefix_length, {prefix_tokens}):] END AS prefix,
       CASE WHEN retokenized IS NOT true THEN suffix[:coalesce(suffix_length, {suffix_tokens})] END AS suffix,
       continuation,
       control IS NULL AND decoding = 'greedy'
           AND coalesce(prefix_length = {prefix_tokens}, true)
           AND coalesce(suffix_length = {suffix_tokens}, true) AS main_protocol
FROM known_continuations
JOIN (
    SELECT s.*, sequence_count, prefix_count, suffix_count
    FROM sequences AS s
    LEFT JOIN (FROM frequencies WHERE "index" = {index}) AS f USING (sequence_id)
    UNION ALL
    SELECT *, NULL, NULL, NULL FROM sequences WHERE sequence_id IS NULL
) AS s USING (sequence_id)
JOIN (
    SELECT *
    FROM runs
    JOIN models USING (model_id)
    JOIN ({labels}) AS labels USING (run_id)
) AS r USING (run_id)
"""

_LABEL = """
    SELECT run_id, CASE WHEN count(*) OVER (PARTITION BY model_id) = 1 THEN model_id
                        ELSE model_id || ' (' || run_id || ')' END AS run_label
    FROM runs
"""

# A model's label needs its run only where several runs of the main protocol are beside each other.
_MEMORIZATION = """
CREATE VIEW memorization AS
SELECT {columns}
FROM ({joined})
WHERE main_protocol
"""

_MAIN_LABELS = f"""{_LABEL}
    SEMI JOIN ({{whole}}) AS whole (prefix_tokens, suffix_tokens)
        ON coalesce(prefix_length = prefix_tokens, true) AND coalesce(suffix_length = suffix_tokens, true)
    WHERE control IS NULL AND decoding = 'greedy'
"""

_MEMORIZATION_RUNS = """
CREATE VIEW memorization_runs AS
SELECT {columns}
FROM ({joined})
"""

_CORPORA = """
CREATE VIEW corpora AS
SELECT "index", domain, count(*) AS documents, sum(tokens)::BIGINT AS tokens
FROM documents GROUP BY ALL
"""


def joined_views(index_name: str, lengths: tuple[int, int] | None) -> tuple[str, ...]:
    """The statements that create the views over the tables of a study.

    In SQL `study_index()` is the name of the index.

    Args:
        index_name: The index that the models were trained on.
        lengths: Tokens of every prefix and every suffix; None where sequences differ, or have no tokens.
    """
    prefix_tokens, suffix_tokens = lengths or ("prefix_tokens", "suffix_tokens")
    whole = (
        f"VALUES ({prefix_tokens}, {suffix_tokens})"
        if lengths
        else "SELECT DISTINCT prefix_tokens, suffix_tokens FROM sequences"
    )
    all_runs, main_runs = (
        _JOINED.format(
            index=text_literal(index_name), labels=labels, prefix_tokens=prefix_tokens, suffix_tokens=suffix_tokens
        )
        for labels in (_LABEL, _MAIN_LABELS.format(whole=whole))
    )
    main, runs = (", ".join(f'"{c.name}"' for c in table.columns) for table in (MEMORIZATION, MEMORIZATION_RUNS))
    return (
        _MEMORIZATION.format(columns=main, joined=main_runs),
        _MEMORIZATION_RUNS.format(columns=runs, joined=all_runs),
        _CORPORA,
        f"CREATE MACRO study_index() AS {text_literal(index_name)}",
    )


def text_literal(value: str) -> str:
    """A SQL text literal."""
    return "'" + value.replace("'", "''") + "'"


def literal_path(path: Path) -> str:
    """The path as read_parquet takes it, with glob characters made plain."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))
