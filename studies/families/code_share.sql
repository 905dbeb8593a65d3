-- title: Code among what was memorized
-- question: Does the share of code among the memorized sequences change with size?
-- note: Sequences of C++ and Python among all that a model memorized.
-- figure: line
-- x: non_embedding_parameters | Non-embedding parameters | log
-- y: share_code | Share of code | percent
-- series: architecture

SELECT g.architecture, non_embedding_parameters,
       sum(memorized) FILTER (domain IN (FROM code_domains)) / nullif(sum(memorized), 0) AS share_code
FROM grid AS g
JOIN domain_shares USING (run_label)
GROUP BY g.architecture, place, non_embedding_parameters
ORDER BY place, non_embedding_parameters
