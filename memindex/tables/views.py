"""The joined views of a connection, as SQL: `memorization`, `memorization_runs` and `corpora`."""

from __future__ import annotations

from memindex.tables.schema import MEMORIZATION, MEMORIZATION_RUNS

# All rows of all runs; main_protocol: greedy, with the whole sequence, and no baseline. What an import does not know of
# its sequences or its run (NULL) counts as the whole.
# {index} is the index the models were trained on: counts in another one may stand in the table too.
_JOINED = """
WITH whole_sequences AS (
    SELECT *, len(prefix) AS whole_prefix, len(suffix) AS whole_suffix FROM sequences
)
SELECT run_id, model_id, family, corpus, architecture, parameters, non_embedding_parameters, revision,
       trained_tokens, r.prefix_length, r.suffix_length, decoding, seed, top_k, temperature, control, made_by, dtype,
       sequence_id, sample, bucket, domain, document, document_offset, s."index", shard, position,
       CASE WHEN document IS NULL THEN hash(sequence_id) >> 1
            ELSE hash(s."index", shard, document) >> 1 END::BIGINT AS cluster,
       sequence_count, prefix_count, suffix_count,
       sequence_count - CASE WHEN s."index" = {index} THEN 1 ELSE 0 END AS duplicates,
       CASE WHEN sequence_count > 0 THEN floor(log2(sequence_count))::INTEGER END AS frequency_bucket,
       sample = 'heldout' AND coalesce(suffix_count = 0, false) AS unseen,
       score, matched, memorized, edit_distance, bleu,
       memorized OR bleu > 0.75 OR edit_distance * 10 <= coalesce(r.suffix_length, whole_suffix) AS approximate,
       suffix_logprob, exp(suffix_logprob::DOUBLE) AS p_z, exp(suffix_logprob_top40::DOUBLE) AS p_z_top40,
       discoverable_n(exp(suffix_logprob_top40::DOUBLE), 0.5) AS discoverable_n,
       exp(-prefix_logprob::DOUBLE / nullif(coalesce(r.prefix_length, whole_prefix) - 1, 0)) AS prefix_perplexity,
       exp(-suffix_logprob::DOUBLE / coalesce(r.suffix_length, whole_suffix)) AS suffix_perplexity,
       CASE WHEN retokenized IS NOT true THEN prefix[-coalesce(r.prefix_length, whole_prefix):] END AS prefix,
       CASE WHEN retokenized IS NOT true THEN suffix[:coalesce(r.suffix_length, whole_suffix)] END AS suffix,
       continuation,
       control IS NULL AND decoding = 'greedy'
           AND coalesce(r.prefix_length = whole_prefix, true)
           AND coalesce(r.suffix_length = whole_suffix, true) AS main_protocol
FROM continuations
JOIN runs AS r USING (run_id)
JOIN models USING (model_id)
JOIN whole_sequences AS s USING (sequence_id)
LEFT JOIN (FROM frequencies WHERE "index" = {index}) AS f USING (sequence_id)
"""

_LABEL = """
    SELECT run_id, CASE WHEN count(*) OVER (PARTITION BY model_id) = 1 THEN model_id
                        ELSE model_id || ' (' || run_id || ')' END AS run_label
    FROM runs
"""

# A model's label needs its run only where several runs of the main protocol are beside each other.
_MEMORIZATION = f"""
CREATE VIEW memorization AS
WITH lengths AS (SELECT DISTINCT len(prefix) AS prefix_length, len(suffix) AS suffix_length FROM sequences),
labels AS ({_LABEL} SEMI JOIN lengths AS whole ON coalesce(runs.prefix_length = whole.prefix_length, true)
        AND coalesce(runs.suffix_length = whole.suffix_length, true)
    WHERE control IS NULL AND decoding = 'greedy'
)
SELECT {{columns}}
FROM ({{joined}})
JOIN labels USING (run_id)
WHERE main_protocol
"""

_MEMORIZATION_RUNS = f"""
CREATE VIEW memorization_runs AS
WITH labels AS ({_LABEL})
SELECT {{columns}}
FROM ({{joined}})
JOIN labels USING (run_id)
"""

_CORPORA = """
CREATE VIEW corpora AS
SELECT "index", domain, count(*) AS documents, sum(tokens)::BIGINT AS tokens
FROM documents GROUP BY ALL
"""


def joined_views(index_name: str) -> tuple[str, ...]:
    """The statements that create the views over the tables of a study whose models were trained on `index_name`."""
    joined = _JOINED.format(index=text_literal(index_name))
    main, runs = (", ".join(f'"{c.name}"' for c in table.columns) for table in (MEMORIZATION, MEMORIZATION_RUNS))
    return (
        _MEMORIZATION.format(columns=main, joined=joined),
        _MEMORIZATION_RUNS.format(columns=runs, joined=joined),
        _CORPORA,
    )


def text_literal(value: str) -> str:
    """A SQL text literal."""
    return "'" + value.replace("'", "''") + "'"
