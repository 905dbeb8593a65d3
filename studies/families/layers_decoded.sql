-- title: When layers know what will be emitted
-- question: At which depth does a model know the token that it will emit?
-- note: The largest probed size. Final norm and unembedding on the residual stream after each layer: mean probability
--   of the emitted token. 95 % intervals, bootstrapped by document.
-- figure: line
-- x: depth | Depth (layer / layers)
-- y: probability | Probability of the emitted token
-- interval: probability_low, probability_high
-- series: outcome
-- panel: architecture
-- columns: 2

SELECT g.architecture, outcome, depth, probability, probability_low, probability_high
FROM grid AS g
JOIN layer_decoding USING (run_label)
QUALIFY size_rank = max(size_rank) OVER (PARTITION BY g.architecture)
ORDER BY place, list_position(['memorized', 'half-memorized', 'unmemorized'], outcome), depth
