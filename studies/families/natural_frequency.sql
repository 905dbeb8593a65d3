-- title: Memorization rate by frequency
-- question: How often must a sequence stand in the corpus until a model knows it by heart?
-- note: Distinct sequences of the corpus by the number of times they occur; "unseen" are held-out ones whose suffix
--   never occurs. 95 % intervals, bootstrapped by document.
-- figure: line
-- x: frequency | Occurrences in the corpus
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: size
-- panel: architecture
-- columns: 2
-- order: frequency_bucket
-- apart: unseen

SELECT g.architecture, g.size, frequency, frequency_bucket, rate, rate_low, rate_high, sequences, documents
FROM grid AS g
JOIN rate_by_frequency USING (run_label)
ORDER BY place, size_rank, frequency_bucket NULLS FIRST
