-- title: Memorization rate by domain and size
-- question: How does the rate of each domain grow with size?
-- note: The rate inside the domain over all architectures; in brackets those of the architectures with the lowest and
--   the highest one.

SELECT domain, g.size,
       sum(memorized) / sum(sequences) AS rate,
       min(rate) AS rate_low,
       max(rate) AS rate_high
FROM grid AS g
JOIN domain_shares USING (run_label)
GROUP BY domain, g.size, size_rank
ORDER BY max(sum(memorized) / sum(sequences)) OVER (PARTITION BY domain) DESC, domain, size_rank
