-- title: Depth at which tokens pass one half
-- question: Where do memorized and unmemorized tokens pass a probability of 0.5, and half of their final one?

SELECT g.architecture, g.size, kind AS threshold, outcome, depth, depth_low, depth_high
FROM grid AS g
JOIN layer_depth AS d USING (run_label)
WHERE d.threshold = 0.5
ORDER BY place, size_rank, kind, list_position(['memorized', 'half-memorized', 'unmemorized'], outcome)
