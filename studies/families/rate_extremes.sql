-- title: The least and the most memorizing architecture
-- question: How far apart are the architectures at the largest size?

SELECT arg_min(g.architecture, rate) AS least,
       min(rate) AS rate_of_least,
       arg_max(g.architecture, rate) AS most,
       max(rate) AS rate_of_most,
       max(rate) / min(rate) AS ratio,
       any_value(size) AS size
FROM grid AS g
JOIN rate_by_size USING (run_label)
WHERE size_rank = (SELECT max(size_rank) FROM grid)
