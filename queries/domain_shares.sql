-- title: Domains of memorized sequences
-- question: Which domains are over-represented among what a model memorized?
-- note: The dot is the domain's share of the memorized sequences, the mark its share of all sampled ones; enrichment is
--   the ratio of the two. The rate inside the domain has Wilson's 95 % interval.
-- parameter sample: uniform
-- parameter domains: 20
-- figure: dots
-- x: domain | Domain
-- y: share_memorized | Share of memorized sequences | percent
-- series: run_label
-- reference: share_sample | share of the sample

WITH domains AS (
    SELECT run_label, non_embedding_parameters, domain,
           count(*) AS sequences,
           count_if(memorized)::BIGINT AS memorized
    FROM memorization
    WHERE sample = $sample
    GROUP BY ALL
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
)
SELECT run_label, domain, sequences, memorized, share_sample, share_memorized,
       share_memorized / share_sample AS enrichment,
       memorized / sequences AS rate,
       wilson_low(memorized, sequences) AS rate_low,
       wilson_high(memorized, sequences) AS rate_high
FROM shares
JOIN largest USING (domain)
ORDER BY largest_share DESC, domain, non_embedding_parameters, run_label
