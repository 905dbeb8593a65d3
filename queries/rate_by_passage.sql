-- title: Planted passages
-- question: Must a sequence be copied as often when the copies are of a longer passage around it?
-- note: Planted texts of several lengths (memindex plant --length 64,256): the curve of a length is the memorized share of
--   the sequences that such texts begin with, end with and have in their middle; the shares of each place stand in the
--   table (rate_first, rate_inside, rate_last). Of every one the whole text was copied as often as it occurs. 95 %
--   intervals by text.
-- figure: line
-- x: copies | Copies in the corpus
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: passage
-- order: sequence_count
-- panel: run_label
-- optional: yes

WITH planted AS (
    SELECT run_label, non_embedding_parameters, sequence_count, document_tokens, memorized, cluster,
           document_offset = 0 AS is_first,
           document_offset > 0 AND document_offset = max(document_offset) OVER (PARTITION BY document_tokens) AS is_last
    FROM memorization
    WHERE sample = 'planted' AND document_tokens IS NOT NULL
        AND (SELECT count(DISTINCT document_tokens) FROM sequences WHERE sample = 'planted') > 1
),
rates AS (
    SELECT run_label, non_embedding_parameters, sequence_count, document_tokens,
           count(*) AS sequences,
           count(DISTINCT cluster) AS texts,
           count_if(memorized)::BIGINT AS memorized,
           avg(memorized::INTEGER) FILTER (is_first) AS rate_first,
           avg(memorized::INTEGER) FILTER (NOT is_first AND NOT is_last) AS rate_inside,
           avg(memorized::INTEGER) FILTER (is_last) AS rate_last,
           rate_interval(memorized, cluster) AS ends
    FROM planted
    GROUP BY ALL
)
SELECT run_label, document_tokens || ' tokens' AS passage, sequence_count::VARCHAR AS copies, sequence_count,
       document_tokens, sequences, texts, memorized,
       memorized / sequences AS rate,
       ends.low AS rate_low,
       ends.high AS rate_high,
       few_documents(ends) AS few_documents,
       rate_first, rate_inside, rate_last
FROM rates
ORDER BY non_embedding_parameters, run_label, document_tokens, rates.sequence_count
