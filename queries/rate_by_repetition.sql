-- title: Natural and planted repetition
-- question: Is a text that stands often in a corpus by nature known like one that was planted as often?
-- note: Distinct sequences by the number of times they occur (powers of two). Natural ones come with more than their count:
--   their pieces may occur in other text too. So both are shown again without those whose prefix or suffix also occurs
--   apart from the other, or half of whose longest counted n-grams occur twice as often as the whole. 95 % intervals,
--   by document, of planted texts by text.
-- figure: line
-- x: frequency | Occurrences in the corpus
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: run_label
-- order: frequency_bucket
-- panel: kind
-- optional: yes

WITH pieces AS (
    SELECT sequence_id, median_count
    FROM ngram_statistics
    WHERE n = (SELECT max(n) FROM ngram_statistics)
),
repeated AS (
    SELECT run_label, non_embedding_parameters, frequency_bucket, memorized, cluster,
           if(sample = 'planted', 'planted', 'natural') AS repetition,
           prefix_count = sequence_count AND suffix_count = sequence_count AND median_count < 2 * sequence_count AS alone
    FROM memorization
    JOIN pieces USING (sequence_id)
    WHERE sample IN ('bucket', 'planted') AND sequence_count > 0
        AND 'planted' IN (SELECT sample FROM sequences)
),
rates AS (
    SELECT run_label, non_embedding_parameters, repetition, pieces, frequency_bucket,
           count(*) AS sequences,
           count(DISTINCT cluster) AS documents,
           count_if(memorized)::BIGINT AS memorized,
           rate_interval(memorized, cluster) AS ends
    FROM (SELECT *, 'any' AS pieces FROM repeated UNION ALL SELECT *, 'as often as the whole' FROM repeated WHERE alone)
    GROUP BY ALL
)
SELECT run_label, repetition, pieces,
       repetition || if(pieces = 'any', '', ', pieces ' || pieces) AS kind,
       frequency_label(frequency_bucket) AS frequency,
       frequency_bucket, sequences, documents, memorized,
       memorized / sequences AS rate,
       ends.low AS rate_low,
       ends.high AS rate_high
FROM rates
ORDER BY repetition, pieces, non_embedding_parameters, run_label, frequency_bucket
