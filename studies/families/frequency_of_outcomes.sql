-- title: Frequency of memorized, half-memorized and unmemorized sequences
-- question: Do memorized sequences occur more often than others, for every architecture and size?
-- note: Mean of log2 of the number of times that a sequence occurs in the corpus: 0 is once, 1 twice. Memorized:
--   score 1; unmemorized: score 0; half-memorized: between. 95 % intervals, bootstrapped by document.
-- figure: line
-- x: non_embedding_parameters | Non-embedding parameters | log
-- y: mean_log2_count | Mean log2 of occurrences
-- interval: mean_low, mean_high
-- series: outcome
-- panel: architecture
-- columns: 2

SELECT g.architecture, non_embedding_parameters, outcome, mean_log2_count, mean_low, mean_high, sequences
FROM grid AS g
JOIN frequency_of_memorized USING (run_label)
ORDER BY place, outcome_rank DESC, size_rank
