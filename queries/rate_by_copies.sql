-- title: Planted sequences
-- question: How many copies must be planted until a model knows a text by heart?
-- note: Texts that the corpus lacked were planted in it, each in so many copies (memindex plant): their frequency was set
--   and not only seen, and nothing else about them depends on it. 0 copies are texts of the same kind that were never
--   planted. 95 % intervals by text.
-- figure: line
-- x: copies | Copies in the corpus
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: run_label
-- order: sequence_count
-- optional: yes

WITH rates AS (
    SELECT run_label, non_embedding_parameters, sequence_count,
           count(*) AS sequences,
           count_if(memorized)::BIGINT AS memorized,
           avg(score) AS mean_score,
           rate_interval(memorized, cluster) AS ends
    FROM memorization
    WHERE sample = 'planted' AND sequence_count IS NOT NULL
    GROUP BY ALL
)
SELECT run_label, sequence_count::VARCHAR AS copies, sequence_count, sequences, memorized,
       memorized / sequences AS rate,
       ends.low AS rate_low,
       ends.high AS rate_high,
       few_documents(ends) AS few_documents,
       mean_score
FROM rates
ORDER BY non_embedding_parameters, run_label, rates.sequence_count
