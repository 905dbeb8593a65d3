-- title: Memorization rate by the times that a text was read, during training
-- question: Does it matter when in its training a model reads a text, or only how often?
-- note: Planted texts, as the checkpoints of one training know them, by the number of training windows until then that held
--   a whole copy. Groups of fewer than ten texts are left out. 95 % intervals, bootstrapped by text.
-- figure: line
-- x: times_read | Times that training had read the whole text
-- y: rate | Memorized texts | percent
-- interval: rate_low, rate_high
-- series: trained_on
-- panel: architecture
-- columns: 2
-- order: exposure_bucket

WITH trained AS (
    SELECT run_label, architecture, place, trained_tokens
    FROM described
    WHERE role IN ('size', 'checkpoint')
    QUALIFY count(*) OVER (PARTITION BY architecture, size) > 1
        AND row_number() OVER (PARTITION BY architecture, size, trained_tokens ORDER BY role = 'size' DESC) = 1
)
SELECT architecture,
       format('after {:.0f}M tokens', trained_tokens / 1e6) AS trained_on,
       times_read, exposure_bucket, rate, rate_low, rate_high
FROM trained
JOIN rate_by_exposures USING (run_label)
WHERE exposure_bucket >= 2 AND sequences >= 10
ORDER BY place, trained_tokens, exposure_bucket
