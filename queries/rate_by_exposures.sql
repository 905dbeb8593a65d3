-- title: Planted sequences by exposure
-- question: How often must a model read a text in training until it knows it by heart?
-- note: Planted texts by the number of training windows that held the whole of one of their copies (powers of two): a copy
--   that the edge of a window cut was not read as one text, and more than one pass reads a copy again. Texts of 0 were
--   never planted, or never read as a whole. Known of models that memindex train made of the study's index. 95 %
--   intervals by text.
-- figure: line
-- x: times_read | Times that training read the whole text
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: run_label
-- order: exposure_bucket
-- apart: 0
-- optional: yes

WITH rates AS (
    SELECT run_label, non_embedding_parameters,
           CASE WHEN exposures > 0 THEN floor(log2(exposures))::INTEGER ELSE -1 END AS exposure_bucket,
           count(*) AS sequences,
           avg(exposures) AS mean_exposures,
           count_if(memorized)::BIGINT AS memorized,
           avg(score) AS mean_score,
           rate_interval(memorized, sequence_id) AS ends
    FROM memorization
    JOIN exposures USING (model_id, sequence_id)
    WHERE sample = 'planted'
    GROUP BY ALL
)
SELECT run_label,
       CASE WHEN exposure_bucket < 0 THEN '0' ELSE frequency_label(exposure_bucket) END AS times_read,
       nullif(exposure_bucket, -1) AS exposure_bucket,
       sequences, mean_exposures, memorized,
       memorized / sequences AS rate,
       ends.low AS rate_low,
       ends.high AS rate_high,
       few_documents(ends) AS few_documents,
       mean_score
FROM rates
ORDER BY non_embedding_parameters, run_label, rates.exposure_bucket
