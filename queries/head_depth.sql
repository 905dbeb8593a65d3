-- title: Depth of the heads that memorization needs
-- question: At which depth of a model do the attention heads lie that it needs for what it memorized?
-- note: Importance of a layer is the mean drop of the memorization score (share of suffix tokens that are still the
--   likeliest, teacher-forced) when one of its heads is replaced, over its heads and the memorized sequences. Depth is
--   the layer, from 1, as a share of all. Sample as in head_importance. 95 % intervals by document.
-- optional: yes
-- figure: line
-- x: depth | Depth (layer / layers)
-- y: importance | Drop of the memorization score | percent
-- interval: importance_low, importance_high
-- series: run_label

WITH of_layer AS (
    SELECT run_label, non_embedding_parameters, probed, cluster, layer, layers,
           1 - list_avg("right") / h.continuation_length AS importance
    FROM head_importance AS h
    JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'head_importance') USING (run_id)
    JOIN memorization USING (run_id, sequence_id)
)
SELECT run_label, layer, layer / layers AS depth,
       count(*) AS sequences,
       avg(importance) AS importance,
       rate_interval(importance, cluster).low AS importance_low,
       rate_interval(importance, cluster).high AS importance_high,
       few_documents(rate_interval(importance, cluster)) AS few_documents,
       probed AS sample
FROM of_layer
GROUP BY run_label, non_embedding_parameters, probed, layer, layers
ORDER BY non_embedding_parameters, run_label, layer
