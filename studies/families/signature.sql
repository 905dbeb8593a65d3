-- title: Do models of an architecture need the same layers?
-- question: Is the importance of heads over the depth of a model a signature of its architecture?
-- note: Correlation (Pearson) of two models' importance by relative depth; negative ones are shown as 0. Models of
--   few layers have few different values, and correlate by chance; models of different shape are compared at equal
--   relative depth.
-- figure: cells
-- x: model_b | Model
-- y: positive | Correlation
-- series: model_a

SELECT a.architecture || ' ' || a.size AS model_a, b.architecture || ' ' || b.size AS model_b, correlation, positive
FROM head_signature
JOIN grid AS a ON a.run_label = run_a
JOIN grid AS b ON b.run_label = run_b
ORDER BY a.place, a.size_rank, b.place, b.size_rank
