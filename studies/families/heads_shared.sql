-- title: Heads that all domains need
-- question: How many attention heads are important in every domain, and how many would be by chance?
-- note: The largest probed size. Share of a model's heads that are among the 20 % most important ones in at least the
--   given number of domains; dotted: independent random sets.
-- figure: line
-- x: in_domains | Domains, at least
-- y: share | Heads of the model | percent
-- series: sets
-- dashes: sets
-- panel: architecture
-- columns: 2
-- order: number

SELECT g.architecture, sets, in_domains::VARCHAR AS in_domains, in_domains AS number, share
FROM grid AS g
JOIN head_sharing USING (run_label)
QUALIFY size_rank = max(size_rank) OVER (PARTITION BY g.architecture)
ORDER BY place, sets = 'important' DESC, number
