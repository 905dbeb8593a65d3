-- title: Equal reads, earlier and later in training
-- question: Does a checkpoint know fewer of the texts that it has read as often as the finished model has?
-- note: Planted texts by the times that training had read them until then; groups of ten texts and more. Rates over all
--   architectures together. Lower: architectures whose checkpoint knows less. p: exact sign test over architectures, and after
--   Holm's correction for the rows of the table; six of six give 0.03
--   before it.

WITH trained AS (
    SELECT run_label, architecture, size, trained_tokens, role
    FROM described
    WHERE role IN ('size', 'checkpoint')
),
finished AS (
    SELECT t.architecture, t.size, exposure_bucket, memorized, sequences, rate
    FROM trained AS t
    JOIN rate_by_exposures AS r USING (run_label)
    WHERE role = 'size' AND sequences >= 10
),
pairs AS (
    SELECT t.trained_tokens, r.times_read, exposure_bucket, r.memorized, r.sequences, r.rate,
           f.memorized AS memorized_end, f.sequences AS sequences_end, f.rate AS rate_end
    FROM trained AS t
    JOIN rate_by_exposures AS r USING (run_label)
    JOIN finished AS f USING (architecture, size, exposure_bucket)
    WHERE role = 'checkpoint' AND r.sequences >= 10 AND exposure_bucket >= 2
),
signs AS (
    SELECT trained_tokens, times_read, exposure_bucket,
           count(*) AS architectures,
           sum(memorized) / sum(sequences) AS rate_of_checkpoints,
           sum(memorized_end) / sum(sequences_end) AS rate_at_the_end,
           count_if(rate < rate_end)::BIGINT AS lower,
           count_if(rate <> rate_end)::BIGINT AS unequal
    FROM pairs
    GROUP BY trained_tokens, times_read, exposure_bucket
),
tested AS (SELECT *, sign_test(lower, unequal) AS p FROM signs)
SELECT format('{:.0f}M', trained_tokens / 1e6) AS after_tokens, times_read, architectures,
       rate_of_checkpoints, rate_at_the_end, lower,
       p_text(p) AS p,
       p_text(holm_among(p, list(p) OVER ())) AS p_corrected
FROM tested
ORDER BY exposure_bucket, trained_tokens
