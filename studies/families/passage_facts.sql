-- title: Planted passages in a row
-- question: Which numbers do the sentences on planted passages need?

WITH of_passages AS (
    SELECT max(texts) FILTER (sequence_count = 32) AS texts,
           sum(memorized) FILTER (length = 'shortest' AND sequence_count = 32)
               / sum(sequences) FILTER (length = 'shortest' AND sequence_count = 32) AS rate_alone_32,
           sum(memorized) FILTER (length = 'longest' AND sequence_count = 32)
               / sum(sequences) FILTER (length = 'longest' AND sequence_count = 32) AS rate_long_32,
           sum(memorized) FILTER (length = 'shortest' AND sequence_count = 64)
               / sum(sequences) FILTER (length = 'shortest' AND sequence_count = 64) AS rate_alone_64,
           sum(memorized) FILTER (length = 'longest' AND sequence_count = 64)
               / sum(sequences) FILTER (length = 'longest' AND sequence_count = 64) AS rate_long_64,
           sum(memorized) FILTER (length = 'longest' AND sequence_count = 16)
               / sum(sequences) FILTER (length = 'longest' AND sequence_count = 16) AS rate_long_16,
           avg(rate_first) FILTER (length <> 'shortest' AND sequence_count IN (32, 64)) AS rate_first,
           avg(rate_inside) FILTER (length <> 'shortest' AND sequence_count IN (32, 64)) AS rate_inside,
           avg(rate_last) FILTER (length <> 'shortest' AND sequence_count IN (32, 64)) AS rate_last
    FROM (SELECT *, CASE document_tokens WHEN min(document_tokens) OVER () THEN 'shortest'
                                         WHEN max(document_tokens) OVER () THEN 'longest' ELSE 'between' END AS length
          FROM passages.rate_by_passage)
),
of_nature AS (
    SELECT sum(memorized) / sum(sequences) AS rate_natural_16
    FROM passages.rate_by_repetition
    WHERE repetition = 'natural' AND pieces = 'any' AND frequency_bucket = 4
)
SELECT * FROM of_passages, of_nature
