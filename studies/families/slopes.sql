-- title: Slopes of the memorization rate
-- question: How many points does the rate rise when a model becomes ten times as large?
-- note: Percentage points per tenfold size. The first interval is that with other documents (bootstrap), the second
--   that with other models of the architecture (Student's t).

SELECT g.architecture,
       any_value(slope_per_tenfold) AS slope_with_other_documents,
       any_value(slope_low) AS slope_with_other_documents_low,
       any_value(slope_high) AS slope_with_other_documents_high,
       any_value(slope_per_tenfold) AS slope_with_other_models,
       any_value(slope_models_low) AS slope_with_other_models_low,
       any_value(slope_models_high) AS slope_with_other_models_high,
       any_value(r2) AS "R²"
FROM grid AS g
JOIN rate_by_size USING (run_label)
GROUP BY g.architecture, place
ORDER BY place
