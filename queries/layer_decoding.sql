-- title: When layers know what will be emitted
-- question: At which depth does a model know the token that it will emit, for memorized sequences and for others?
-- note: Final norm and unembedding on the residual stream after each layer (0: the embeddings): mean probability of the
--   emitted token, the share of tokens that are likeliest there already, their median rank, and the entropy of the
--   layer's distribution in nats. Groups and sample as in noise_similarity. 95 % intervals by document.
-- parameter groups: drawn | matched
-- optional: yes
-- figure: line
-- x: depth | Depth (layer / layers)
-- y: probability | Probability of the emitted token
-- interval: probability_low, probability_high
-- series: outcome
-- dashes: outcome
-- panel: run_label

WITH of_sequence AS (
    SELECT run_id, probed, sequence_id, outcome, layer, layers, rank,
           list_avg(probability) AS probability,
           len(list_filter(rank, lambda r: r = 0)) / len(rank) AS likeliest,
           list_avg(entropy) AS entropy
    FROM layer_decoding
    JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'layer_decoding') USING (run_id)
    WHERE CASE WHEN $groups = 'matched' THEN pair IS NOT NULL ELSE drawn END
)
SELECT run_label, outcome, layer, layer / layers AS depth,
       count(*) AS sequences,
       avg(probability) AS probability,
       mean_interval(probability, cluster).low AS probability_low,
       mean_interval(probability, cluster).high AS probability_high,
       few_documents(mean_interval(probability, cluster)) AS few_documents,
       avg(likeliest) AS likeliest,
       median(list_median(rank)) AS median_rank,
       avg(entropy) AS entropy,
       mean_interval(entropy, cluster).low AS entropy_low,
       mean_interval(entropy, cluster).high AS entropy_high,
       probed AS sample
FROM of_sequence
JOIN memorization USING (run_id, sequence_id)
GROUP BY run_label, non_embedding_parameters, probed, outcome, layer, layers
ORDER BY non_embedding_parameters, run_label, outcome = 'memorized' DESC, outcome, layer
