-- title: Do domains share their important heads?
-- question: Are the heads that memorization needs the same in every domain?
-- note: Jaccard similarity of the sets of the 20 % most important heads, averaged over pairs of domains, or over the
--   two random halves of each domain's sequences (half as many sequences, split by sequence, so no ceiling). The bars
--   go from the lowest to the highest pair; the mark is what random sets have.
-- figure: dots
-- x: model | Model
-- y: jaccard | Shared important heads | percent
-- interval: jaccard_low, jaccard_high
-- series: pairs
-- reference: jaccard_of_random_sets | random sets

SELECT g.architecture || ' ' || g.size AS model,
       CASE WHEN split_half THEN 'two halves of a domain' ELSE 'two domains' END AS pairs,
       avg(jaccard) AS jaccard,
       min(jaccard) AS jaccard_low,
       max(jaccard) AS jaccard_high,
       avg(null_mean) AS jaccard_of_random_sets
FROM grid AS g
JOIN head_overlap USING (run_label)
WHERE split_half OR domain_a < domain_b
GROUP BY g.architecture, place, g.size, size_rank, split_half
ORDER BY place, size_rank, split_half
