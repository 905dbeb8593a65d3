-- title: Planted passages in a row
-- question: Which numbers do the sentences on planted passages need?

WITH named AS (
    SELECT *, CASE document_tokens WHEN min(document_tokens) OVER () THEN 'shortest'
                                   WHEN max(document_tokens) OVER () THEN 'longest' ELSE 'between' END AS length
    FROM passages.rate_by_passage
),
rates AS (
    SELECT length, sequence_count, sum(memorized) / sum(sequences) AS rate, max(texts) AS texts
    FROM named
    GROUP BY ALL
),
of_lengths AS (
    SELECT any_value(texts) FILTER (length = 'shortest' AND sequence_count = 32) AS texts,
           any_value(rate) FILTER (length = 'shortest' AND sequence_count = 32) AS rate_alone_32,
           any_value(rate) FILTER (length = 'shortest' AND sequence_count = 64) AS rate_alone_64,
           any_value(rate) FILTER (length = 'longest' AND sequence_count = 16) AS rate_long_16,
           any_value(rate) FILTER (length = 'longest' AND sequence_count = 32) AS rate_long_32,
           any_value(rate) FILTER (length = 'longest' AND sequence_count = 64) AS rate_long_64
    FROM rates
),
of_places AS (
    SELECT avg(rate_first) AS rate_first, avg(rate_inside) AS rate_inside, avg(rate_last) AS rate_last
    FROM named
    WHERE length <> 'shortest' AND sequence_count IN (32, 64)
),
of_nature AS (
    SELECT sum(memorized) / sum(sequences) AS rate_natural_16
    FROM passages.rate_by_repetition
    WHERE repetition = 'natural' AND pieces = 'any' AND frequency_bucket = 4
)
SELECT * FROM of_lengths, of_places, of_nature
