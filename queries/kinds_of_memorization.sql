-- title: Recitation, reconstruction, recollection
-- question: Is a sequence memorized because it occurs often, because it follows a template, or for neither reason?
-- note: After Prashanth et al. (2024). Recitation: more than 5 (the parameter duplicates) occurrences elsewhere in the
--   corpus. Reconstruction: of the others, those whose suffix follows a template of the prefix: every token equals the one
--   p places before it, or its id rises by the same step as there. Numbers of several tokens count as rising only as far as
--   their tokens' ids do, so reconstruction is counted low and recollection, which is all the rest, high. The rate is that
--   of all sequences of the kind. 95 % intervals by document.
-- parameter sample: uniform
-- parameter duplicates: 5
-- figure: dots
-- x: run_label | Model
-- y: share_memorized | Share of memorized sequences | percent
-- interval: share_low, share_high
-- series: kind

WITH templates AS (
    SELECT sequence_id, template(prefix, suffix) AS template
    FROM sequences
    WHERE sample = $sample
),
kinds AS (
    SELECT run_label, non_embedding_parameters, cluster, memorized,
           CASE WHEN duplicates > $duplicates THEN 0 WHEN template <> 'none' THEN 1 ELSE 2 END AS kind
    FROM memorization
    JOIN templates USING (sequence_id)
    WHERE duplicates IS NOT NULL AND template IS NOT NULL
),
documents_of_run AS (
    SELECT run_label, non_embedding_parameters, cluster,
           count_if(memorized) AS memorized,
           [count_if(kind = 0), count_if(kind = 1), count_if(kind = 2)] AS of_kind,
           [count_if(memorized AND kind = 0), count_if(memorized AND kind = 1), count_if(memorized AND kind = 2)]
               AS known_of_kind
    FROM kinds
    GROUP BY ALL
),
rates AS (
    SELECT run_label, non_embedding_parameters, kind,
           sum(of_kind[kind + 1])::BIGINT AS sequences,
           sum(known_of_kind[kind + 1])::BIGINT AS known,
           sum(memorized)::BIGINT AS known_of_all,
           ratio_interval(known_of_kind[kind + 1], memorized) AS share_ends,
           ratio_interval(known_of_kind[kind + 1], of_kind[kind + 1]) AS rate_ends
    FROM documents_of_run
    CROSS JOIN (SELECT unnest(range(3)) AS kind)
    GROUP BY ALL
)
SELECT run_label, ['recitation', 'reconstruction', 'recollection'][kind + 1] AS kind,
       sequences, known AS memorized,
       known / nullif(known_of_all, 0) AS share_memorized,
       share_ends.low AS share_low,
       share_ends.high AS share_high,
       few_documents(share_ends) AS few_documents,
       known / nullif(sequences, 0) AS rate,
       rate_ends.low AS rate_low,
       rate_ends.high AS rate_high
FROM rates
ORDER BY non_embedding_parameters, run_label, rates.kind
