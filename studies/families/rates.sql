-- title: Memorization rates
-- question: What is the memorization rate of each architecture at each size?

SELECT g.architecture, g.size, rate, rate_low, rate_high
FROM grid AS g
JOIN rate_by_size USING (run_label)
ORDER BY place, size_rank
