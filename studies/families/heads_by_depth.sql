-- title: Depth of the heads that memorization needs
-- question: At which depth of a model do the attention heads lie that it needs for what it memorized?
-- note: Mean drop of the memorization score when one head of the layer is replaced, over its mean in all layers of the
--   model. 95 % intervals, bootstrapped by document.
-- figure: line
-- x: depth | Depth (layer / layers)
-- y: relative | Drop of the score, over its mean
-- interval: relative_low, relative_high
-- series: size
-- panel: architecture
-- columns: 2

SELECT g.architecture, g.size, depth,
       importance / mean AS relative,
       importance_low / mean AS relative_low,
       importance_high / mean AS relative_high
FROM grid AS g
JOIN (SELECT *, avg(importance) OVER (PARTITION BY run_label) AS mean FROM head_depth) USING (run_label)
ORDER BY place, size_rank, depth
