-- title: Memorization rate by frequency
-- question: How often must a sequence stand in the corpus until a model knows it by heart?
-- note: Distinct sequences are grouped by the number of times they occur (powers of two); a study without a bucket sample
--   falls back on the uniform one, and without that on imported sequences. "Unseen" are held-out sequences whose suffix
--   the index counts zero times: what a model completes there it has not memorized. Held-out sequences that as a whole
--   never occur, but whose suffix does, are in the query unseen_floor. 95 % intervals by document.
-- figure: line
-- x: frequency | Occurrences in the corpus
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: run_label
-- order: frequency_bucket
-- apart: unseen

WITH rates AS (
    SELECT run_label, non_embedding_parameters,
           CASE WHEN unseen THEN 'unseen' ELSE frequency_label(frequency_bucket) END AS frequency,
           coalesce(frequency_bucket, -1) AS frequency_bucket,
           count(*) AS sequences,
           count(DISTINCT cluster) AS documents,
           count_if(memorized)::BIGINT AS memorized,
           rate_interval(memorized, cluster) AS ends
    FROM memorization
    WHERE unseen
       OR (sample = (SELECT arg_min(sample, list_position(['bucket', 'uniform', 'imported'], sample)) FROM sequences)
           AND frequency_bucket IS NOT NULL)
    GROUP BY ALL
)
SELECT run_label, frequency, nullif(frequency_bucket, -1) AS frequency_bucket,
       sequences, documents, memorized,
       memorized / sequences AS rate,
       ends.low AS rate_low,
       ends.high AS rate_high,
       few_documents(ends) AS few_documents
FROM rates
ORDER BY non_embedding_parameters, run_label, rates.frequency_bucket
