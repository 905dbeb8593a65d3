-- title: Distribution of memorization scores
-- question: Do models know a sequence either by heart or not at all?
-- note: The score is the share of suffix tokens that the continuation gets right. A bin holds scores from its lower end up to
--   the next one; the last holds exactly 1. The scale is logarithmic: empty bins have no point.
-- parameter bins: 10
-- figure: line
-- x: score_from | Score
-- y: share | Sequences | percent-log
-- series: run_label
-- panel: sample

WITH scores AS (
    -- Whole numbers of matching tokens, because 0.7 as a float32 falls just short of its bin.
    SELECT run_label, non_embedding_parameters, sample,
           (round(score * len(suffix))::BIGINT * $bins) // len(suffix) AS bin
    FROM memorization
),
totals AS (
    SELECT run_label, non_embedding_parameters, sample, count(*) AS total
    FROM scores
    GROUP BY ALL
),
counts AS (
    SELECT run_label, sample, bin, count(*) AS sequences
    FROM scores
    GROUP BY ALL
)
SELECT run_label, sample, bin / $bins AS score_from,
       coalesce(sequences, 0) AS sequences,
       coalesce(sequences, 0) / total AS share
FROM totals
CROSS JOIN (SELECT unnest(range(0, $bins + 1)) AS bin)
LEFT JOIN counts USING (run_label, sample, bin)
ORDER BY CASE sample WHEN 'uniform' THEN 0 WHEN 'bucket' THEN 1 ELSE 2 END, sample,
         non_embedding_parameters, run_label, bin
