-- title: Frequency inside each domain
-- question: At equal frequency, does a model know sequences of some domains better than those of others?
-- note: Distinct sequences by the number of times they occur (powers of two) and the domain they were drawn from: of the
--   sample domain, which has the same number of each frequency in each domain ([sequences] per_domain). Domains differ in
--   how often their texts recur; here frequency is held. Groups of fewer than ten sequences are left out. 95 % intervals,
--   by document.
-- parameter domains: 8
-- optional: yes
-- figure: line
-- x: frequency | Occurrences in the corpus
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: domain
-- panel: run_label
-- order: frequency_bucket

WITH drawn AS (
    SELECT run_label, non_embedding_parameters, coalesce(domain, 'unknown') AS domain, frequency_bucket, memorized, cluster
    FROM memorization
    WHERE sample = 'domain' AND frequency_bucket IS NOT NULL
),
domains AS (
    SELECT domain
    FROM drawn
    GROUP BY domain
    ORDER BY count(*) DESC, domain
    LIMIT $domains
),
rates AS (
    SELECT run_label, non_embedding_parameters, domain, frequency_bucket,
           count(*) AS sequences,
           count(DISTINCT cluster) AS documents,
           count_if(memorized)::BIGINT AS memorized,
           rate_interval(memorized, cluster) AS ends
    FROM drawn
    SEMI JOIN domains USING (domain)
    GROUP BY ALL
    HAVING count(*) >= 10
)
SELECT run_label, domain, frequency_label(frequency_bucket) AS frequency, frequency_bucket,
       sequences, documents, memorized,
       memorized / sequences AS rate,
       ends.low AS rate_low,
       ends.high AS rate_high,
       few_documents(ends) AS few_documents
FROM rates
ORDER BY non_embedding_parameters, run_label, domain, rates.frequency_bucket
