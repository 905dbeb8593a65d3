-- title: Discoverable sequences
-- question: How many sequences come out when a model is asked again and again?
-- note: A sequence is (n, p)-discoverable when at least one of n sampled continuations (top-k 40) is its suffix with
--   probability p (Hayes et al. 2024); computed from the probability of the suffix, nothing is sampled. 95 % intervals,
--   by document.
-- parameter sample: uniform
-- optional: yes
-- figure: line
-- x: n | Sampled continuations | log
-- y: rate | Discoverable sequences | percent
-- interval: rate_low, rate_high
-- series: run_label
-- panel: p

WITH marks AS (
    SELECT run_label, non_embedding_parameters, cluster, p,
           -- NULL is never. Of a document's sequences that all never come out, count_if would make NULL, not 0.
           coalesce(CASE p WHEN 0.5 THEN discoverable_n ELSE discoverable_n(p_z_top40, p) END, 'inf') AS needed
    FROM memorization
    CROSS JOIN (SELECT unnest([0.5::DOUBLE, 0.9::DOUBLE]) AS p)
    WHERE sample = $sample AND p_z_top40 IS NOT NULL
),
documents_of_run AS (
    SELECT run_label, non_embedding_parameters, p, cluster,
           count(*) AS sequences,
           [count_if(needed <= 1), count_if(needed <= 10), count_if(needed <= 100), count_if(needed <= 1000),
            count_if(needed <= 10000), count_if(needed <= 100000), count_if(needed <= 1000000)] AS discoverable
    FROM marks
    GROUP BY ALL
),
rates AS (
    SELECT run_label, non_embedding_parameters, p, power,
           sum(sequences)::BIGINT AS sequences,
           sum(discoverable[power + 1])::BIGINT AS discoverable,
           ratio_interval(discoverable[power + 1], sequences) AS ends
    FROM documents_of_run
    CROSS JOIN (SELECT unnest(range(7)) AS power)
    GROUP BY ALL
)
SELECT run_label, p, (10 ** power)::BIGINT AS n, sequences, discoverable,
       discoverable / sequences AS rate,
       ends.low AS rate_low,
       ends.high AS rate_high,
       few_documents(ends) AS few_documents
FROM rates
ORDER BY p, non_embedding_parameters, run_label, n
