-- title: Domains of memorized sequences
-- question: Which domains are over-represented among what a model memorized?
-- note: The dot is the domain's share of the memorized sequences, the mark its share of all sampled ones; enrichment is
--   the ratio of the two; the rate is inside the domain. 95 % intervals, bootstrapped by document.
-- parameter sample: uniform
-- parameter domains: 20
-- figure: dots
-- x: domain | Domain
-- y: share_memorized | Share of memorized sequences | percent
-- interval: share_low, share_high
-- series: run_label
-- reference: share_sample | share of the sample

WITH documents_of_run AS (
    SELECT run_label, non_embedding_parameters, coalesce(domain, 'unknown') AS domain, cluster,
           count(*) AS sequences,
           count_if(memorized)::BIGINT AS memorized
    FROM memorization
    WHERE sample = $sample
    GROUP BY ALL
),
domains AS (
    SELECT run_label, non_embedding_parameters, domain,
           sum(sequences)::BIGINT AS sequences,
           sum(memorized)::BIGINT AS memorized,
           ratio_interval(memorized, sequences) AS rate_ends
    FROM documents_of_run
    GROUP BY run_label, non_embedding_parameters, domain
),
shares AS (
    SELECT *,
           sequences / sum(sequences) OVER run AS share_sample,
           memorized / nullif(sum(memorized) OVER run, 0) AS share_memorized
    FROM domains
    WINDOW run AS (PARTITION BY run_label)
),
largest AS (
    SELECT domain, max(greatest(share_memorized, share_sample)) AS largest_share
    FROM shares
    GROUP BY domain
    ORDER BY largest_share DESC, domain
    LIMIT $domains
),
share_intervals AS (
    -- Every document with a memorized sequence counts, those of other domains with none of this one.
    SELECT run_label, l.domain,
           ratio_interval(CASE WHEN d.domain = l.domain THEN memorized ELSE 0 END, memorized) AS share_ends
    FROM documents_of_run AS d
    CROSS JOIN largest AS l
    WHERE memorized > 0
    GROUP BY run_label, l.domain
)
SELECT run_label, domain, sequences, memorized, share_sample, share_memorized,
       share_ends.low AS share_low,
       share_ends.high AS share_high,
       share_memorized / share_sample AS enrichment,
       memorized / sequences AS rate,
       rate_ends.low AS rate_low,
       rate_ends.high AS rate_high
FROM shares
JOIN largest USING (domain)
LEFT JOIN share_intervals USING (run_label, domain)
ORDER BY largest_share DESC, domain, non_embedding_parameters, run_label
