-- title: Paired differences in depth
-- question: Are memorized tokens decided earlier than those of the unmemorized sequence they are matched with?
-- note: The depth of a token is as in layer_depth: the first layer (as a share of all) after which its probability
--   passes a threshold. The difference is a memorized sequence's mean depth minus that of the unmemorized sequence
--   of its trio: negative is earlier. Pairs in which a sequence has no token that passes don't count. 95 % intervals
--   and p by document of the memorized sequence; p_holm is adjusted for all rows of the answer (Holm 1979).
--   equivalence_p is that of two one-sided tests: whether the difference is within the margin, in layers, on both
--   sides. A verdict needs its Holm-adjusted p to be at most 0.05; where both are, it is "differs".
-- parameter margin: 0.5 | 0 to 1000
-- optional: yes
-- figure: line
-- x: threshold | Threshold
-- y: difference | Difference in depth
-- interval: difference_low, difference_high
-- series: kind
-- panel: run_label

WITH tokens AS (
    SELECT run_id, sequence_id, pair, outcome, layers, layer,
           unnest(probability) AS p,
           unnest(range(0, len(probability))) AS token
    FROM layer_decoding
    WHERE pair IS NOT NULL AND outcome IN ('memorized', 'unmemorized')
      AND run_id IN (SELECT run_id FROM probes WHERE probe = 'layer_decoding')
),
curves AS (
    SELECT run_id, sequence_id, pair, outcome, layers, token,
           list(p ORDER BY layer) AS probabilities
    FROM tokens
    GROUP BY ALL
),
decided AS (
    SELECT run_id, sequence_id, pair, outcome, layers, kind, threshold,
           (list_position(list_transform(probabilities, lambda p: p >= bound), true) - 1) / layers AS depth
    FROM (
        SELECT *, CASE WHEN kind = 'absolute' THEN threshold ELSE threshold * probabilities[-1] END AS bound
        FROM curves
        CROSS JOIN (SELECT unnest([0.1, 0.25, 0.5, 0.75, 0.9]::DOUBLE[]) AS threshold)
        CROSS JOIN (SELECT unnest(['absolute', 'relative']) AS kind)
    )
),
of_sequence AS (
    SELECT run_id, sequence_id, pair, outcome, layers, kind, threshold, avg(depth) AS depth
    FROM decided
    GROUP BY ALL
),
differences AS (
    SELECT run_id, a.sequence_id, a.layers, kind, threshold,
           a.depth AS depth_memorized, b.depth AS depth_unmemorized, a.depth - b.depth AS difference
    FROM of_sequence AS a
    JOIN of_sequence AS b USING (run_id, kind, threshold)
    WHERE a.outcome = 'memorized' AND b.outcome = 'unmemorized' AND a.sequence_id = b.pair
),
compared AS (
    SELECT run_label, non_embedding_parameters, layers, kind, threshold,
           count(*) AS pairs,
           avg(depth_memorized) AS depth_memorized,
           avg(depth_unmemorized) AS depth_unmemorized,
           avg(difference) AS difference,
           mean_interval(difference, cluster) AS ends
    FROM differences
    JOIN memorization USING (run_id, sequence_id)
    WHERE difference IS NOT NULL
    GROUP BY ALL
),
tested AS (
    SELECT *,
           two_sided_p(difference / ends.error, ends.degrees) AS p,
           equivalence_p(difference, ends.error, ends.degrees, $margin / layers) AS equivalence_p
    FROM compared
),
stepped AS (SELECT *, holm_step(p) AS step, holm_step(equivalence_p) AS equivalence_step FROM tested),
adjusted AS (
    SELECT *,
           holm(p, step) AS p_holm,
           holm(equivalence_p, equivalence_step) AS equivalence_p_holm
    FROM stepped
)
SELECT run_label, layers, kind, threshold, pairs, depth_memorized, depth_unmemorized, difference,
       ends.low AS difference_low,
       ends.high AS difference_high,
       few_documents(ends) AS few_documents,
       ends.error AS error,
       ends.degrees AS degrees,
       p, p_holm,
       $margin / layers AS margin,
       equivalence_p, equivalence_p_holm,
       verdict(p_holm, equivalence_p_holm) AS verdict
FROM adjusted
ORDER BY non_embedding_parameters, run_label, kind, threshold
