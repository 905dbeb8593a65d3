-- title: The small study in a row
-- question: At how many of its sizes does gpt_bigcode have the lowest value?

WITH named AS (
    SELECT model_id AS run_label, architecture, non_embedding_parameters,
           regexp_extract(model_id, '-([0-9.]+[kMB])$', 1) AS size
    FROM small.models
    WHERE control IS NULL AND regexp_full_match(model_id, '[a-z0-9_]+-[0-9.]+[kMB]')
),
rates AS (
    SELECT size, named.architecture, r.rate, r.rate_low, r.rate_high, c.rate AS of_64_copies
    FROM named
    JOIN small.rate_by_size AS r USING (run_label)
    LEFT JOIN small.rate_by_copies AS c ON c.run_label = named.run_label AND c.sequence_count = 64
),
sizes AS (
    SELECT size,
           min(rate) FILTER (architecture = 'gpt_bigcode') < min(rate) FILTER (architecture <> 'gpt_bigcode') AS lowest,
           min(of_64_copies) FILTER (architecture = 'gpt_bigcode')
               < min(of_64_copies) FILTER (architecture <> 'gpt_bigcode') AS fewest,
           max(rate_high) FILTER (architecture = 'gpt_bigcode')
               < min(rate_low) FILTER (architecture <> 'gpt_bigcode') AS apart
    FROM rates
    GROUP BY size
),
ranges AS (
    -- Between the sizes of one architecture.
    SELECT max(between_sizes) FILTER (architecture <> 'gpt_bigcode') AS rate_range_of_others,
           max(between_sizes) FILTER (architecture = 'gpt_bigcode') AS rate_range_of_bigcode
    FROM (SELECT architecture, max(rate) - min(rate) AS between_sizes FROM rates GROUP BY architecture)
)
SELECT count(*) AS sizes, count_if(lowest) AS sizes_lowest, count_if(fewest) AS sizes_fewest, count_if(apart) AS sizes_apart,
       any_value(rate_range_of_others) AS rate_range_of_others,
       any_value(rate_range_of_bigcode) AS rate_range_of_bigcode
FROM sizes, ranges
