-- title: Noise on its way through the layers
-- question: Do models remove noise from what they compute, and less so for what they memorized?
-- note: Relative Gaussian noise stands in the residual stream before the first layer; of the strengths that a run was
--   probed with, the one nearest to alpha (the table says which). The curve is the cosine of noised and clean stream
--   after each layer (0: before the first), averaged over draws and over the tokens that the continuation is predicted
--   from. Sequences were drawn at random from each outcome; with groups = matched, of trios that are alike in domain,
--   frequency and perplexity of the prefix. All sequences of a run are from one sample (column sample): uniform is as in
--   the corpus, bucket has equal numbers of each frequency, domain of each frequency in each domain. Compare models only
--   where the sample is the same. NULL: several samples, unweighted, by an older memindex. 95 % intervals by document.
-- parameter alpha: 0.3 | 0 to 1
-- parameter groups: drawn | matched
-- optional: yes
-- figure: line
-- x: depth | Depth (layer / layers)
-- y: similarity | Cosine similarity
-- interval: similarity_low, similarity_high
-- series: outcome
-- dashes: outcome
-- panel: run_label

WITH nearest AS (
    SELECT *
    FROM noise
    JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'noise') USING (run_id)
    QUALIFY rank() OVER (PARTITION BY run_id ORDER BY abs(alpha - $alpha), alpha) = 1
),
streams AS (
    SELECT run_id, probed, sequence_id, outcome, alpha, list_avg(list(similarity[layer + 1])) AS similarity, layer, layers
    FROM (SELECT *, len(similarity) - 1 AS layers, unnest(range(0, len(similarity))) AS layer FROM nearest)
    WHERE CASE WHEN $groups = 'matched' THEN pair IS NOT NULL ELSE drawn END
    GROUP BY ALL
)
SELECT run_label, outcome, alpha, layer, layer / layers AS depth,
       count(*) AS sequences,
       avg(s.similarity) AS similarity,
       mean_interval(s.similarity, cluster).low AS similarity_low,
       mean_interval(s.similarity, cluster).high AS similarity_high,
       few_documents(mean_interval(s.similarity, cluster)) AS few_documents,
       probed AS sample
FROM streams AS s
JOIN memorization USING (run_id, sequence_id)
GROUP BY run_label, non_embedding_parameters, probed, outcome, alpha, layer, layers
ORDER BY non_embedding_parameters, run_label, outcome = 'memorized' DESC, outcome, layer
