-- title: Memorization rate by model size
-- question: How does the share of memorized sequences grow with the size of the model, inside one architecture?
-- note: The rate has Wilson's 95 % interval; the line is the least-squares fit rate = intercept + slope · log10(parameters),
--   with the slope per tenfold size, its 95 % interval (Student's t) and R², from three models on.
-- parameter sample: uniform
-- figure: points
-- x: non_embedding_parameters | Non-embedding parameters | log
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: architecture
-- label: run_label
-- fit: fitted

WITH rates AS (
    SELECT architecture, run_label, non_embedding_parameters,
           count(*) AS sequences,
           count_if(memorized)::BIGINT AS memorized,
           avg(memorized::INTEGER) AS rate
    FROM memorization
    WHERE sample = $sample
    GROUP BY ALL
),
points AS (
    SELECT architecture, log10(non_embedding_parameters) AS x, rate AS y
    FROM rates
    WHERE non_embedding_parameters > 0
),
fits AS (
    SELECT architecture,
           count(*) AS models,
           regr_slope(y, x) AS slope,
           regr_intercept(y, x) AS intercept,
           regr_r2(y, x) AS r2,
           sqrt(greatest(regr_syy(y, x) - regr_sxy(y, x) ** 2 / regr_sxx(y, x), 0)
                / (count(*) - 2) / regr_sxx(y, x)) AS slope_error
    FROM points
    GROUP BY architecture
    HAVING count(*) >= 3 AND regr_sxx(y, x) > 0
)
SELECT run_label, architecture, non_embedding_parameters, sequences, memorized, rate,
       wilson_low(memorized, sequences) AS rate_low,
       wilson_high(memorized, sequences) AS rate_high,
       slope AS slope_per_tenfold,
       slope - t975(models - 2) * slope_error AS slope_low,
       slope + t975(models - 2) * slope_error AS slope_high,
       r2,
       CASE WHEN non_embedding_parameters > 0
            THEN intercept + slope * log10(non_embedding_parameters) END AS fitted
FROM rates
LEFT JOIN fits USING (architecture)
ORDER BY architecture, non_embedding_parameters, run_label
