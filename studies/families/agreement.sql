-- title: Do two trainings memorize the same?
-- question: How alike are the memorized sets of two seeds, of two architectures, and of two sizes?
-- note: Jaccard similarity of the memorized sequences, averaged over pairs of models (lowest and highest); by chance:
--   of two independent sets of as many. The second row is of the one size that was trained with two seeds.

WITH pairs AS (
    SELECT CASE WHEN a.architecture = b.architecture AND a.size = b.size THEN '1 two seeds, same architecture and size'
                WHEN a.size = b.size THEN '3 two architectures, same size'
                WHEN a.architecture = b.architecture AND abs(a.size_rank - b.size_rank) = 1
                    THEN '4 neighbouring sizes, same architecture' END AS pair,
           a.size,
           jaccard,
           memorized_smaller / sequences AS p,
           memorized_larger / sequences AS q
    FROM overlap
    JOIN described AS a ON a.run_label = smaller
    JOIN described AS b ON b.run_label = larger
    WHERE a.role IN ('size', 'second seed') AND b.role IN ('size', 'second seed')
        -- Second seeds are compared with their own twin only.
        AND (a.role = b.role OR (a.architecture = b.architecture AND a.size = b.size))
        AND (a.role = 'size' OR b.role = 'size')
),
rows AS (
    FROM pairs
    UNION ALL
    SELECT '2 two architectures, the size of the seeds', * EXCLUDE (pair)
    FROM pairs
    WHERE pair[1] = '3' AND size IN (SELECT size FROM pairs WHERE pair[1] = '1')
)
SELECT pair[3:] AS models,
       count(*) AS pairs,
       avg(jaccard) AS jaccard,
       min(jaccard) AS jaccard_low,
       max(jaccard) AS jaccard_high,
       avg(p * q / nullif(p + q - p * q, 0)) AS jaccard_by_chance
FROM rows
WHERE pair IS NOT NULL
GROUP BY pair
ORDER BY pair
