-- title: One wrong token in the context
-- question: Which tokens of its context does a model need to go on as it did?
-- note: The largest probed size. One token of the context at a time is replaced by another; the curve is the share of the
--   generated tokens that are lost from the first other one on. 95 % intervals, bootstrapped by document.
-- figure: line
-- x: before | Tokens before the continuation
-- y: lost | Generated tokens lost | percent
-- interval: lost_low, lost_high
-- series: outcome
-- panel: architecture
-- columns: 2

SELECT g.architecture, outcome, before, lost, lost_low, lost_high
FROM grid AS g
JOIN perturbation USING (run_label)
QUALIFY size_rank = max(size_rank) OVER (PARTITION BY g.architecture)
ORDER BY place, list_position(['memorized', 'half-memorized', 'unmemorized'], outcome), before
