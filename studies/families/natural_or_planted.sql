-- title: Natural and planted repetition
-- question: Is a text that was planted n times known like one that stands n times in the corpus by nature?
-- note: Models of the largest size. Sequences by their count, in powers of two; planted ones have exactly the lowest of it.
--   Bound pieces: neither prefix nor suffix occurs apart from the other, and half of the 5-grams occur less than twice as
--   often as the whole. Groups of fewer than ten are left out. 95 % intervals, bootstrapped by document (natural) and by
--   text (planted).
-- figure: line
-- x: frequency | Occurrences in the corpus
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: repetition
-- panel: architecture
-- columns: 2
-- order: frequency_bucket

SELECT g.architecture,
       repetition || if(pieces = 'any', '', ', bound pieces') AS repetition,
       frequency, frequency_bucket, rate, rate_low, rate_high
FROM grid AS g
JOIN rate_by_repetition USING (run_label)
WHERE size_rank = (SELECT max(size_rank) FROM grid) AND sequences >= 10
    AND (repetition = 'natural' OR pieces = 'any')
ORDER BY place, repetition, pieces, frequency_bucket
