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
    -- By how much less memorized sequences recover, as a share of what unmemorized ones do: to the peak, from the lowest cosine;
    -- and to the last layer, from the cosine that noise of this strength leaves before the first, 1 / sqrt(1 + alpha²).
    SELECT run_label, groups, largest,
           1 - max(recovery) FILTER (outcome = 'memorized') / max(recovery) FILTER (outcome = 'unmemorized') AS gap,
           1 - (max(last) FILTER (outcome = 'memorized') - any_value(noised))
               / (max(last) FILTER (outcome = 'unmemorized') - any_value(noised)) AS gap_last
    FROM (
        SELECT *, 1 / sqrt(1 + alpha ** 2) AS noised FROM recoveries
        QUALIFY alpha = max(alpha) OVER (PARTITION BY run_label, groups)
    )
    JOIN sizes USING (run_label)
    GROUP BY run_label, groups, largest
),
ends AS (
    -- Memorized sequences under the strongest noise: models of the smallest size whose last layer is less like the clean one than
    -- the noised stream before the first.
    SELECT any_value(alpha) AS strongest_alpha,
           1 / sqrt(1 + any_value(alpha) ** 2) AS cosine_noised,
           count(*) FILTER (smallest) AS models_smallest,
           count_if(smallest AND last < 1 / sqrt(1 + alpha ** 2)) AS models_lost_smallest,
           count_if(NOT smallest) AS models_larger,
           count_if(NOT smallest AND last < 1 / sqrt(1 + alpha ** 2)) AS models_lost_larger,
           min(last) FILTER (smallest) AS cosine_last_smallest_least,
           max(last) FILTER (smallest) AS cosine_last_smallest_most,
           min(last) FILTER (largest) AS cosine_last_largest_least,
           max(last) FILTER (largest) AS cosine_last_largest_most
    FROM (FROM noise_recovery QUALIFY alpha = max(alpha) OVER (PARTITION BY run_label)) JOIN sizes USING (run_label)
    WHERE outcome = 'memorized'
),
gaps AS (
    SELECT min(gap) FILTER (groups = 'drawn') AS share_less_least,
           max(gap) FILTER (groups = 'drawn') AS share_less_most,
           min(gap) FILTER (groups = 'matched') AS share_less_matched_least,
           max(gap) FILTER (groups = 'matched') AS share_less_matched_most,
           min(gap_last) FILTER (groups = 'drawn') AS share_less_last_least,
           max(gap_last) FILTER (groups = 'drawn') AS share_less_last_most,
           min(gap_last) FILTER (groups = 'matched') AS share_less_last_matched_least,
           max(gap_last) FILTER (groups = 'matched') AS share_less_last_matched_most
    FROM strongest
    WHERE largest
),
whole AS (
    SELECT min("whole") FILTER (smallest) AS share_whole_smallest_least,
           max("whole") FILTER (smallest) AS share_whole_smallest_most,
           min("whole") FILTER (largest) AS share_whole_largest_least,
           max("whole") FILTER (largest) AS share_whole_largest_most,
           arg_min(architecture, "whole") FILTER (largest) AS holds_least,
           max(whole_high) FILTER (largest AND architecture = 'gpt_bigcode') AS share_whole_bigcode_high,
           min(whole_low) FILTER (largest AND architecture <> 'gpt_bigcode') AS share_whole_others_low,
           arg_min(architecture, "whole") FILTER (smallest) = 'gpt_bigcode' AS bigcode_least_at_smallest
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
    -- At one half of the final probability, matched, in layers: the difference, and the smallest margin inside which the two would
    -- be equivalent in every model, were the two groups' intervals independent (half the interval of their difference, and it).
    SELECT max(abs(difference)) FILTER (largest) AS layers_apart_largest,
           max(abs(difference)) AS layers_apart_any,
           min(abs(difference) + half) FILTER (largest) AS margin_least,
           max(abs(difference) + half) FILTER (largest) AS margin_most
    FROM (
        SELECT largest,
               sizes.layers * (max(depth) FILTER (outcome = 'memorized') - max(depth) FILTER (outcome = 'unmemorized'))
                   AS difference,
               sizes.layers * sqrt(sum(((depth_high - depth_low) / 2) ** 2)) AS half
        FROM layer_depth__matched JOIN sizes USING (run_label)
        WHERE kind = 'relative' AND threshold = 0.5 AND outcome IN ('memorized', 'unmemorized')
        GROUP BY run_label, largest, sizes.layers
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
later_heads AS (
    -- Heads from the second layer on, replaced one at a time.
    SELECT avg(importance) FILTER (largest) AS share_later_mean,
           max(importance) FILTER (largest) AS share_later_most,
           max(importance_high) FILTER (largest) AS share_later_high,
           max(importance) FILTER (smallest) AS share_later_smallest_most
    FROM head_importance JOIN sizes USING (run_label)
    WHERE layer > 1
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
tested_pairs AS (
    SELECT o.jaccard, a.jaccard AS halves_a, b.jaccard AS halves_b, holm_among(o.p, list(o.p) OVER ()) AS p_holm, o.run_label
    FROM head_overlap AS o
    SEMI JOIN grid AS g USING (run_label)
    LEFT JOIN head_overlap AS a ON a.run_label = o.run_label AND a.split_half AND a.domain_a = o.domain_a
    LEFT JOIN head_overlap AS b ON b.run_label = o.run_label AND b.split_half AND b.domain_a = o.domain_b
    WHERE NOT o.split_half AND o.domain_a < o.domain_b
),
chance AS (
    SELECT count(*) AS domain_pairs,
           count_if(p_holm < 0.05) AS domain_pairs_above_chance,
           count_if(jaccard > greatest(halves_a, halves_b)) AS domain_pairs_above_halves
    FROM tested_pairs
),
sharing AS (
    SELECT count(*) AS models_with_heads, count_if(p_holm < 0.05) AS models_sharing
    FROM (
        SELECT holm_among(p, list(p) OVER ()) AS p_holm
        FROM head_sharing
        SEMI JOIN grid USING (run_label)
        WHERE sets = 'important' AND in_domains = domains
    )
),
pairs AS (
    SELECT min(correlation) AS correlation_large_least
    FROM head_signature
    JOIN sizes AS a ON a.run_label = run_a
    JOIN sizes AS b ON b.run_label = run_b
    WHERE least(a.size_rank, b.size_rank) >= 3
)
SELECT *
FROM gaps, ends, whole, passes, depths, tokens, first_layers, later_heads, heads, domains, chance, sharing, pairs
