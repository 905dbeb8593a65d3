-- title: Memorization rate by the times that training read a text
-- question: How often must a model read a text in training until it knows it by heart?
-- note: Planted texts by the number of training windows that held the whole of one of their copies: a copy that the
--   edge of a window cut was not read as one text. 95 % intervals, bootstrapped by text.
-- figure: line
-- x: times_read | Times that training read the whole text
-- y: rate | Memorized texts | percent
-- interval: rate_low, rate_high
-- series: size
-- panel: architecture
-- columns: 2
-- order: exposure_bucket
-- apart: 0

SELECT g.architecture, g.size, times_read, exposure_bucket, rate, rate_low, rate_high
FROM grid AS g
JOIN rate_by_exposures USING (run_label)
ORDER BY place, size_rank, exposure_bucket NULLS FIRST
