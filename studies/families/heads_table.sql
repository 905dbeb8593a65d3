-- title: Important heads in numbers
-- question: How many important heads do domains share, and how many would they by chance?
-- note: Two domains, two halves: mean Jaccard similarity (lowest and highest). Above chance: pairs of domains that
--   share more heads than 95 % of random sets do. In all: heads that are important in every domain, and by chance.

WITH pairs AS (
    SELECT run_label, max(heads) AS heads, max(chosen) AS chosen,
           avg(jaccard) FILTER (NOT split_half) AS jaccard_two_domains,
           min(jaccard) FILTER (NOT split_half) AS jaccard_two_domains_low,
           max(jaccard) FILTER (NOT split_half) AS jaccard_two_domains_high,
           avg(jaccard) FILTER (split_half) AS jaccard_two_halves,
           min(jaccard) FILTER (split_half) AS jaccard_two_halves_low,
           max(jaccard) FILTER (split_half) AS jaccard_two_halves_high,
           avg(null_mean) AS jaccard_random,
           avg((p < 0.05)::INTEGER) FILTER (NOT split_half) AS share_above_chance
    FROM head_overlap
    WHERE split_half OR domain_a < domain_b
    GROUP BY run_label
),
everywhere AS (
    SELECT run_label, domains, share, null_share, p
    FROM head_sharing
    WHERE sets = 'important' AND in_domains = domains
)
SELECT g.architecture, g.size, domains, heads, chosen,
       jaccard_two_domains, jaccard_two_domains_low, jaccard_two_domains_high,
       jaccard_two_halves, jaccard_two_halves_low, jaccard_two_halves_high,
       jaccard_random, share_above_chance,
       share AS share_in_all,
       null_share AS share_in_all_by_chance
FROM grid AS g
JOIN pairs USING (run_label)
LEFT JOIN everywhere USING (run_label)
ORDER BY place, size_rank
