-- title: Frequency of tokens and n-grams
-- question: Are the tokens and n-grams of memorized sequences more frequent than those of others?
-- note: Mean of log2 of a sequence's mean count of its single tokens, and of its n-grams, in the corpus; with the
--   models' own tokenizer. 95 % intervals, bootstrapped by document.
-- figure: line
-- x: non_embedding_parameters | Non-embedding parameters | log
-- y: mean_log2_count | Mean log2 of the mean count
-- interval: mean_low, mean_high
-- series: outcome
-- dashes: ngrams
-- panel: architecture
-- columns: 2

SELECT g.architecture, non_embedding_parameters, ngrams, outcome, mean_log2_count, mean_low, mean_high
FROM grid AS g
JOIN ngram_frequency USING (run_label)
ORDER BY place, n, outcome_rank DESC, size_rank
