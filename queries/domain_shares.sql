-- title: Domains of memorized sequences
-- question: Which domains are over-represented among what a model memorized?
-- note: The dot is the domain's share of the memorized sequences, the mark its share of the corpus's tokens (known where
--   the index is there). Enrichment is the ratio of the first to the domain's share of all sampled sequences, that over the
--   corpus the ratio to its share of the tokens; documents shorter than a sequence hold tokens but no sequence. Planted
--   documents do not count. The rate is inside the domain. 95 % intervals by document.
-- parameter sample: uniform
-- parameter domains: 20
-- figure: dots
-- x: domain | Domain
-- y: share_memorized | Share of memorized sequences | percent
-- interval: share_low, share_high
-- series: run_label
-- reference: share_corpus | share of the corpus

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
documents_beside_domains AS (
    -- Every document with a memorized sequence counts, those of other domains with none of this one.
    SELECT run_label, l.domain, cluster,
           coalesce(sum(memorized) FILTER (d.domain = l.domain), 0) AS here,
           sum(memorized) AS anywhere
    FROM documents_of_run AS d
    CROSS JOIN largest AS l
    WHERE memorized > 0
    GROUP BY ALL
),
share_intervals AS (
    SELECT run_label, domain, ratio_interval(here, anywhere) AS share_ends
    FROM documents_beside_domains
    GROUP BY run_label, domain
),
of_any_domain AS (
    SELECT run_label, cluster, sum(memorized)::BIGINT AS anywhere, sum(sequences)::BIGINT AS sampled
    FROM documents_of_run
    GROUP BY run_label, cluster
),
-- A domain's interval needs the documents of all others too. Those that are alike in every number are one row.
of_domain AS (
    SELECT run_label, domain, memorized AS here, anywhere, sequences AS sampled_here, sampled, count(*) AS documents
    FROM documents_of_run
    JOIN of_any_domain USING (run_label, cluster)
    GROUP BY ALL
),
alike AS (
    SELECT run_label, domain, here, anywhere, sampled_here, sampled, sum(documents) AS documents
    FROM (
        FROM of_domain
        UNION ALL
        SELECT run_label, domain, 0, anywhere, 0, sampled, -documents FROM of_domain
        UNION ALL
        SELECT run_label, domain, 0, anywhere, 0, sampled, documents
        FROM (SELECT run_label, anywhere, sampled, count(*) AS documents FROM of_any_domain GROUP BY ALL)
        CROSS JOIN (SELECT domain FROM largest)
    )
    SEMI JOIN largest USING (domain)
    GROUP BY ALL
    HAVING sum(documents) > 0
),
enrichment_intervals AS (
    SELECT run_label, domain,
           enrichment_interval(here, anywhere, sampled_here, sampled, documents) AS enrichment_ends
    FROM alike
    GROUP BY run_label, domain
),
planted_files AS (
    SELECT DISTINCT path
    FROM documents
    SEMI JOIN (FROM sequences WHERE sample = 'planted') USING ("index", shard, document)
    WHERE "index" = study_index()
),
planted_tokens AS (
    SELECT domain, sum(tokens) AS planted
    FROM documents
    SEMI JOIN planted_files USING (path)
    WHERE "index" = study_index()
    GROUP BY domain
),
corpus AS (
    SELECT c.domain, tokens - coalesce(planted, 0) AS natural_tokens,
           natural_tokens / sum(natural_tokens) OVER () AS share_corpus
    FROM corpora AS c
    LEFT JOIN planted_tokens AS p ON p.domain IS NOT DISTINCT FROM c.domain
    WHERE "index" = study_index()
)
SELECT run_label, domain, sequences, memorized, share_sample, share_corpus, share_memorized,
       share_ends.low AS share_low,
       share_ends.high AS share_high,
       few_documents(share_ends) AS few_documents,
       share_memorized / share_sample AS enrichment,
       enrichment_ends.low AS enrichment_low,
       enrichment_ends.high AS enrichment_high,
       share_memorized / share_corpus AS enrichment_corpus,
       share_ends.low / share_corpus AS enrichment_corpus_low,
       share_ends.high / share_corpus AS enrichment_corpus_high,
       memorized / sequences AS rate,
       rate_ends.low AS rate_low,
       rate_ends.high AS rate_high
FROM shares
JOIN largest USING (domain)
LEFT JOIN share_intervals USING (run_label, domain)
LEFT JOIN enrichment_intervals USING (run_label, domain)
LEFT JOIN corpus USING (domain)
ORDER BY largest_share DESC, domain, non_embedding_parameters, run_label
