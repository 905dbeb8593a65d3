-- title: Domains of what stays memorized under noise
-- question: Does noise forget some domains before others?
-- note: Domain shares of the memorized sequences (drawn at random) whose whole continuation survives noise, each draw
--   counted. survival is the share that survives inside the domain. The domains with most memorized sequences. Shares
--   are those of the sample that the run was probed on: with bucket or domain they are not those of the corpus. Sample
--   as in noise_similarity. 95 % intervals by document.
-- parameter domains: 8
-- optional: yes
-- figure: line
-- x: alpha | Strength of the noise (share of the stream's root mean square)
-- y: share | Share of what stays memorized | percent
-- interval: share_low, share_high
-- series: domain
-- panel: run_label

WITH documents_of_run AS (
    SELECT run_label, non_embedding_parameters, probed, alpha, coalesce(domain, 'unknown') AS domain, cluster,
           count(*) AS read,
           count_if(kept = continuation_length) AS survived
    FROM noise
    JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'noise') USING (run_id)
    JOIN memorization USING (run_id, sequence_id)
    WHERE outcome = 'memorized' AND drawn
    GROUP BY ALL
),
domains AS (
    SELECT domain
    FROM documents_of_run
    GROUP BY domain
    ORDER BY sum(read) DESC, domain
    LIMIT $domains
),
documents_beside_domains AS (
    -- Every document counts, those without a domain's sequences with none of it.
    SELECT run_label, non_embedding_parameters, probed, alpha, g.domain, cluster,
           coalesce(sum(read) FILTER (d.domain = g.domain), 0)::BIGINT AS read,
           coalesce(sum(survived) FILTER (d.domain = g.domain), 0)::BIGINT AS survived,
           sum(survived)::BIGINT AS anywhere
    FROM documents_of_run AS d
    CROSS JOIN domains AS g
    GROUP BY run_label, non_embedding_parameters, probed, alpha, g.domain, cluster
),
shares AS (
    SELECT run_label, non_embedding_parameters, probed, alpha, domain,
           sum(read)::BIGINT AS read,
           sum(survived)::BIGINT AS survived,
           sum(anywhere)::BIGINT AS survived_of_all,
           ratio_interval(survived, anywhere) AS share_ends,
           ratio_interval(survived, read) AS survival_ends
    FROM documents_beside_domains
    GROUP BY run_label, non_embedding_parameters, probed, alpha, domain
)
SELECT run_label, domain, alpha, read, survived,
       survived / nullif(survived_of_all, 0) AS share,
       share_ends.low AS share_low,
       share_ends.high AS share_high,
       few_documents(share_ends) AS few_documents,
       survived / nullif(read, 0) AS survival,
       survival_ends.low AS survival_low,
       survival_ends.high AS survival_high,
       probed AS sample
FROM shares
ORDER BY non_embedding_parameters, run_label, domain, alpha
