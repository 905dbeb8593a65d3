-- title: Findings inside the models in numbers
-- question: Which numbers do the sentences between the figures of the probes need?

WITH sizes AS (
    SELECT *, size_rank = max(size_rank) OVER () AS largest, size_rank = min(size_rank) OVER () AS smallest FROM grid
),
recoveries AS (
    SELECT 'drawn' AS groups, * FROM noise_recovery
    UNION ALL
    SELECT 'matched', * FROM noise_recovery__matched
),
strongest AS (
    -- How much less of the noise memorized sequences win back, as a share of what unmemorized ones do.
    SELECT run_label, groups, largest,
           1 - max(recovery) FILTER (outcome = 'memorized') / max(recovery) FILTER (outcome = 'unmemorized') AS gap
    FROM (FROM recoveries QUALIFY alpha = max(alpha) OVER (PARTITION BY run_label, groups)) JOIN sizes USING (run_label)
    GROUP BY ALL
),
gaps AS (
    SELECT min(gap) FILTER (groups = 'drawn') AS share_less_least,
           max(gap) FILTER (groups = 'drawn') AS share_less_most,
           min(gap) FILTER (groups = 'matched') AS share_less_matched_least,
           max(gap) FILTER (groups = 'matched') AS share_less_matched_most
    FROM strongest
    WHERE largest
),
whole AS (
    SELECT min("whole") FILTER (smallest) AS share_whole_smallest_least,
           max("whole") FILTER (smallest) AS share_whole_smallest_most,
           min("whole") FILTER (largest) AS share_whole_largest_least,
           max("whole") FILTER (largest) AS share_whole_largest_most
    FROM (FROM noise_output QUALIFY alpha = max(alpha) OVER (PARTITION BY run_label)) JOIN sizes USING (run_label)
    WHERE outcome = 'memorized'
),
decoded AS (
    SELECT min(depth) FILTER (layer_decoding.probability >= 0.5) AS passes_half
    FROM layer_decoding JOIN sizes USING (run_label)
    WHERE largest AND outcome = 'memorized'
    GROUP BY run_label
),
passes AS (SELECT min(passes_half) AS passes_half_least, max(passes_half) AS passes_half_most FROM decoded),
depths AS (
    SELECT max(difference) AS depth_difference
    FROM (
        SELECT abs(max(depth) FILTER (outcome = 'memorized') - max(depth) FILTER (outcome = 'unmemorized')) AS difference
        FROM layer_depth__matched JOIN sizes USING (run_label)
        WHERE largest AND kind = 'relative' AND threshold = 0.5
        GROUP BY run_label
    )
),
wrong AS (
    SELECT outcome, before, avg(lost) AS lost
    FROM perturbation JOIN sizes USING (run_label)
    WHERE largest
    GROUP BY ALL
),
tokens AS (
    SELECT max(lost) FILTER (outcome = 'memorized' AND before = 1) AS share_lost_last,
           max(lost) FILTER (outcome = 'memorized' AND before = 2) AS share_lost_second,
           avg(lost) FILTER (outcome = 'memorized' AND before > 8) AS share_lost_far,
           avg(lost) FILTER (outcome = 'unmemorized' AND before > 8) AS share_lost_far_unmemorized
    FROM wrong
),
layers AS (
    SELECT run_label, largest,
           max(importance) FILTER (layer = 1) / avg(importance) FILTER (layer > 1) AS first_layer
    FROM head_depth JOIN sizes USING (run_label)
    GROUP BY ALL
),
first_layers AS (
    SELECT min(first_layer) AS first_layer_least, max(first_layer) AS first_layer_most FROM layers WHERE largest
),
one_head AS (
    -- The most important head of each model, where one may stand out: in llama and the generations of OLMo.
    SELECT run_label, size_rank, largest, max(importance) AS importance
    FROM head_importance JOIN sizes USING (run_label)
    WHERE architecture IN ('llama', 'olmo', 'olmo2', 'olmo3')
    GROUP BY ALL
),
heads AS (
    SELECT min(importance) FILTER (size_rank = 2) AS share_one_head_second_least,
           max(importance) FILTER (size_rank = 2) AS share_one_head_second_most,
           min(importance) FILTER (largest) AS share_one_head_largest_least,
           max(importance) FILTER (largest) AS share_one_head_largest_most
    FROM one_head
),
of_models AS (
    SELECT run_label, split_half, avg(jaccard) AS jaccard
    FROM head_overlap JOIN sizes USING (run_label)
    WHERE largest AND (split_half OR domain_a < domain_b)
    GROUP BY ALL
),
domains AS (
    SELECT min(jaccard) FILTER (NOT split_half) AS share_domains_least,
           max(jaccard) FILTER (NOT split_half) AS share_domains_most,
           min(jaccard) FILTER (split_half) AS share_halves_least,
           max(jaccard) FILTER (split_half) AS share_halves_most
    FROM of_models
),
pairs AS (
    SELECT min(correlation) AS correlation_large_least
    FROM head_signature
    JOIN sizes AS a ON a.run_label = run_a
    JOIN sizes AS b ON b.run_label = run_b
    WHERE least(a.size_rank, b.size_rank) >= 3
)
SELECT * FROM gaps, whole, passes, depths, tokens, first_layers, heads, domains, pairs
