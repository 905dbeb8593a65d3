-- title: Natural and planted repetition in numbers
-- question: How many sequences, of how many documents, are behind the rates of natural and planted repetition?
-- note: The largest size, all architectures together; in brackets the architectures with the lowest and the highest
--   rate. Sequences and documents of one model; every planted text is a document of its own.

WITH natural_rates AS (
    SELECT frequency_bucket AS bucket, frequency,
           max(sequences) AS sequences,
           max(documents) AS documents,
           sum(memorized) / sum(sequences) AS rate,
           min(rate) AS rate_low,
           max(rate) AS rate_high
    FROM rate_by_frequency
    JOIN grid AS g USING (run_label)
    WHERE frequency_bucket IS NOT NULL AND size_rank = (SELECT max(size_rank) FROM grid)
    GROUP BY ALL
),
planted_rates AS (
    SELECT floor(log2(sequence_count))::INTEGER AS bucket,
           max(sequences) AS texts,
           sum(memorized) / sum(sequences) AS rate,
           min(rate) AS rate_low,
           max(rate) AS rate_high
    FROM rate_by_copies
    JOIN grid AS g USING (run_label)
    WHERE sequence_count > 0 AND size_rank = (SELECT max(size_rank) FROM grid)
        AND log2(sequence_count) = floor(log2(sequence_count))
    GROUP BY bucket
)
SELECT coalesce(frequency, (2 ** bucket)::BIGINT::VARCHAR) AS occurrences,
       n.sequences, n.documents,
       n.rate AS rate_natural,
       n.rate_low AS rate_natural_low,
       n.rate_high AS rate_natural_high,
       texts AS planted_texts,
       p.rate AS rate_planted,
       p.rate_low AS rate_planted_low,
       p.rate_high AS rate_planted_high
FROM natural_rates AS n
FULL JOIN planted_rates AS p USING (bucket)
ORDER BY bucket
