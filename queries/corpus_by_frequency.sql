-- title: Corpus by frequency
-- question: How much of the corpus are sequences that occur once, twice, a thousand times?
-- note: All sequences of the study's length in the corpus, not a sample: each occurrence counts for the share, so the shares
--   of a corpus add up to 1; the share of distinct sequences counts each text once. Weighted with these shares, the rates
--   of rate_by_frequency come close to the rate of the whole corpus. The scale is logarithmic. Filled with the bucket sample.
-- figure: line
-- x: frequency | Occurrences in the corpus
-- y: share | Share of all sequences | percent-log
-- series: corpus
-- order: frequency_bucket

SELECT "index" || ', ' || length || ' tokens' AS corpus,
       frequency_label(bucket) AS frequency,
       bucket AS frequency_bucket,
       "distinct", sequences, sampled,
       "distinct" / sum("distinct") OVER one_corpus AS share_distinct,
       sequences / sum(sequences) OVER one_corpus AS share
FROM buckets
WINDOW one_corpus AS (PARTITION BY "index", length)
ORDER BY "index", length, bucket
