-- title: Natural and planted repetition
-- question: Is a text that was planted n times known like one that stands n times in the corpus by nature?
-- note: Models of the largest size. Natural: sequences of the corpus by their count, in powers of two; planted: texts
--   in exactly the lowest count of the power. 95 % intervals, bootstrapped by document (natural) and by text
--   (planted).
-- figure: line
-- x: occurrences | Occurrences in the corpus
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: repetition
-- panel: architecture
-- columns: 2
-- order: bucket

WITH both_kinds AS (
    SELECT run_label, 'natural' AS repetition, frequency_bucket AS bucket, rate, rate_low, rate_high
    FROM rate_by_frequency
    WHERE frequency_bucket IS NOT NULL
    UNION ALL
    SELECT run_label, 'planted', floor(log2(sequence_count))::INTEGER, rate, rate_low, rate_high
    FROM rate_by_copies
    WHERE sequence_count > 0 AND log2(sequence_count) = floor(log2(sequence_count))
),
names AS (
    SELECT DISTINCT frequency_bucket AS bucket, frequency AS occurrences
    FROM rate_by_frequency
    WHERE frequency_bucket IS NOT NULL
)
SELECT g.architecture, repetition, bucket,
       coalesce(occurrences, (2 ** bucket)::BIGINT::VARCHAR) AS occurrences, rate, rate_low, rate_high
FROM grid AS g
JOIN both_kinds USING (run_label)
LEFT JOIN names USING (bucket)
WHERE size_rank = (SELECT max(size_rank) FROM grid)
ORDER BY place, repetition, bucket
