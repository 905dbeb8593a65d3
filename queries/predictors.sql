-- title: Predictors of the largest model
-- question: Do smaller models and earlier checkpoints tell what the largest model will memorize?
-- note: In each family the largest model, at its last checkpoint, is the target. Precision is the share of the predictor's
--   memorized sequences that the target memorized too; recall is the same number over the target's (Biderman et al. 2023).
--   The mark is the target's rate: the precision of a guess. The training share is the predictor's trained tokens over the
--   target's; where tokens are not known, the number in a revision orders checkpoints. Models of unknown size are left
--   out. 95 % intervals by document. All pairs of models are in the query overlap.
-- parameter sample: uniform
-- optional: yes
-- figure: dots
-- x: predictor | Predictor
-- y: share | Share of memorized sequences | percent
-- interval: share_low, share_high
-- series: measure
-- panel: target
-- reference: rate_target | rate of the target

WITH marks AS (
    SELECT coalesce(family, architecture, 'other') AS family, model_id, run_label, non_embedding_parameters,
           trained_tokens, sequence_id, cluster, memorized,
           (non_embedding_parameters, training_order(trained_tokens, revision), run_label) AS size
    FROM memorization
    WHERE sample = $sample AND non_embedding_parameters IS NOT NULL
),
targets AS (
    SELECT family, max(size) AS size, arg_max(model_id, size) AS model_id, arg_max(trained_tokens, size) AS tokens
    FROM marks
    GROUP BY family
),
documents_of_pair AS (
    SELECT t.family, p.size, t.size[3] AS target, p.non_embedding_parameters, p.trained_tokens, t.tokens, p.cluster,
           count(*) AS sequences,
           count_if(p.memorized) AS known,
           count_if(m.memorized) AS known_target,
           count_if(p.memorized AND m.memorized) AS known_both
    FROM targets AS t
    JOIN marks AS p ON p.family = t.family AND p.model_id <> t.model_id
    JOIN marks AS m ON m.size = t.size AND m.family = t.family AND m.sequence_id = p.sequence_id
    GROUP BY ALL
),
pairs AS (
    SELECT family, size, target, non_embedding_parameters, trained_tokens, tokens,
           sum(sequences)::BIGINT AS sequences,
           sum(known)::BIGINT AS known,
           sum(known_target)::BIGINT AS known_target,
           sum(known_both)::BIGINT AS known_both,
           ratio_interval(known_both, known) AS precision_ends,
           ratio_interval(known_both, known_target) AS recall_ends
    FROM documents_of_pair
    GROUP BY ALL
)
SELECT family, size[3] AS predictor, target, non_embedding_parameters, trained_tokens,
       trained_tokens / nullif(tokens, 0) AS training_share,
       sequences, known AS memorized, known_target AS memorized_target, known_both AS memorized_both,
       ['precision', 'recall'][place] AS measure,
       known_both / nullif([known, known_target][place], 0) AS share,
       [precision_ends, recall_ends][place].low AS share_low,
       [precision_ends, recall_ends][place].high AS share_high,
       few_documents([precision_ends, recall_ends][place]) AS few_documents,
       known_target / sequences AS rate_target
FROM pairs
CROSS JOIN (SELECT unnest([1, 2]) AS place)
ORDER BY family, size, place
