-- title: Exact and approximate memorization
-- question: How much does a model nearly know by heart?
-- note: Of each run: continuations equal to the suffix, those with BLEU-4 above 0.75 (Ippolito et al. 2023), those at most
--   a tenth of the suffix's length in edits away, and those that are one or the other. Of runs that were imported
--   as scores alone, only the first is known. 95 % intervals by document.
-- parameter sample: uniform
-- optional: yes
-- figure: dots
-- x: run_label | Model
-- y: rate | Continuations | percent
-- interval: rate_low, rate_high
-- series: likeness

WITH marks AS (
    SELECT run_label, non_embedding_parameters, cluster, memorized,
           unnest([{'place': 0, 'likeness': 'exact', 'holds': memorized},
                   {'place': 1, 'likeness': 'BLEU above 0.75', 'holds': bleu > 0.75},
                   {'place': 2, 'likeness': 'edits up to a tenth', 'holds': edit_distance * 10 <= coalesce(suffix_length, len(suffix))},
                   {'place': 3, 'likeness': 'either', 'holds': approximate}], recursive := true)
    FROM memorization
    WHERE sample = $sample
)
SELECT run_label, likeness,
       count(holds) AS sequences,
       count_if(holds)::BIGINT AS continuations,
       avg(holds::INTEGER) AS rate,
       rate_interval(holds, cluster).low AS rate_low,
       rate_interval(holds, cluster).high AS rate_high,
       few_documents(rate_interval(holds, cluster)) AS few_documents
FROM marks
GROUP BY run_label, non_embedding_parameters, place, likeness
-- A score tells how near a continuation came only where it is the suffix: those alone would be a rate of 100 %.
HAVING count_if(NOT memorized AND holds IS NOT NULL) > 0 OR count_if(holds IS NULL) = 0
ORDER BY non_embedding_parameters, run_label, place
