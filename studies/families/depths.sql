-- title: Depth at which tokens are decided, by threshold
-- question: Are memorized tokens decided earlier, whichever threshold says when a token is decided?
-- note: The largest probed size; memorized and unmemorized sequences. Depth of the first layer after which the
--   token's probability passes the threshold: an absolute one (of the tokens that reach it), or a share of the
--   token's final probability (relative, of all tokens).
-- figure: line
-- x: threshold | Threshold
-- y: depth | Depth (layer / layers)
-- interval: depth_low, depth_high
-- series: outcome
-- dashes: kind
-- panel: architecture
-- columns: 2

SELECT g.architecture, outcome, kind, threshold, depth, depth_low, depth_high
FROM grid AS g
JOIN layer_depth USING (run_label)
WHERE outcome <> 'half-memorized'
QUALIFY size_rank = max(size_rank) OVER (PARTITION BY g.architecture)
ORDER BY place, outcome, kind, threshold
