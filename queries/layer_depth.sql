-- title: Depth at which tokens are decided
-- question: Are memorized tokens decided earlier, whichever threshold says when a token is decided?
-- note: The depth of a token is the first layer (as a share of all) after which its probability passes a threshold: an
--   absolute one, or a share of its final probability. The two can disagree, because unmemorized tokens end lower: an
--   absolute threshold counts only tokens that reach it (reached is their share), a relative one counts all. Groups and
--   sample as in noise_similarity. 95 % intervals by document.
-- parameter groups: drawn | matched
-- optional: yes
-- figure: line
-- x: threshold | Threshold
-- y: depth | Depth (layer / layers)
-- interval: depth_low, depth_high
-- series: outcome
-- dashes: kind
-- panel: run_label

WITH tokens AS (
    SELECT run_id, sequence_id, outcome, layers, layer,
           unnest(probability) AS p,
           unnest(range(0, len(probability))) AS token
    FROM layer_decoding
    WHERE CASE WHEN $groups = 'matched' THEN pair IS NOT NULL ELSE drawn END
      AND run_id IN (SELECT run_id FROM probes WHERE probe = 'layer_decoding')
),
curves AS (
    SELECT run_id, sequence_id, outcome, layers, token,
           list(p ORDER BY layer) AS probabilities
    FROM tokens
    GROUP BY ALL
),
decided AS (
    SELECT run_id, sequence_id, outcome, kind, threshold,
           (list_position(list_transform(probabilities, lambda p: p >= bound), true) - 1) / layers AS depth
    FROM (
        SELECT *, CASE WHEN kind = 'absolute' THEN threshold ELSE threshold * probabilities[-1] END AS bound
        FROM curves
        CROSS JOIN (SELECT unnest([0.1, 0.25, 0.5, 0.75, 0.9]::DOUBLE[]) AS threshold)
        CROSS JOIN (SELECT unnest(['absolute', 'relative']) AS kind)
    )
),
of_sequence AS (
    SELECT run_id, sequence_id, outcome, kind, threshold,
           avg(depth) AS depth,
           count(depth) / count(*) AS reached
    FROM decided
    GROUP BY ALL
)
SELECT run_label, outcome, kind, threshold,
       count(depth) AS sequences,
       avg(depth) AS depth,
       mean_interval(depth, cluster).low AS depth_low,
       mean_interval(depth, cluster).high AS depth_high,
       few_documents(mean_interval(depth, cluster)) AS few_documents,
       avg(reached) AS reached,
       probed AS sample
FROM of_sequence
JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'layer_decoding') USING (run_id)
JOIN memorization USING (run_id, sequence_id)
GROUP BY run_label, non_embedding_parameters, probed, outcome, kind, threshold
ORDER BY non_embedding_parameters, run_label, kind, outcome = 'memorized' DESC, outcome, threshold
