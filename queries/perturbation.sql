-- title: One wrong token in the context
-- question: Which tokens of its context does a model need to go on as it did, and is memorized text the more fragile?
-- note: One prefix token at a time is replaced by another (drawn from the study's prefixes); the curve is the share of
--   the generated tokens that are lost from the first other one on, by the place of the replaced token before the
--   continuation (1: the last token of the prefix). Averaged over draws. Groups and sample as in noise_similarity. 95 %
--   intervals by document.
-- parameter groups: drawn | matched
-- optional: yes
-- figure: line
-- x: before | Tokens before the continuation
-- y: lost | Generated tokens lost | percent
-- interval: lost_low, lost_high
-- series: outcome
-- dashes: outcome
-- panel: run_label

WITH places AS (
    SELECT run_id, probed, sequence_id, outcome, continuation_length, kept, unnest(range(1, len(kept) + 1)) AS before
    FROM perturbation
    JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'perturbation') USING (run_id)
    WHERE CASE WHEN $groups = 'matched' THEN pair IS NOT NULL ELSE drawn END
),
of_sequence AS (
    SELECT run_id, probed, sequence_id, outcome, before,
           avg(1 - kept[-before] / continuation_length) AS lost
    FROM places
    GROUP BY ALL
)
SELECT run_label, outcome, before,
       count(*) AS sequences,
       avg(lost) AS lost,
       rate_interval(lost, cluster).low AS lost_low,
       rate_interval(lost, cluster).high AS lost_high,
       few_documents(rate_interval(lost, cluster)) AS few_documents,
       probed AS sample
FROM of_sequence
JOIN memorization USING (run_id, sequence_id)
GROUP BY run_label, non_embedding_parameters, probed, outcome, before
ORDER BY non_embedding_parameters, run_label, outcome = 'memorized' DESC, outcome, before
