-- title: Runs beside their controls
-- question: How much of the rate is left where nothing can have been memorized?
-- note: Models that have controls, and like ones of those that never saw the corpus. Shuffled suffixes: the
--   continuation is compared with the suffix of another sequence. Other corpus: a model trained on other text. Unseen
--   text: held-out sequences whose suffix the corpus never holds. 95 % intervals, bootstrapped by document; the scale
--   is logarithmic, with 0 apart.
-- figure: dots
-- x: model | Model
-- y: rate | Completed sequences | percent-log
-- interval: rate_low, rate_high
-- series: condition

WITH conditions AS (
    SELECT run_label, 'the run' AS condition, rate, rate_low, rate_high FROM rate_by_size
    UNION ALL
    SELECT run_label, 'unseen text', rate, rate_low, rate_high FROM unseen_floor WHERE starts_with(held_out, 'unseen')
    UNION ALL
    SELECT model, condition, rate, rate_low, rate_high FROM controls
    WHERE condition NOT IN ('the run', 'unseen text')
),
controlled AS (
    SELECT run_label, architecture, place, size, size_rank, role
    FROM described
    WHERE role = 'other-corpus'
        OR (role = 'size' AND (run_label IN (SELECT model FROM controls)
                               OR (architecture, size) IN (SELECT (architecture, size) FROM described
                                                           WHERE role = 'other-corpus')))
)
SELECT architecture || ' ' || size || CASE WHEN role = 'size' THEN '' ELSE ', other text' END AS model,
       condition, rate, rate_low, rate_high
FROM controlled
JOIN conditions USING (run_label)
ORDER BY place, size_rank, role = 'size' DESC,
         list_position(['the run', 'unseen text', 'shuffled suffixes', 'untrained', 'other corpus'], condition)
