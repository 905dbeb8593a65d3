-- title: Recovery from noise
-- question: How much of the similarity that noise costs do later layers win back, of memorized sequences and of
--   others?
-- note: The largest probed size. Cosine of noised and clean residual stream: its highest value after the lowest,
--   minus the lowest. 95 % intervals, bootstrapped by document.
-- figure: line
-- x: alpha | Strength of the noise
-- y: recovery | Recovery of the cosine
-- interval: recovery_low, recovery_high
-- series: outcome
-- panel: architecture
-- columns: 2

SELECT g.architecture, outcome, alpha, recovery, recovery_low, recovery_high
FROM grid AS g
JOIN noise_recovery USING (run_label)
QUALIFY size_rank = max(size_rank) OVER (PARTITION BY g.architecture)
ORDER BY place, list_position(['memorized', 'half-memorized', 'unmemorized'], outcome), alpha
