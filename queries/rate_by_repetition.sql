-- title: Natural and planted repetition
-- question: Is a text that occurs often in a corpus by nature known as well as one that was planted as often?
-- note: Distinct sequences by the number of times they occur (powers of two). Natural ones come with more than their count:
--   their pieces may occur in other text too. So both are shown again without those whose prefix or suffix also occurs
--   apart from the other, or half of whose longest counted n-grams occur twice as often as the whole. planted_rate is the
--   rate of planted texts at the counts of the natural sequences of a row, interpolated over the logarithm of the copies,
--   and difference the natural rate minus it; both are empty where natural counts exceed the most copies. 95 % intervals
--   by document, of planted texts by text; of the difference from both (MOVER, Zou and Donner 2008).
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
    SELECT run_label, non_embedding_parameters, frequency_bucket, sequence_count, memorized, cluster,
           if(sample = 'planted', 'planted', 'natural') AS repetition,
           prefix_count = sequence_count AND suffix_count = sequence_count AND median_count < 2 * sequence_count AS alone
    FROM memorization
    JOIN pieces USING (sequence_id)
    WHERE sample IN ('bucket', 'planted') AND sequence_count > 0
        AND 'planted' IN (SELECT sample FROM sequences)
),
kinds AS (SELECT *, 'any' AS pieces FROM repeated UNION ALL SELECT *, 'as often as the whole' FROM repeated WHERE alone),
rates AS (
    SELECT run_label, non_embedding_parameters, repetition, pieces, frequency_bucket,
           count(*) AS sequences,
           count(DISTINCT cluster) AS documents,
           count_if(memorized)::BIGINT AS memorized,
           rate_interval(memorized, cluster) AS ends
    FROM kinds
    GROUP BY ALL
),
doses AS (
    SELECT run_label, sequence_count AS copies,
           avg(memorized::INTEGER) AS rate,
           rate_interval(memorized, cluster) AS ends,
           lead(sequence_count) OVER (PARTITION BY run_label ORDER BY sequence_count) AS next_copies
    FROM repeated
    WHERE repetition = 'planted'
    GROUP BY run_label, sequence_count
),
-- What each dose counts for the natural sequences of a row. Sums of fractions depend on the order of their terms.
counts AS (
    SELECT run_label, pieces, frequency_bucket, sequence_count, sequences,
           sum(sequences) OVER (PARTITION BY run_label, pieces, frequency_bucket) AS of_row
    FROM (
        SELECT run_label, pieces, frequency_bucket, sequence_count, count(*) AS sequences
        FROM kinds
        WHERE repetition = 'natural'
        GROUP BY ALL
    )
),
between_doses AS (
    SELECT c.*, copies, next_copies,
           coalesce(log2(sequence_count / copies) / log2(next_copies / copies), 0) AS part
    FROM counts AS c
    JOIN doses AS d ON d.run_label = c.run_label AND copies <= sequence_count
        AND (sequence_count < next_copies OR sequence_count = copies)
),
weights AS (
    SELECT run_label, pieces, frequency_bucket, dose.copies,
           sum(sequences / of_row * dose.weight ORDER BY sequence_count, dose.weight) AS weight
    FROM (
        SELECT *, unnest([{'copies': copies, 'weight': 1 - part}, {'copies': next_copies, 'weight': part}]) AS dose
        FROM between_doses
    )
    WHERE dose.weight > 0
    GROUP BY ALL
),
equal_doses AS (
    SELECT run_label, pieces, frequency_bucket, 'natural' AS repetition,
           sum(weight * rate ORDER BY copies) AS planted_rate,
           if(count(low) = count(*), sqrt(sum((weight * (rate - low)) ** 2 ORDER BY copies)), NULL) AS below,
           if(count(low) = count(*), sqrt(sum((weight * (high - rate)) ** 2 ORDER BY copies)), NULL) AS above
    FROM weights
    JOIN (SELECT *, ends.low, ends.high FROM doses) USING (run_label, copies)
    GROUP BY run_label, pieces, frequency_bucket
    -- Every natural sequence has its dose.
    HAVING sum(weight) > 1 - 1e-9
),
compared AS (
    SELECT *, memorized / sequences AS rate
    FROM rates
    LEFT JOIN equal_doses USING (run_label, pieces, frequency_bucket, repetition)
)
SELECT run_label, repetition, pieces,
       repetition || if(pieces = 'any', '', ', pieces ' || pieces) AS kind,
       frequency_label(frequency_bucket) AS frequency,
       frequency_bucket, sequences, documents, memorized, rate,
       ends.low AS rate_low,
       ends.high AS rate_high,
       few_documents(ends) AS few_documents,
       planted_rate,
       planted_rate - below AS planted_low,
       planted_rate + above AS planted_high,
       rate - planted_rate AS difference,
       rate - planted_rate - sqrt((rate - ends.low) ** 2 + above ** 2) AS difference_low,
       rate - planted_rate + sqrt((ends.high - rate) ** 2 + below ** 2) AS difference_high
FROM compared
ORDER BY repetition, pieces, non_embedding_parameters, run_label, frequency_bucket
