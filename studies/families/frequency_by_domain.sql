-- title: Memorization rate by frequency, in each domain
-- question: At equal frequency, do the largest models know code better than other text?
-- note: The largest size; distinct sequences by the number of times they occur, as many of each domain as there are, up
--   to a hundred. Groups of fewer than ten are left out. 95 % intervals, bootstrapped by document.
-- figure: line
-- x: frequency | Occurrences in the corpus
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: domain
-- panel: architecture
-- columns: 2
-- order: frequency_bucket

SELECT g.architecture, domain, frequency, frequency_bucket, rate, rate_low, rate_high
FROM grid AS g
JOIN frequency_in_domains USING (run_label)
WHERE size_rank = (SELECT max(size_rank) FROM grid)
ORDER BY place, domain, frequency_bucket
