-- title: Similarity inside and between architectures
-- question: Are two models of one architecture more alike than two of different ones?
-- note: Correlation by relative depth, averaged over pairs of models (lowest and highest). Later layers: of pairs of equal
--   depth, from the second layer on, where these are five or more.

WITH later AS (
    SELECT a.run_label AS run_a, b.run_label AS run_b, corr(a.importance, b.importance) AS correlation
    FROM head_depth AS a
    JOIN head_depth AS b USING (layer)
    WHERE layer > 1
    GROUP BY ALL
    HAVING count(*) >= 5
)
SELECT CASE WHEN a.architecture = b.architecture THEN 'one architecture, two sizes'
            WHEN a.size <> b.size THEN 'two architectures, two sizes'
            WHEN starts_with(a.architecture, 'olmo') AND starts_with(b.architecture, 'olmo')
                THEN 'two generations of OLMo, one size'
            WHEN 'gpt_bigcode' IN (a.architecture, b.architecture) THEN 'gpt_bigcode and another, one size'
            WHEN 'gpt_neox' IN (a.architecture, b.architecture) THEN 'gpt_neox and llama or OLMo, one size'
            ELSE 'llama and OLMo, one size' END AS pairs,
       count(*) AS "number",
       count_if(h.layers_a = h.layers_b)::BIGINT AS of_equal_depth,
       avg(h.correlation) AS correlation,
       min(h.correlation) AS correlation_low,
       max(h.correlation) AS correlation_high,
       avg(later.correlation) AS later_layers,
       min(later.correlation) AS later_layers_low,
       max(later.correlation) AS later_layers_high
FROM head_signature AS h
JOIN grid AS a ON a.run_label = h.run_a
JOIN grid AS b ON b.run_label = h.run_b
LEFT JOIN later ON h.layers_a = h.layers_b AND later.run_a = h.run_a AND later.run_b = h.run_b
WHERE h.run_a < h.run_b
GROUP BY pairs
ORDER BY min(a.architecture <> b.architecture), max(a.size <> b.size), correlation DESC, pairs
