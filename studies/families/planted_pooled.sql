-- title: Planted texts, all architectures together
-- question: What share of the planted texts does a model of each size know?
-- note: The rate over all architectures; in brackets those of the architectures with the lowest and the highest one.

SELECT sequence_count AS copies, g.size,
       sum(memorized) / sum(sequences) AS rate,
       min(rate) AS rate_low,
       max(rate) AS rate_high
FROM grid AS g
JOIN rate_by_copies USING (run_label)
GROUP BY sequence_count, g.size, size_rank
ORDER BY sequence_count, size_rank
