-- title: Overlap between models
-- question: Does the larger model also know what the smaller one memorized?
-- note: The cell is the share of the smaller model's memorized sequences that the larger one memorized too: the precision
--   with which the smaller predicts the larger; recall is the same number over the larger model's memorized sequences.
--   Wilson's 95 % interval.
-- parameter sample: uniform
-- figure: cells
-- x: larger | Larger model
-- y: precision | Memorized by both | percent
-- series: smaller

WITH marks AS (
    SELECT run_label, non_embedding_parameters AS size, sequence_id, memorized
    FROM memorization
    WHERE sample = $sample
),
pairs AS (
    SELECT a.run_label AS smaller, b.run_label AS larger, a.size AS smaller_size, b.size AS larger_size,
           count(*) AS sequences,
           count_if(a.memorized)::BIGINT AS memorized_smaller,
           count_if(b.memorized)::BIGINT AS memorized_larger,
           count_if(a.memorized AND b.memorized)::BIGINT AS memorized_both
    FROM marks AS a
    JOIN marks AS b
        ON a.sequence_id = b.sequence_id AND (a.size, a.run_label) < (b.size, b.run_label)
    GROUP BY ALL
)
SELECT smaller, larger, sequences, memorized_smaller, memorized_larger, memorized_both,
       memorized_both / nullif(memorized_smaller, 0) AS "precision",
       wilson_low(memorized_both, memorized_smaller) AS precision_low,
       wilson_high(memorized_both, memorized_smaller) AS precision_high,
       memorized_both / nullif(memorized_larger, 0) AS recall,
       memorized_both / nullif(memorized_smaller + memorized_larger - memorized_both, 0) AS jaccard
FROM pairs
ORDER BY smaller_size, smaller, larger_size, larger
