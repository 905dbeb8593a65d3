-- title: The ends of the scores
-- question: How many sequences stand at the ends of the scores, and how many just below the upper one?
-- note: Lowest: scores below 0.1. Emptiest: the bin between the ends with the fewest sequences. Just below: 0.9 and
--   more, but not 1. Bipolar is a distribution whose emptiest bin lies between, and not beside 1.

WITH shares AS (
    SELECT g.architecture, place, g.size, size_rank, score_from, share,
           max(score_from) OVER (PARTITION BY run_label, score_from < 1) AS last_below
    FROM grid AS g
    JOIN score_histogram USING (run_label)
    WHERE sample = 'uniform'
)
SELECT architecture, size,
       max(share) FILTER (score_from = 0) AS share_lowest,
       min(share) FILTER (score_from > 0 AND score_from < 1) AS share_emptiest,
       format('{:.1f}', arg_min(score_from, share) FILTER (score_from > 0 AND score_from < 1)) AS emptiest_from,
       max(share) FILTER (score_from < 1 AND score_from = last_below) AS share_just_below,
       max(share) FILTER (score_from = 1) AS share_memorized
FROM shares
GROUP BY architecture, place, size, size_rank
ORDER BY place, size_rank
