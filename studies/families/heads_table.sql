-- title: Important heads in numbers
-- question: How many important heads do domains share, and how many would they by chance?
-- note: Two domains, two halves: mean Jaccard similarity (lowest and highest). Above chance: pairs of domains that
--   share more heads than random sets do (p < 0.05 after Holm's correction for all pairs of all models). Above halves: pairs
--   that share more than the halves of either domain, which have half as many sequences. In all: heads that are important in
--   every domain, and by chance.

WITH tested AS (
    SELECT o.*, h.p_holm
    FROM head_overlap AS o
    LEFT JOIN (
        SELECT run_label, domain_a, domain_b, holm_among(p, list(p) OVER ()) AS p_holm
        FROM head_overlap
        SEMI JOIN grid USING (run_label)
        WHERE NOT split_half AND domain_a < domain_b
    ) AS h USING (run_label, domain_a, domain_b)
    WHERE split_half OR domain_a < domain_b
),
halves AS (SELECT run_label, domain_a AS domain, jaccard FROM head_overlap WHERE split_half),
exceeding AS (
    SELECT t.run_label, count_if(t.jaccard > greatest(a.jaccard, b.jaccard))::BIGINT AS pairs_above_halves
    FROM tested AS t
    JOIN halves AS a ON a.run_label = t.run_label AND a.domain = t.domain_a
    JOIN halves AS b ON b.run_label = t.run_label AND b.domain = t.domain_b
    WHERE NOT split_half
    GROUP BY t.run_label
),
pairs AS (
    SELECT run_label, max(heads) AS heads, max(chosen) AS chosen,
           avg(jaccard) FILTER (NOT split_half) AS jaccard_two_domains,
           min(jaccard) FILTER (NOT split_half) AS jaccard_two_domains_low,
           max(jaccard) FILTER (NOT split_half) AS jaccard_two_domains_high,
           avg(jaccard) FILTER (split_half) AS jaccard_two_halves,
           min(jaccard) FILTER (split_half) AS jaccard_two_halves_low,
           max(jaccard) FILTER (split_half) AS jaccard_two_halves_high,
           avg(null_mean) AS jaccard_random,
           count_if(NOT split_half)::BIGINT AS pairs_of_domains,
           count_if(NOT split_half AND p_holm < 0.05)::BIGINT AS pairs_above_chance
    FROM tested
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
       jaccard_random, pairs_of_domains, pairs_above_chance, pairs_above_halves,
       share AS share_in_all,
       null_share AS share_in_all_by_chance
FROM grid AS g
JOIN pairs USING (run_label)
LEFT JOIN exceeding USING (run_label)
LEFT JOIN everywhere USING (run_label)
ORDER BY place, size_rank
