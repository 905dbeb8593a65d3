-- title: Perplexity of memorized sequences
-- question: Are memorized sequences easier to predict, already in their context?
-- note: Quartiles of the perplexity per token under the run's own model: the dot is the median, the bar goes from the
--   first to the third quartile. Memorized: score 1; unmemorized: score 0; half-memorized: between.
-- parameter sample: uniform
-- optional: yes
-- figure: dots
-- x: outcome | Outcome
-- y: median_perplexity | Perplexity | log
-- interval: first_quartile, third_quartile
-- series: run_label
-- panel: part
-- order: outcome_rank

WITH perplexities AS (
    SELECT run_label, non_embedding_parameters,
           CASE WHEN memorized THEN 2 WHEN score > 0 THEN 1 ELSE 0 END AS outcome_rank,
           unnest([{'part': 'prefix', 'perplexity': prefix_perplexity},
                   {'part': 'suffix', 'perplexity': suffix_perplexity}], recursive := true)
    FROM memorization
    WHERE sample = $sample
)
SELECT run_label, part,
       ['unmemorized', 'half-memorized', 'memorized'][outcome_rank + 1] AS outcome,
       outcome_rank,
       count(*) AS sequences,
       quantile_cont(perplexity, 0.25) AS first_quartile,
       median(perplexity) AS median_perplexity,
       quantile_cont(perplexity, 0.75) AS third_quartile
FROM perplexities
WHERE perplexity IS NOT NULL
GROUP BY run_label, non_embedding_parameters, part, outcome_rank
ORDER BY part, non_embedding_parameters, run_label, outcome_rank
