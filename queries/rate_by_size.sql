-- title: Memorization rate by model size
-- question: How does the share of memorized sequences grow with the size of the model, inside one family?
-- note: The rate has its 95 % interval by document; the line is the least-squares fit rate = intercept +
--   slope · log10(parameters), with the slope per tenfold size and R², from three sizes on. Several runs of one model, and
--   models of one size (seeds), are one point of the fit, at the mean of their rates; of checkpoints of one size only the
--   last takes part. The slope has two 95 % intervals: with other documents (jackknife), and with other models of the
--   family (Student's t). A model of no published family is grouped by its architecture.
-- parameter sample: uniform
-- figure: points
-- x: non_embedding_parameters | Non-embedding parameters | log
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: family
-- label: run_label
-- fit: fitted

WITH marks AS (
    SELECT coalesce(family, architecture, 'other') AS family, architecture, model_id, run_label, non_embedding_parameters,
           CASE WHEN non_embedding_parameters > 0 THEN log10(non_embedding_parameters) END AS x,
           training_order(trained_tokens, revision) AS training,
           memorized, cluster
    FROM memorization
    WHERE sample = $sample
),
rates AS (
    SELECT family, architecture, model_id, run_label, non_embedding_parameters, training,
           count(*) AS sequences,
           count_if(memorized)::BIGINT AS memorized,
           avg(memorized::INTEGER) AS rate,
           rate_interval(memorized, cluster) AS ends
    FROM marks
    GROUP BY ALL
),
models AS (
    SELECT family, model_id, x, avg(memorized::INTEGER) AS y, any_value(training) AS training
    FROM marks
    WHERE x IS NOT NULL
    GROUP BY family, model_id, x
),
fitted_models AS (
    SELECT family, model_id, x, y
    FROM models
    QUALIFY training = max(training) OVER (PARTITION BY family, x)
),
-- Models of one size differ by their seeds: one point.
points AS (
    SELECT family, x, avg(y ORDER BY y) AS y
    FROM fitted_models
    GROUP BY family, x
),
-- In order: sums of fractions depend on the order of their terms.
sums AS (
    SELECT family,
           count(*) AS models,
           regr_slope(y, x ORDER BY x, y) AS slope,
           regr_intercept(y, x ORDER BY x, y) AS intercept,
           regr_r2(y, x ORDER BY x, y) AS r2,
           regr_sxx(y, x ORDER BY x, y) AS sxx,
           regr_sxy(y, x ORDER BY x, y) AS sxy,
           regr_syy(y, x ORDER BY x, y) AS syy
    FROM points
    GROUP BY family
),
fits AS (
    SELECT family, models, slope, intercept, r2, sqrt(greatest(syy - sxy ** 2 / sxx, 0) / (models - 2) / sxx) AS slope_error
    FROM sums
    WHERE models >= 3 AND sxx > 0
),
slopes AS (
    SELECT family, slope_interval(marks.x, marks.x, memorized, cluster) AS slope_ends
    FROM marks
    SEMI JOIN fitted_models USING (family, model_id)
    SEMI JOIN fits USING (family)
    GROUP BY family
)
SELECT run_label, model_id, family, architecture, non_embedding_parameters,
       training = max(training) OVER (PARTITION BY family, non_embedding_parameters) AS last_checkpoint,
       sequences, memorized, rate,
       ends.low AS rate_low,
       ends.high AS rate_high,
       few_documents(ends) AS few_documents,
       slope AS slope_per_tenfold,
       slope_ends.low AS slope_low,
       slope_ends.high AS slope_high,
       slope - t975(models - 2) * slope_error AS slope_models_low,
       slope + t975(models - 2) * slope_error AS slope_models_high,
       r2,
       intercept + slope * CASE WHEN non_embedding_parameters > 0 THEN log10(non_embedding_parameters) END AS fitted
FROM rates
LEFT JOIN fits USING (family)
LEFT JOIN slopes USING (family)
ORDER BY family, non_embedding_parameters, training, run_label
