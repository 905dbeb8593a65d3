-- title: Overlap between models
-- question: Does the larger model also know what the smaller one memorized?
-- note: The cell is the share of the smaller model's memorized sequences that the larger one memorized too: the precision
--   with which the smaller predicts the larger; recall is the same number over the larger model's memorized sequences.
--   Of equally large models the one trained on fewer tokens (or, where they are not known, the one with the smaller number
--   in its revision) stands for the smaller, and models of unknown size stand for the smallest. The difference is the larger model's
--   rate minus the smaller's, on the same sequences. 95 % intervals by document.
-- parameter sample: uniform
-- figure: cells
-- x: larger | Larger model
-- y: precision | Memorized by both | percent
-- series: smaller

WITH marks AS (
    SELECT run_label, sequence_id, cluster, memorized,
           (coalesce(non_embedding_parameters, 0), training_order(trained_tokens, revision), run_label) AS size
    FROM memorization
    WHERE sample = $sample
),
documents_of_pair AS (
    SELECT a.size AS smaller_size, b.size AS larger_size, a.cluster,
           count(*) AS sequences,
           count_if(a.memorized) AS smaller,
           count_if(b.memorized) AS larger,
           count_if(a.memorized AND b.memorized) AS shared
    FROM marks AS a
    JOIN marks AS b ON a.sequence_id = b.sequence_id AND a.size < b.size
    GROUP BY ALL
),
pairs AS (
    SELECT smaller_size, larger_size,
           sum(sequences)::BIGINT AS sequences,
           sum(smaller)::BIGINT AS memorized_smaller,
           sum(larger)::BIGINT AS memorized_larger,
           sum(shared)::BIGINT AS memorized_both,
           ratio_interval(shared, smaller) AS precision_ends,
           ratio_interval(shared, larger) AS recall_ends,
           ratio_interval(shared, smaller + larger - shared) AS jaccard_ends,
           quotient_interval(larger - smaller, sequences) AS difference_ends
    FROM documents_of_pair
    GROUP BY ALL
)
SELECT smaller_size[3] AS smaller, larger_size[3] AS larger, sequences,
       memorized_smaller, memorized_larger, memorized_both,
       memorized_both / nullif(memorized_smaller, 0) AS "precision",
       precision_ends.low AS precision_low,
       precision_ends.high AS precision_high,
       few_documents(precision_ends) AS few_documents,
       memorized_both / nullif(memorized_larger, 0) AS recall,
       recall_ends.low AS recall_low,
       recall_ends.high AS recall_high,
       memorized_both / nullif(memorized_smaller + memorized_larger - memorized_both, 0) AS jaccard,
       jaccard_ends.low AS jaccard_low,
       jaccard_ends.high AS jaccard_high,
       (memorized_larger - memorized_smaller) / sequences AS rate_difference,
       difference_ends.low AS rate_difference_low,
       difference_ends.high AS rate_difference_high
FROM pairs
ORDER BY smaller_size, larger_size
