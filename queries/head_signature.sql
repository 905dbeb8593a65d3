-- title: Do models of a family need the same layers?
-- question: Is the importance of attention heads over the depth of a model a signature of its family?
-- note: Correlation (Pearson) of two models' importance by layer: the mean drop of the memorization score over the heads
--   of a layer, read at as many relative depths as bins, from the layer that stands there; the figure shows negative ones
--   as 0. Models of few layers have few different values, and correlate by chance. Where the first layer stands out, the
--   correlation says little else: first_layer = 2 omits it. Samples (sample_a, sample_b) as in head_importance.
-- parameter bins: 20
-- parameter first_layer: 1 | 1 to 1000
-- optional: yes
-- figure: cells
-- x: run_b | Model
-- y: positive | Correlation
-- series: run_a

WITH of_layer AS (
    SELECT run_label, probed, coalesce(family, architecture) AS family, non_embedding_parameters, layer, layers,
           avg(1 - list_avg("right") / h.continuation_length) AS importance
    FROM head_importance AS h
    JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'head_importance') USING (run_id)
    JOIN memorization USING (run_id, sequence_id)
    GROUP BY ALL
),
profiles AS (
    SELECT run_label, probed, family, non_embedding_parameters, layers, bin, importance
    FROM of_layer
    CROSS JOIN (SELECT unnest(range(0, $bins)) AS bin)
    WHERE layer = floor((bin + 0.5) / $bins * layers) + 1 AND layer >= $first_layer
)
SELECT a.run_label AS run_a, b.run_label AS run_b, a.family AS family_a, b.family AS family_b,
       a.layers AS layers_a, b.layers AS layers_b,
       CASE WHEN stddev_pop(a.importance) > 0 AND stddev_pop(b.importance) > 0
            THEN corr(a.importance, b.importance ORDER BY bin) END AS correlation,
       greatest(correlation, 0) AS positive,
       a.probed AS sample_a, b.probed AS sample_b
FROM profiles AS a
JOIN profiles AS b USING (bin)
GROUP BY a.run_label, b.run_label, a.probed, b.probed, a.family, b.family, a.layers, b.layers,
         a.non_embedding_parameters, b.non_embedding_parameters
ORDER BY a.family, a.non_embedding_parameters, run_a, b.family, b.non_embedding_parameters, run_b
