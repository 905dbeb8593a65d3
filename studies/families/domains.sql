-- title: Domains of memorized sequences
-- question: Which domains are over-represented among what the largest models memorized?
-- note: The largest size. The dot is the domain's share of the memorized
--   sequences, the mark its share of the drawn ones. 95 % intervals, bootstrapped by document.
-- figure: dots
-- x: domain | Domain
-- y: share_memorized | Share of memorized sequences | percent
-- interval: share_low, share_high
-- series: architecture
-- reference: share_sample | share of all sequences

SELECT g.architecture, domain, share_memorized, share_low, share_high, share_sample
FROM grid AS g
JOIN domain_shares USING (run_label)
WHERE size_rank = (SELECT max(size_rank) FROM grid)
ORDER BY max(share_sample) OVER (PARTITION BY domain) DESC, domain, place
