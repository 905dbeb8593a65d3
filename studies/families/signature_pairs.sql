-- title: Similarity inside and between architectures
-- question: Are two models of one architecture more alike than two of different ones?
-- note: Correlation by relative depth, averaged over pairs of models (lowest and highest). OLMo: of two generations.

SELECT CASE WHEN a.architecture = b.architecture THEN 'one architecture, two sizes'
            WHEN starts_with(a.architecture, 'olmo') AND starts_with(b.architecture, 'olmo') AND a.size = b.size
                THEN 'two generations of OLMo, one size'
            WHEN a.size = b.size THEN 'two architectures, one size'
            ELSE 'two architectures, two sizes' END AS pairs,
       count(*) AS "number",
       count_if(layers_a = layers_b)::BIGINT AS of_equal_depth,
       avg(correlation) AS correlation,
       min(correlation) AS correlation_low,
       max(correlation) AS correlation_high
FROM head_signature
JOIN grid AS a ON a.run_label = run_a
JOIN grid AS b ON b.run_label = run_b
WHERE run_a < run_b
GROUP BY pairs
ORDER BY pairs
