-- title: What smaller models tell of the largest
-- question: Do smaller models tell what the largest one of their architecture will memorize?
-- note: Precision: share of the smaller model's memorized sequences that the largest one memorized too. Recall: the
--   same number over the largest one's. 95 % intervals, bootstrapped by document.
-- figure: line
-- x: non_embedding_parameters | Non-embedding parameters of the smaller model | log
-- y: share | Share of memorized sequences | percent
-- interval: share_low, share_high
-- series: architecture
-- panel: measure
-- columns: 2

SELECT g.architecture, g.size, p.non_embedding_parameters, measure, share, share_low, share_high
FROM grid AS g
JOIN predictors AS p ON p.predictor = g.run_label
ORDER BY measure, place, size_rank
