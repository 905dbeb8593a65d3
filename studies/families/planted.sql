-- title: Memorization rate by planted copies
-- question: How many copies must be planted until a model knows a text by heart?
-- note: Texts that the corpus lacked, planted in the given number of copies; 0 copies are texts of the same kind that were never
--   planted. 95 % intervals, bootstrapped by text.
-- figure: line
-- x: copies | Copies in the corpus
-- y: rate | Memorized texts | percent
-- interval: rate_low, rate_high
-- series: size
-- panel: architecture
-- columns: 2
-- order: sequence_count

SELECT g.architecture, g.size, copies, sequence_count, rate, rate_low, rate_high, sequences
FROM grid AS g
JOIN rate_by_copies USING (run_label)
ORDER BY place, size_rank, sequence_count
