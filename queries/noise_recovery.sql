-- title: What layers do to noise
-- question: Do the layers of a model win back the similarity that noise costs, or lose more of it?
-- note: change is the cosine of noised and clean residual stream after the last layer minus that before the first
--   one (last - first). Above 0 the layers removed noise, below 0 they amplified it. difference is the change minus that
--   of unmemorized sequences. recovery is the climb inside the model: the highest cosine after the lowest one, minus the
--   lowest; it is never negative, whatever the last layers do. deficit is 1 - change / change of unmemorized sequences,
--   recovery_deficit the same of recovery; NULL where unmemorized sequences win nothing back. Means of sequences, each
--   averaged over draws. Groups and sample as in noise_similarity. 95 % intervals by document.
-- parameter groups: drawn | matched
-- optional: yes
-- figure: line
-- x: alpha | Strength of the noise (share of the stream's root mean square)
-- y: change | Change of the cosine
-- interval: change_low, change_high
-- series: outcome
-- dashes: outcome
-- panel: run_label

WITH curves AS (
    SELECT run_id, probed, sequence_id, outcome, alpha, similarity, list_min(similarity) AS lowest
    FROM noise
    JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'noise') USING (run_id)
    WHERE CASE WHEN $groups = 'matched' THEN pair IS NOT NULL ELSE drawn END
),
of_sequence AS (
    SELECT run_id, probed, sequence_id, outcome, alpha,
           avg(list_max(similarity[list_position(similarity, lowest):]) - lowest) AS recovery,
           avg(lowest) AS lowest,
           avg(similarity[1]) AS first,
           avg(similarity[-1]) AS last,
           avg(similarity[-1] - similarity[1]) AS change
    FROM curves
    GROUP BY ALL
),
in_documents AS (
    SELECT s.*, run_label, non_embedding_parameters, cluster
    FROM of_sequence AS s
    JOIN memorization USING (run_id, sequence_id)
),
of_outcome AS (
    SELECT run_label, non_embedding_parameters, probed, outcome, alpha,
           count(*) AS sequences,
           avg(recovery) AS recovery,
           mean_interval(recovery, cluster) AS recovery_ends,
           avg(lowest) AS lowest,
           avg(first) AS first,
           avg(last) AS last,
           avg(change) AS change,
           mean_interval(change, cluster) AS change_ends
    FROM in_documents
    GROUP BY ALL
),
unmemorized AS (
    SELECT run_label, alpha, change AS change_of_others, recovery AS recovery_of_others
    FROM of_outcome
    WHERE outcome = 'unmemorized'
),
differences AS (
    -- A slope over 0 (unmemorized) and 1: documents with sequences of both outcomes count once.
    SELECT run_label, alpha, compared AS outcome,
           slope_interval(if(outcome = 'unmemorized', 0, 1), outcome, change, cluster) AS difference_ends
    FROM in_documents
    JOIN (SELECT unnest(['memorized', 'half-memorized']) AS compared) ON outcome IN (compared, 'unmemorized')
    GROUP BY run_label, alpha, compared
)
SELECT run_label, outcome, alpha, sequences, recovery,
       recovery_ends.low AS recovery_low,
       recovery_ends.high AS recovery_high,
       lowest, last, first, change,
       change_ends.low AS change_low,
       change_ends.high AS change_high,
       few_documents(change_ends) AS few_documents,
       CASE WHEN outcome <> 'unmemorized' THEN change - change_of_others END AS difference,
       difference_ends.low AS difference_low,
       difference_ends.high AS difference_high,
       CASE WHEN outcome <> 'unmemorized' AND alpha > 0 AND change_of_others > 0
            THEN 1 - change / change_of_others END AS deficit,
       CASE WHEN outcome <> 'unmemorized' AND alpha > 0 AND recovery_of_others > 0
            THEN 1 - recovery / recovery_of_others END AS recovery_deficit,
       probed AS sample
FROM of_outcome
LEFT JOIN unmemorized USING (run_label, alpha)
LEFT JOIN differences USING (run_label, outcome, alpha)
ORDER BY non_embedding_parameters, run_label, outcome = 'memorized' DESC, outcome, alpha
