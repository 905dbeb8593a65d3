-- title: Planted texts, each architecture
-- question: What share of the planted texts does each model know?

SELECT g.architecture, sequence_count AS copies, g.size, rate, rate_low, rate_high
FROM grid AS g
JOIN rate_by_copies USING (run_label)
ORDER BY place, sequence_count, size_rank
