-- title: Memorization by context length
-- question: How much context does a model need to continue a sequence word for word?
-- note: Runs that were given the last tokens of the prefix, 4, 8, 16 … of them, and continue the same sequences greedily;
--   models with one prefix length are left out. 95 % intervals by document.
-- parameter sample: uniform
-- optional: yes
-- figure: line
-- x: prefix_length | Tokens of context
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: curve

WITH greedy AS (
    SELECT run_id, model_id, prefix_length, suffix_length,
           concat_ws(' ', coalesce(dtype, made_by), CASE WHEN retokenized THEN 'tokenized anew' END) AS made_as
    FROM runs
    WHERE control IS NULL AND decoding = 'greedy'
),
protocols AS (
    SELECT model_id, suffix_length, made_as,
           concat_ws(', ', model_id,
                     CASE WHEN count(DISTINCT suffix_length) OVER one_model > 1
                          THEN suffix_length || ' suffix tokens' END,
                     CASE WHEN count(DISTINCT made_as) OVER one_model > 1 THEN made_as END) AS curve
    FROM greedy
    GROUP BY model_id, suffix_length, made_as
    HAVING count(DISTINCT prefix_length) > 1
    WINDOW one_model AS (PARTITION BY model_id)
)
SELECT curve, m.prefix_length,
       count(*) AS sequences,
       count_if(memorized)::BIGINT AS memorized,
       avg(memorized::INTEGER) AS rate,
       rate_interval(memorized, cluster).low AS rate_low,
       rate_interval(memorized, cluster).high AS rate_high,
       few_documents(rate_interval(memorized, cluster)) AS few_documents,
       avg(score) AS mean_score
FROM memorization_runs AS m
JOIN greedy USING (run_id)
JOIN protocols AS p
    ON p.model_id = m.model_id AND p.suffix_length = m.suffix_length AND p.made_as = greedy.made_as
WHERE sample = $sample
GROUP BY curve, m.prefix_length, non_embedding_parameters, run_id
ORDER BY non_embedding_parameters, curve, m.prefix_length, run_id
