-- title: Frequency of n-grams in memorized sequences
-- question: Are the single tokens and n-grams of memorized sequences more frequent than those of others?
-- note: Each sequence has the mean of its n-grams' counts in the corpus; shown is the mean of that number's log2, with its
--   95 % interval (by document; none where no two documents differ). The table also has the averages of the
--   rarest, the mean and the most frequent n-gram's count, and the median of the mean log frequency. Memorized: score 1;
--   unmemorized: score 0; half-memorized: between.
-- parameter sample: uniform
-- optional: yes
-- figure: dots
-- x: outcome | Outcome
-- y: mean_log2_count | Mean log2 of a sequence's mean count
-- interval: mean_low, mean_high
-- series: run_label
-- panel: ngrams
-- order: outcome_rank

WITH counted AS (
    SELECT run_label, non_embedding_parameters, cluster, n, min_count, mean_count, max_count,
           CASE WHEN memorized THEN 2 WHEN score > 0 THEN 1 ELSE 0 END AS outcome_rank,
           CASE WHEN mean_count > 0 THEN log2(mean_count) END AS log2_count,
           -- -inf: one n-gram never occurs
           CASE WHEN isfinite(mean_log_frequency) THEN mean_log_frequency END AS log_frequency
    FROM memorization AS m
    JOIN ngram_statistics AS s USING (sequence_id)
    WHERE sample = $sample AND s."index" = study_index() AND ngrams > 0
)
SELECT run_label, n,
       CASE n WHEN 1 THEN 'single tokens' ELSE n || '-grams' END AS ngrams,
       ['unmemorized', 'half-memorized', 'memorized'][outcome_rank + 1] AS outcome,
       outcome_rank,
       count(*) AS sequences,
       avg(log2_count) AS mean_log2_count,
       mean_interval(log2_count, cluster).low AS mean_low,
       mean_interval(log2_count, cluster).high AS mean_high,
       few_documents(mean_interval(log2_count, cluster)) AS few_documents,
       avg(min_count) AS mean_of_min,
       avg(mean_count) AS mean_of_mean,
       avg(max_count) AS mean_of_max,
       median(log_frequency) AS median_log_frequency
FROM counted
GROUP BY run_label, non_embedding_parameters, n, outcome_rank
ORDER BY n, non_embedding_parameters, run_label, outcome_rank
