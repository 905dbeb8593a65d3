-- title: Attention heads that memorization needs
-- question: Which attention heads does a model need for what it memorized?
-- note: Importance is the mean drop of the memorization score (share of suffix tokens that are still the likeliest,
--   teacher-forced) when the head's output is replaced, over memorized sequences; important are the heads above the
--   quantile 1 - top of their model. Layers count from 1, heads from 0. rescaled is the mean factor that a norm after
--   the output projection (OLMo 2 and 3) puts on the other heads: away from 1, importance is not the head's own alone.
--   Sequences of a run are from one sample (column sample), at most a given number of each domain: domains with more
--   memorized sequences in that sample weigh more. Compare models only where the sample is the same. NULL: several
--   samples, unweighted, by an older memindex. 95 % intervals by document.
-- parameter top: 0.2 | 0 to 1
-- optional: yes
-- figure: heat
-- x: head | Head
-- y: importance | Drop of the memorization score | percent
-- series: layer
-- panel: run_label

WITH of_head AS (
    SELECT run_id, probed, sequence_id, layer, layers, continuation_length,
           unnest("right") AS still,
           unnest(rescaled) AS rescaled,
           unnest(range(0, len("right"))) AS head
    FROM head_importance
    JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'head_importance') USING (run_id)
),
importances AS (
    SELECT run_label, non_embedding_parameters, probed, layer, layers, head,
           count(*) AS sequences,
           avg(1 - still / continuation_length) AS importance,
           rate_interval(1 - still / continuation_length, cluster) AS ends,
           avg(rescaled) AS rescaled
    FROM of_head
    JOIN memorization USING (run_id, sequence_id)
    GROUP BY ALL
),
ranked AS (
    SELECT *,
           row_number() OVER (of_run ORDER BY importance DESC, layer, head) AS rank,
           count(*) OVER of_run AS heads
    FROM importances
    WINDOW of_run AS (PARTITION BY run_label)
)
SELECT run_label, layer, head, layer / layers AS depth,
       sequences, importance,
       ends.low AS importance_low,
       ends.high AS importance_high,
       few_documents(ends) AS few_documents,
       rank,
       rank <= greatest(1, round($top * heads)) AS important,
       rescaled,
       probed AS sample
FROM ranked
ORDER BY non_embedding_parameters, run_label, layer, head
