-- title: Memorization rate by size, for each architecture
-- question: How does the memorization rate grow with the size of the model?
-- note: Share of uniformly drawn sequences whose 32 tokens after the first 32 a model generates word for word, with
--   95 % intervals (bootstrapped by document), and the line fitted to each architecture, one point per size.
-- figure: points
-- x: non_embedding_parameters | Non-embedding parameters | log
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: architecture
-- fit: fitted

SELECT g.architecture, g.size, g.non_embedding_parameters, sequences, memorized, rate, rate_low, rate_high,
       intercept + slope * log10(g.non_embedding_parameters) AS fitted
FROM grid AS g
JOIN rate_by_size AS r USING (run_label)
JOIN size_fits AS f ON f.architecture = g.architecture
ORDER BY g.place, size_rank
