-- title: Memorization during training
-- question: When in its training does a model memorize?
-- note: Checkpoints of one training each, and its end; uniform sequences. 95 % intervals, bootstrapped by document.
-- figure: line
-- x: trained_tokens | Tokens trained on | log
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: size
-- panel: architecture
-- columns: 2

WITH trained AS (
    SELECT run_label, architecture, place, size, size_rank, trained_tokens, role
    FROM described
    WHERE role IN ('size', 'checkpoint')
    QUALIFY count(*) OVER (PARTITION BY architecture, size) > 1
        AND row_number() OVER (PARTITION BY architecture, size, trained_tokens ORDER BY role = 'size' DESC) = 1
)
SELECT t.architecture, t.size, t.trained_tokens, rate, rate_low, rate_high
FROM trained AS t
JOIN rate_by_size USING (run_label)
ORDER BY place, size_rank, t.trained_tokens
