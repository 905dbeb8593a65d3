-- title: The small study
-- question: Do architectures differ in the same ways on another corpus, in models a hundred times smaller?
-- note: studies/small. Rate: of uniformly drawn sequences. 64 copies: of the twelve texts that were planted so often. Noise:
--   the share of memorized continuations that survive the strongest noise whole, of 20. First layer: what one of its heads
--   matters, as a multiple of one of the other layers. The smallest size was not probed. 95 % intervals.

WITH named AS (
    SELECT model_id AS run_label, architecture, regexp_extract(model_id, '-([0-9.]+[kMB])$', 1) AS size,
           non_embedding_parameters
    FROM small.models
    WHERE control IS NULL AND regexp_full_match(model_id, '[a-z0-9_]+-[0-9.]+[kMB]')
),
noise AS (
    SELECT run_label, "whole", whole_low, whole_high
    FROM small.noise_output
    WHERE outcome = 'memorized'
    QUALIFY alpha = max(alpha) OVER (PARTITION BY run_label)
),
heads AS (
    SELECT run_label, max(importance) FILTER (layer = 1) / avg(importance) FILTER (layer > 1) AS first_layer
    FROM small.head_depth
    GROUP BY run_label
)
SELECT architecture, size, r.rate, r.rate_low, r.rate_high,
       c.rate AS share_of_64_copies, c.rate_low AS share_of_64_copies_low, c.rate_high AS share_of_64_copies_high,
       n."whole" AS share_kept_under_noise, n.whole_low AS share_kept_under_noise_low, n.whole_high AS share_kept_under_noise_high,
       first_layer
FROM named
JOIN architectures USING (architecture)
JOIN small.rate_by_size AS r USING (run_label)
LEFT JOIN small.rate_by_copies AS c ON c.run_label = named.run_label AND c.sequence_count = 64
LEFT JOIN noise AS n ON n.run_label = named.run_label
LEFT JOIN heads USING (run_label)
ORDER BY place, named.non_embedding_parameters
