-- title: Recovery from noise
-- question: How much of the similarity that noise costs do later layers win back?
-- note: Of each sequence, the cosine of noised and clean residual stream falls to a lowest point and climbs again;
--   recovery is the highest value after the lowest minus the lowest, averaged over draws. Also the lowest itself, and
--   the value after the last layer. Groups as in noise_similarity. 95 % intervals by document.
-- parameter groups: drawn | matched
-- optional: yes
-- figure: line
-- x: alpha | Strength of the noise (share of the stream's root mean square)
-- y: recovery | Recovery of the cosine
-- interval: recovery_low, recovery_high
-- series: outcome
-- dashes: outcome
-- panel: run_label

WITH curves AS (
    SELECT run_id, sequence_id, outcome, alpha, similarity, list_min(similarity) AS lowest
    FROM noise
    WHERE CASE WHEN $groups = 'matched' THEN pair IS NOT NULL ELSE drawn END
      AND run_id IN (SELECT run_id FROM probes WHERE probe = 'noise')
),
of_sequence AS (
    SELECT run_id, sequence_id, outcome, alpha,
           avg(list_max(similarity[list_position(similarity, lowest):]) - lowest) AS recovery,
           avg(lowest) AS lowest,
           avg(similarity[-1]) AS last
    FROM curves
    GROUP BY ALL
)
SELECT run_label, outcome, alpha,
       count(*) AS sequences,
       avg(recovery) AS recovery,
       mean_interval(recovery, cluster).low AS recovery_low,
       mean_interval(recovery, cluster).high AS recovery_high,
       avg(lowest) AS lowest,
       avg(last) AS last
FROM of_sequence
JOIN memorization USING (run_id, sequence_id)
GROUP BY run_label, non_embedding_parameters, outcome, alpha
ORDER BY non_embedding_parameters, run_label, outcome = 'memorized' DESC, outcome, alpha
