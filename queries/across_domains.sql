-- title: Memorized sequences across domains
-- question: Do sequences that were memorized in one domain also stand in others?
-- note: The share of a domain's sequences that occur in at least one other domain too, of those that a model memorized and
--   of the others. Sequences count once however many models memorized them; the parameter model is the run label of one
--   of them. The table has the mean number of domains, and the share of all occurrences that stand elsewhere. 95 %
--   intervals by document.
-- parameter sample: uniform
-- parameter model: all
-- parameter domains: 20
-- optional: yes
-- figure: dots
-- x: domain | Domain
-- y: share_elsewhere | Sequences that occur in other domains too | percent
-- interval: share_low, share_high
-- series: outcome

WITH seen AS (
    SELECT sequence_id, any_value(domain) AS domain, any_value(cluster) AS cluster, bool_or(memorized) AS memorized
    FROM memorization
    WHERE sample = $sample AND domain IS NOT NULL AND ($model = 'all' OR run_label = $model)
    GROUP BY sequence_id
),
places AS (
    SELECT s.domain, s.cluster, s.memorized,
           count(*) AS domains,
           sum(count) AS occurrences,
           coalesce(sum(count) FILTER (c.domain <> s.domain), 0) AS elsewhere
    FROM seen AS s
    JOIN domain_counts AS c USING (sequence_id)
    WHERE c."index" = study_index() AND count > 0
    GROUP BY sequence_id, s.domain, s.cluster, s.memorized
),
shares AS (
    SELECT domain, memorized,
           count(*) AS sequences,
           count_if(elsewhere > 0)::BIGINT AS in_others,
           rate_interval(elsewhere > 0, cluster) AS ends,
           avg(domains) AS mean_domains,
           sum(elsewhere) / sum(occurrences) AS share_of_occurrences
    FROM places
    GROUP BY domain, memorized
),
largest AS (
    SELECT domain, sum(sequences) AS of_domain
    FROM shares
    GROUP BY domain
    ORDER BY of_domain DESC, domain
    LIMIT $domains
)
SELECT domain, if(memorized, 'memorized', 'not memorized') AS outcome, sequences, in_others,
       in_others / sequences AS share_elsewhere,
       ends.low AS share_low,
       ends.high AS share_high,
       few_documents(ends) AS few_documents,
       mean_domains, share_of_occurrences
FROM shares
JOIN largest USING (domain)
ORDER BY of_domain DESC, domain, memorized DESC
