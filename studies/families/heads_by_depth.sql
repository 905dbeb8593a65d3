-- title: Depth of the heads that memorization needs
-- question: At which depth of a model do the attention heads lie that it needs for what it memorized?
-- note: Mean drop of the memorization score when one head of the layer is replaced. 95 % intervals, bootstrapped by
--   document.
-- figure: line
-- x: depth | Depth (layer / layers)
-- y: importance | Drop of the score | percent
-- interval: importance_low, importance_high
-- series: size
-- panel: architecture
-- columns: 2

SELECT g.architecture, g.size, depth, importance, importance_low, importance_high
FROM grid AS g
JOIN head_depth USING (run_label)
ORDER BY place, size_rank, depth
