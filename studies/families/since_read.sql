-- title: Memorization rate by the time since a text was last read
-- question: Does a model forget what it read long before the end of its training?
-- note: Models of the largest size. Planted texts by the share of training that came after they were last read as a
--   whole (tenths), of some numbers of copies; groups of fewer than five texts are left out. 95 % intervals,
--   bootstrapped by text.
-- figure: line
-- x: last_read | Share of training since the text was last read
-- y: rate | Memorized texts | percent
-- interval: rate_low, rate_high
-- series: planted
-- panel: architecture
-- columns: 2
-- order: tenth

SELECT g.architecture, planted, last_read, tenth, rate, rate_low, rate_high
FROM grid AS g
JOIN rate_by_recency USING (run_label)
WHERE size_rank = (SELECT max(size_rank) FROM grid) AND sequence_count IN (1, 2, 4, 8)
ORDER BY place, sequence_count DESC, tenth
