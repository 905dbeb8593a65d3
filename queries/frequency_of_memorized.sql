-- title: Frequency of memorized sequences
-- question: Do memorized sequences stand in the corpus more often than half-memorized and unmemorized ones?
-- note: Mean of log2 of the number of occurrences, with its 95 % interval (by document; none where no two
--   documents differ), and the median. Memorized: score 1; unmemorized: score 0; half-memorized: between.
-- parameter sample: uniform
-- figure: dots
-- x: outcome | Outcome
-- y: mean_log2_count | Mean log2 of occurrences
-- interval: mean_low, mean_high
-- series: run_label
-- order: outcome_rank

WITH counted AS (
    SELECT run_label, non_embedding_parameters, cluster,
           CASE WHEN memorized THEN 2 WHEN score > 0 THEN 1 ELSE 0 END AS outcome_rank,
           log2(sequence_count) AS log2_count
    FROM memorization
    WHERE sample = $sample AND sequence_count > 0
)
SELECT run_label,
       ['unmemorized', 'half-memorized', 'memorized'][outcome_rank + 1] AS outcome,
       outcome_rank,
       count(*) AS sequences,
       avg(log2_count) AS mean_log2_count,
       mean_interval(log2_count, cluster).low AS mean_low,
       mean_interval(log2_count, cluster).high AS mean_high,
       few_documents(mean_interval(log2_count, cluster)) AS few_documents,
       median(log2_count) AS median_log2_count
FROM counted
GROUP BY run_label, non_embedding_parameters, outcome_rank
ORDER BY non_embedding_parameters, run_label, outcome_rank
