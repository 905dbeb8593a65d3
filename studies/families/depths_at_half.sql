-- title: Depth at one half
-- question: After which layer does a token have half of the probability that it will have at the end?
-- note: Depth (layer / layers) of the first layer after which the emitted token's probability passes half of its final one;
--   matched: of sequences that are alike in domain, frequency and perplexity of the prefix. 95 % intervals, bootstrapped
--   by document.

WITH depths AS (
    SELECT 'drawn' AS groups, * FROM layer_depth
    UNION ALL
    SELECT 'matched', * FROM layer_depth__matched
)
SELECT * EXCLUDE (place, size_rank)
FROM (PIVOT (
    SELECT g.architecture, g.size, place, size_rank,
           CASE WHEN groups = 'matched' THEN 'matched_' ELSE '' END || outcome AS of_group,
           d.depth, d.depth_low, d.depth_high
    FROM grid AS g
    JOIN depths AS d USING (run_label)
    WHERE d.threshold = 0.5 AND kind = 'relative' AND outcome <> 'half-memorized'
)
ON of_group IN ('memorized', 'unmemorized', 'matched_memorized', 'matched_unmemorized')
USING max(depth) AS depth, max(depth_low) AS depth_low, max(depth_high) AS depth_high)
ORDER BY place, size_rank
