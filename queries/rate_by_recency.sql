-- title: Planted sequences by recency
-- question: Does a model forget what it read long before the end of its training?
-- note: Planted texts that training read as a whole, by the share of training that came after the last time (tenths); texts
--   of one number of copies beside each other, because of more copies the last comes later. Groups of fewer than five
--   texts are left out. Known of models that memindex train made of the study's index. 95 % intervals, by
--   text.
-- figure: line
-- x: last_read | Share of training since the text was last read
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: run_label
-- order: tenth
-- panel: planted
-- optional: yes

WITH last_reads AS (
    SELECT run_label, non_embedding_parameters, sequence_id, sequence_count, memorized, score,
           (trained_tokens - last_tokens) / trained_tokens AS since
    FROM memorization
    JOIN exposures USING (model_id, sequence_id)
    WHERE sample = 'planted' AND sequence_count IS NOT NULL AND last_tokens <= trained_tokens
),
rates AS (
    SELECT run_label, non_embedding_parameters, sequence_count,
           least(floor(10 * since)::INTEGER, 9) AS tenth,
           count(*) AS sequences,
           avg(since) AS mean_since,
           count_if(memorized)::BIGINT AS memorized,
           avg(score) AS mean_score,
           rate_interval(memorized, sequence_id) AS ends
    FROM last_reads
    GROUP BY ALL
    HAVING count(*) >= 5
)
SELECT run_label,
       if(sequence_count = 1, '1 copy', sequence_count || ' copies') AS planted,
       10 * tenth || '–' || 10 * (tenth + 1) || ' %' AS last_read,
       sequence_count, tenth, sequences, mean_since, memorized,
       memorized / sequences AS rate,
       ends.low AS rate_low,
       ends.high AS rate_high,
       few_documents(ends) AS few_documents,
       mean_score
FROM rates
ORDER BY rates.sequence_count, non_embedding_parameters, run_label, rates.tenth
