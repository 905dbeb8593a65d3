-- title: Output under noise
-- question: How much of what models generate survives noise?
-- note: The largest probed size. Generated tokens that are still generated, before the first other one. 95 %
--   intervals, bootstrapped by document.
-- figure: line
-- x: alpha | Strength of the noise
-- y: kept | Generated tokens kept | percent
-- interval: kept_low, kept_high
-- series: outcome
-- panel: architecture
-- columns: 2

SELECT g.architecture, outcome, alpha, kept, kept_low, kept_high
FROM grid AS g
JOIN noise_output USING (run_label)
QUALIFY size_rank = max(size_rank) OVER (PARTITION BY g.architecture)
ORDER BY place, list_position(['memorized', 'half-memorized', 'unmemorized'], outcome), alpha
