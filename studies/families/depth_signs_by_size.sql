-- title: Models whose memorized tokens are decided earlier, by size
-- question: In how many models of each size are memorized tokens decided in earlier layers, by each threshold?
-- note: As above; models in which memorized tokens come earlier, of all that were measured at the size. Of six models of one
--   size, even all alike give no p below 0.03, and none below 0.05 after a correction for four sizes.

WITH differences AS (
    SELECT kind, threshold, size, size_rank,
           max(depth) FILTER (outcome = 'memorized') - max(depth) FILTER (outcome = 'unmemorized') AS difference
    FROM layer_depth__matched
    JOIN grid USING (run_label)
    GROUP BY run_label, kind, threshold, size, size_rank
)
SELECT kind, format('{:.2f}', threshold) AS threshold, size, format('{} of {}', count_if(difference < 0), count(difference)) AS earlier
FROM differences
GROUP BY kind, threshold, size, size_rank
ORDER BY kind, differences.threshold, size_rank
