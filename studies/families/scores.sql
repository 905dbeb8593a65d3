-- title: Scores of each architecture
-- question: Do models memorize a sequence either whole or not at all?
-- note: Score: the share of the 32 tokens that are right. A bin holds scores from its lower end up to the next; the
--   last is exactly 1. The scale is logarithmic, with 0 below it.
-- figure: line
-- x: score_from | Score
-- y: share | Sequences | percent-log
-- series: size
-- panel: architecture
-- columns: 2

SELECT g.architecture, g.size, score_from, share, share_low, share_high
FROM grid AS g
JOIN score_histogram USING (run_label)
WHERE sample = 'uniform'
ORDER BY place, size_rank, score_from
