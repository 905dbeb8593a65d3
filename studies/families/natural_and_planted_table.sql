-- title: Natural and planted repetition in numbers
-- question: How many sequences, of how many documents, are behind the rates of natural and planted repetition?
-- note: The largest size, all architectures together; in brackets the architectures with the lowest and the highest
--   rate. Sequences and documents of one model; every planted text is a document of its own.

SELECT frequency AS occurrences,
       repetition || if(pieces = 'any', '', ', bound pieces') AS repetition,
       max(sequences) AS sequences,
       max(documents) AS documents,
       sum(memorized) / sum(sequences) AS rate,
       min(rate) AS rate_low,
       max(rate) AS rate_high
FROM grid AS g
JOIN rate_by_repetition USING (run_label)
WHERE size_rank = (SELECT max(size_rank) FROM grid)
GROUP BY frequency, frequency_bucket, repetition, pieces
ORDER BY frequency_bucket, 2
