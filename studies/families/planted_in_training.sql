-- title: Planted texts during training
-- question: When in its training does a model know a text of so many copies?
-- note: Models with checkpoints, at their largest size.
-- figure: line
-- x: trained_tokens | Tokens trained on | log
-- y: rate | Memorized texts | percent
-- interval: rate_low, rate_high
-- series: planted_copies
-- panel: architecture
-- columns: 2

WITH trained AS (
    SELECT run_label, architecture, place, size_rank, trained_tokens
    FROM described
    WHERE role IN ('size', 'checkpoint')
    QUALIFY count(*) OVER (PARTITION BY architecture, size) > 1
        AND row_number() OVER (PARTITION BY architecture, size, trained_tokens ORDER BY role = 'size' DESC) = 1
)
SELECT architecture, trained_tokens, copies || ' copies' AS planted_copies, rate, rate_low, rate_high
FROM trained
JOIN rate_by_copies USING (run_label)
WHERE sequence_count IN (32, 64, 128, 256)
QUALIFY size_rank = max(size_rank) OVER (PARTITION BY architecture)
ORDER BY place, sequence_count DESC, trained_tokens
