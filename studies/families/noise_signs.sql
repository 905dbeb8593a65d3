-- title: Is less noise removed from memorized sequences?
-- question: In how many models do memorized sequences recover less than unmemorized ones, by either measure?
-- note: Under the strongest noise. Peak: the highest cosine after the lowest, minus the lowest; never negative. Last layer: the
--   cosine after the last layer. Less: models in which memorized sequences have less of it than unmemorized ones. p: exact sign
--   test over models of all sizes, and after Holm's correction for the rows of the table.

WITH recoveries AS (
    SELECT 'as drawn' AS sequences, run_label, alpha, outcome, recovery, last FROM noise_recovery
    UNION ALL
    SELECT 'matched', run_label, alpha, outcome, recovery, last FROM noise_recovery__matched
),
strongest AS (
    SELECT * FROM recoveries SEMI JOIN grid USING (run_label)
    QUALIFY alpha = max(alpha) OVER (PARTITION BY run_label, sequences)
),
differences AS (
    SELECT sequences, run_label,
           max(recovery) FILTER (outcome = 'memorized') - max(recovery) FILTER (outcome = 'unmemorized') AS peak,
           max(last) FILTER (outcome = 'memorized') - max(last) FILTER (outcome = 'unmemorized') AS at_the_end
    FROM strongest
    GROUP BY sequences, run_label
),
signs AS (
    SELECT sequences, measure, count_if(difference <> 0)::BIGINT AS models, count_if(difference < 0)::BIGINT AS less
    FROM (
        SELECT sequences, 'peak' AS measure, peak AS difference FROM differences
        UNION ALL
        SELECT sequences, 'last layer', at_the_end FROM differences
    )
    WHERE difference IS NOT NULL
    GROUP BY sequences, measure
),
tested AS (SELECT *, sign_test(less, models) AS p FROM signs)
SELECT sequences, measure, models, less,
       p_text(p) AS p,
       p_text(holm_among(p, list(p) OVER ())) AS p_corrected
FROM tested
ORDER BY sequences, measure DESC
