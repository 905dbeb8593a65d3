-- title: Comparisons of architectures in a row
-- question: Which numbers do the sentences on architectures need?

WITH largest AS (
    SELECT count(*) AS pairs,
           count_if(p_holm < 0.05) AS corrected,
           count_if(difference_low > 0 OR difference_high < 0) AS intervals
    FROM paired_models
    WHERE kind = 'architectures' AND size_rank = (SELECT max(size_rank) FROM grid)
),
everywhere AS (
    -- Corrected for the pairs of all sizes; and, the milder one, for those of each size.
    SELECT count(*) AS pairs_of_all,
           count_if(p_of_all < 0.05) AS corrected_of_all,
           count_if(p_holm < 0.05 AND 'gpt_bigcode' NOT IN (architecture_a, architecture_b)) AS corrected_of_others
    FROM (SELECT *, holm_among(p, list(p) OVER ()) AS p_of_all FROM paired_models WHERE kind = 'architectures')
),
seeds AS (
    SELECT any_value(size) AS size_of_seeds,
           count(*) AS seed_pairs,
           max(abs(difference)) AS rate_difference_seeds,
           min(p) AS p_seeds
    FROM paired_models
    WHERE kind = 'seeds'
),
beside AS (
    -- Pairs of architectures at the size of the second seeds that differ by more than two seeds of one architecture did.
    SELECT count(*) AS pairs_at_seeds,
           count_if(abs(difference) > (SELECT rate_difference_seeds FROM seeds)) AS more_than_seeds
    FROM paired_models
    WHERE kind = 'architectures' AND size IN (SELECT size FROM paired_models WHERE kind = 'seeds')
),
lowest AS (
    SELECT architecture, count(*) AS sizes_lowest
    FROM (
        SELECT g.architecture, size_rank, r.rate FROM grid AS g JOIN rate_by_size AS r USING (run_label)
        QUALIFY rank() OVER (PARTITION BY size_rank ORDER BY r.rate) = 1
    )
    GROUP BY architecture
    ORDER BY sizes_lowest DESC, architecture
    LIMIT 1
),
labels AS (
    -- If the names of architectures meant nothing: the chance that some one is the lowest at every size.
    SELECT count(DISTINCT size_rank) AS sizes,
           count(DISTINCT architecture)::DOUBLE ** (1 - count(DISTINCT size_rank)) AS p_lowest
    FROM grid
),
steps AS (
    -- Neighbouring sizes of one architecture.
    SELECT count(*) AS steps, count_if(rate > before) AS steps_up
    FROM (
        SELECT r.rate, lag(r.rate) OVER (PARTITION BY g.architecture ORDER BY size_rank) AS before
        FROM grid AS g
        JOIN rate_by_size AS r USING (run_label)
    )
    WHERE before IS NOT NULL
)
SELECT * FROM largest, everywhere, seeds, beside, lowest, labels, steps
