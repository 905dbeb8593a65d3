-- title: Precision and recall
-- question: How well do smaller models and earlier checkpoints predict the largest model of their architecture?

SELECT d.architecture, d.size,
       d.trained_tokens,
       max(memorized) AS memorized,
       max(share) FILTER (measure = 'precision') AS precision,
       max(share_low) FILTER (measure = 'precision') AS precision_low,
       max(share_high) FILTER (measure = 'precision') AS precision_high,
       max(share) FILTER (measure = 'recall') AS recall,
       max(share_low) FILTER (measure = 'recall') AS recall_low,
       max(share_high) FILTER (measure = 'recall') AS recall_high
FROM described AS d
JOIN predictors AS p ON p.predictor = d.run_label
WHERE role = 'size' OR (role = 'checkpoint' AND size_rank = (SELECT max(size_rank) FROM grid))
GROUP BY d.architecture, place, d.size, size_rank, d.trained_tokens
ORDER BY place, size_rank, d.trained_tokens
