-- title: Heads that all domains need
-- question: How many attention heads are important in every domain, and how many would be by chance?
-- note: The share of a model's heads that are among its important ones (the share top with the largest importance) in at
--   least so many domains; on the right in all. At random is what independent random sets of as many heads would share:
--   the mean is exact, null_low and null_high are the ends of its 95 % range, a little too wide, as if heads were
--   independent, and p is the chance in that range of so many heads or more. Heads of equal importance are ordered at
--   random. Models with two domains at least that have at least as many memorized sequences as least. Sample as in
--   head_importance: one for all domains of a model, each with the sequences that it has there.
-- parameter top: 0.2 | 0 to 1
-- parameter least: 20
-- optional: yes
-- figure: line
-- x: in_domains | Domains, at least
-- y: share | Heads of the model | percent
-- series: sets
-- dashes: sets
-- panel: run_label

WITH each_head AS (
    SELECT run_label, non_embedding_parameters, probed, coalesce(domain, 'unknown') AS domain, layer,
           unnest("right") AS still,
           unnest(range(0, len("right"))) AS head,
           h.continuation_length
    FROM head_importance AS h
    JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'head_importance') USING (run_id)
    JOIN memorization USING (run_id, sequence_id)
),
importances AS (
    SELECT run_label, non_embedding_parameters, probed, domain, layer, head,
           avg(1 - still / continuation_length) AS importance
    FROM each_head
    GROUP BY ALL
    HAVING count(*) >= $least
),
ranked AS (
    -- By number, ties would be the same heads in every domain.
    SELECT *,
           row_number() OVER (of_domain ORDER BY importance DESC, hash(domain, 2, layer, head)) AS rank,
           count(*) OVER of_domain AS heads
    FROM importances
    WINDOW of_domain AS (PARTITION BY run_label, domain)
),
of_head AS (
    SELECT run_label, non_embedding_parameters, probed, heads, layer, head,
           greatest(1, round($top * heads))::BIGINT AS chosen,
           count(*) AS domains,
           count_if(rank <= greatest(1, round($top * heads))) AS needed_by
    FROM ranked
    GROUP BY ALL
    HAVING count(*) > 1
),
shared AS (
    SELECT run_label, non_embedding_parameters, probed, domains, heads, chosen, in_domains,
           count_if(needed_by >= in_domains)::BIGINT AS common
    FROM (SELECT *, unnest(range(1, domains + 1)) AS in_domains FROM of_head)
    GROUP BY ALL
),
chances AS (
    -- That one head is in at least so many of the random sets.
    SELECT run_label, in_domains,
           sum(exp(lgamma(domains + 1) - lgamma(times + 1) - lgamma(domains - times + 1))
               * pow(chosen / heads, times) * pow(1 - chosen / heads, domains - times)) AS chance
    FROM (SELECT *, unnest(range(in_domains, domains + 1)) AS times FROM shared)
    GROUP BY run_label, in_domains
),
spread AS (
    SELECT *, sum(likely) OVER (PARTITION BY run_label, in_domains ORDER BY so_many) AS up_to
    FROM (
        -- A chance of 0 or 1 has no logarithm.
        SELECT run_label, in_domains, heads, common, chance, so_many,
               exp(lgamma(heads + 1) - lgamma(so_many + 1) - lgamma(heads - so_many + 1)
                   + so_many * ln(greatest(chance, 1e-300))
                   + (heads - so_many) * ln(greatest(1 - chance, 1e-300))) AS likely
        FROM (SELECT *, unnest(range(0, heads + 1)) AS so_many FROM shared JOIN chances USING (run_label, in_domains))
    )
),
nulls AS (
    SELECT run_label, in_domains,
           any_value(chance) AS null_share,
           min(CASE WHEN up_to >= 0.025 THEN so_many / heads END) AS null_low,
           min(CASE WHEN up_to >= 0.975 THEN so_many / heads END) AS null_high,
           least(1, sum(CASE WHEN so_many >= common THEN likely ELSE 0 END)) AS p
    FROM spread
    GROUP BY run_label, in_domains
)
SELECT run_label, sets, in_domains, domains, heads, chosen,
       CASE WHEN sets = 'important' THEN common END AS common,
       CASE WHEN sets = 'important' THEN common / heads ELSE null_share END AS share,
       null_share, null_low, null_high, p,
       probed AS sample
FROM shared
JOIN nulls USING (run_label, in_domains)
CROSS JOIN (SELECT unnest(['important', 'at random']) AS sets)
ORDER BY non_embedding_parameters, run_label, sets DESC, in_domains
