-- title: Slopes of the memorization rate
-- question: How many points does the rate rise when a model becomes ten times as large?
-- note: Percentage points per tenfold size, of the line through one model per size. With other models: the interval by Student's
--   t, of which four sizes leave two degrees of freedom. With other documents: bootstrapped; not known where the exported fit
--   took a second seed as one more size. R² of the line, and of a power law (a line through the logarithms of the rates).

SELECT f.architecture,
       slope AS slope_with_other_models,
       f.slope_low AS slope_with_other_models_low,
       f.slope_high AS slope_with_other_models_high,
       if(exported, slope, NULL) AS slope_with_other_documents,
       if(exported, e.slope_low, NULL) AS slope_with_other_documents_low,
       if(exported, e.slope_high, NULL) AS slope_with_other_documents_high,
       f.r2 AS "R²",
       r2_power_law AS "R²_of_a_power_law"
FROM size_fits AS f
JOIN (
    SELECT g.architecture,
           any_value(r.slope_low) AS slope_low,
           any_value(r.slope_high) AS slope_high,
           any_value(r.slope_per_tenfold) AS slope_exported
    FROM grid AS g
    JOIN rate_by_size AS r USING (run_label)
    GROUP BY g.architecture
) AS e USING (architecture)
CROSS JOIN LATERAL (SELECT abs(slope_exported - slope) < 1e-9 AS exported)
ORDER BY place
