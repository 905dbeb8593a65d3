-- title: Paired differences between models
-- question: Which of two models memorized more of the same sequences?
-- note: The difference is the second model's rate minus the first's, on the sequences that both were scored on. The
--   first is the smaller one or, of equally large models, the one trained on fewer tokens. One size: models whose
--   non-embedding parameters differ by 10 % at most. 95 % intervals and p by document; p_holm is adjusted for all
--   pairs in the answer (Holm 1979). equivalence_p is that of two one-sided tests: whether the difference is within
--   the margin on both sides. A verdict needs its Holm-adjusted p to be at most 0.05; where both are, it is
--   "differs". Where no two documents differ there is no test, and the verdict is "not known".
-- parameter sample: uniform
-- parameter pairs: one size | all
-- parameter margin: 0.002 | 0 to 1
-- optional: yes

WITH marks AS (
    SELECT run_label, sequence_id, cluster, memorized, non_embedding_parameters,
           (coalesce(non_embedding_parameters, 0), training_order(trained_tokens, revision), run_label) AS size
    FROM memorization
    WHERE sample = $sample
),
models AS (SELECT DISTINCT size, non_embedding_parameters FROM marks),
asked AS (
    SELECT a.size AS first_size, b.size AS second_size
    FROM models AS a
    JOIN models AS b ON a.size < b.size
    WHERE $pairs = 'all' OR b.non_embedding_parameters <= 1.1 * a.non_embedding_parameters
),
documents_of_pair AS (
    SELECT first_size, second_size, a.cluster,
           count(*) AS sequences,
           count_if(a.memorized AND NOT b.memorized) AS only_first,
           count_if(b.memorized AND NOT a.memorized) AS only_second,
           count_if(a.memorized AND b.memorized) AS memorized_both
    FROM asked
    JOIN marks AS a ON a.size = first_size
    JOIN marks AS b ON b.size = second_size AND b.sequence_id = a.sequence_id
    GROUP BY ALL
),
compared AS (
    SELECT first_size, second_size,
           sum(sequences)::BIGINT AS sequences,
           sum(only_first)::BIGINT AS only_first,
           sum(only_second)::BIGINT AS only_second,
           sum(memorized_both)::BIGINT AS memorized_both,
           (sum(only_second) - sum(only_first)) / sum(sequences) AS difference,
           quotient_interval(only_second - only_first, sequences) AS ends
    FROM documents_of_pair
    GROUP BY ALL
),
tested AS (
    SELECT *,
           two_sided_p(difference / ends.error, ends.degrees) AS p,
           equivalence_p(difference, ends.error, ends.degrees, $margin) AS equivalence_p
    FROM compared
),
stepped AS (SELECT *, holm_step(p) AS step, holm_step(equivalence_p) AS equivalence_step FROM tested),
adjusted AS (
    SELECT *,
           holm(p, step) AS p_holm,
           holm(equivalence_p, equivalence_step) AS equivalence_p_holm
    FROM stepped
)
SELECT first_size[3] AS first, second_size[3] AS second, sequences, only_first, only_second, memorized_both,
       (memorized_both + only_first) / sequences AS rate_first,
       (memorized_both + only_second) / sequences AS rate_second,
       difference,
       ends.low AS difference_low,
       ends.high AS difference_high,
       few_documents(ends) AS few_documents,
       ends.error AS error,
       ends.degrees AS degrees,
       p, p_holm,
       $margin::DOUBLE AS margin,
       equivalence_p, equivalence_p_holm,
       verdict(p_holm, equivalence_p_holm) AS verdict
FROM adjusted
ORDER BY first_size, second_size
