-- title: Floor on unseen text
-- question: How much does a model "memorize" of text that it can't have seen?
-- note: Held-out sequences whose suffix the corpus never holds. 95 % intervals, bootstrapped by document.
-- figure: line
-- x: non_embedding_parameters | Non-embedding parameters | log
-- y: rate | Completed sequences | percent
-- interval: rate_low, rate_high
-- series: architecture

SELECT g.architecture, non_embedding_parameters, sequences, memorized, rate, rate_low, rate_high
FROM grid AS g
JOIN unseen_floor USING (run_label)
WHERE starts_with(held_out, 'unseen')
ORDER BY place, non_embedding_parameters
