-- title: Wrong continuations that stand in the corpus
-- question: Where a model does not continue as the document did, does it copy another one?
-- note: Of the continuations that are not the suffix, those whose longest part that stands word for word in the corpus is at
--   least this share of them; at 1 the whole continuation is text of the corpus. That part may be what a half-memorized
--   continuation got right. Any text has short parts in common with a corpus: compare with held-out sequences (the
--   parameter sample) and with other models. 95 % intervals by document.
-- parameter sample: uniform
-- optional: yes
-- figure: line
-- x: copied_from | Share of the continuation, at least
-- y: share | Wrong continuations | percent
-- interval: share_low, share_high
-- series: run_label
-- panel: outcome

WITH wrong AS (
    SELECT run_label, non_embedding_parameters, cluster, score > 0 AS is_half, (8 * length) // len(continuation) AS eighths
    FROM memorization AS m
    JOIN spans AS s USING (run_id, sequence_id)
    WHERE sample = $sample AND NOT memorized AND s."index" = study_index()
),
documents_of_run AS (
    SELECT run_label, non_embedding_parameters, is_half, cluster, count(*) AS continuations, list(eighths) AS copied
    FROM wrong
    GROUP BY ALL
),
counts AS (
    SELECT run_label, non_embedding_parameters, is_half, least_eighths, continuations,
           len(list_filter(copied, lambda eighths: eighths >= least_eighths)) AS at_least
    FROM documents_of_run
    CROSS JOIN (SELECT unnest(range(1, 9)) AS least_eighths)
)
SELECT run_label, if(is_half, 'half-memorized', 'unmemorized') AS outcome,
       least_eighths / 8 AS copied_from,
       sum(continuations)::BIGINT AS continuations,
       sum(at_least)::BIGINT AS copied,
       sum(at_least) / sum(continuations) AS share,
       ratio_interval(at_least, continuations).low AS share_low,
       ratio_interval(at_least, continuations).high AS share_high,
       few_documents(ratio_interval(at_least, continuations)) AS few_documents
FROM counts
GROUP BY run_label, non_embedding_parameters, is_half, least_eighths
ORDER BY is_half, non_embedding_parameters, run_label, least_eighths
