-- title: Findings in numbers
-- question: Which numbers do the sentences between the figures need?

WITH sizes AS (SELECT *, size_rank = max(size_rank) OVER () AS largest FROM grid),
slopes AS (
    SELECT min(slope_per_tenfold) AS slope_least, max(slope_per_tenfold) AS slope_most, min(r2) AS r2_least
    FROM sizes JOIN rate_by_size USING (run_label)
),
scores AS (
    SELECT min(share) AS share_lowest_least, max(share) AS share_lowest_most
    FROM sizes JOIN score_histogram USING (run_label)
    WHERE sample = 'uniform' AND score_from = 0
),
contexts AS (
    SELECT min(share_half) AS share_half_least, max(share_half) AS share_half_most
    FROM sizes JOIN compression USING (run_label)
),
doses AS (
    SELECT min(copies) FILTER (size_rank = 2) AS copies_second_least,
           max(copies) FILTER (size_rank = 2) AS copies_second_most,
           min(copies) FILTER (largest) AS copies_largest_least,
           max(copies) FILTER (largest) AS copies_largest_most
    FROM sizes JOIN half_doses USING (run_label)
),
natural_text AS (
    SELECT sum(memorized) FILTER (frequency_bucket = 0) / sum(sequences) FILTER (frequency_bucket = 0) AS rate_once,
           sum(memorized) FILTER (frequency_bucket = 6) / sum(sequences) FILTER (frequency_bucket = 6) AS rate_natural_64
    FROM sizes JOIN rate_by_frequency USING (run_label)
    WHERE largest
),
bound AS (
    SELECT sum(memorized) FILTER (frequency_bucket BETWEEN 1 AND 3)
               / sum(sequences) FILTER (frequency_bucket BETWEEN 1 AND 3) AS rate_bound_below_16,
           sum(memorized) FILTER (frequency_bucket BETWEEN 4 AND 5)
               / sum(sequences) FILTER (frequency_bucket BETWEEN 4 AND 5) AS rate_bound_from_16,
           -- The same sequences were given to all models.
           (sum(documents) FILTER (frequency_bucket BETWEEN 4 AND 5) / count(DISTINCT run_label))::BIGINT
               AS passages_bound_from_16
    FROM sizes JOIN rate_by_repetition USING (run_label)
    WHERE largest AND repetition = 'natural' AND pieces <> 'any'
),
planted_texts AS (
    SELECT sum(memorized) FILTER (sequence_count BETWEEN 1 AND 8)
               / sum(sequences) FILTER (sequence_count BETWEEN 1 AND 8) AS rate_planted_few,
           sum(memorized) FILTER (sequence_count = 64) / sum(sequences) FILTER (sequence_count = 64) AS rate_planted_64
    FROM sizes JOIN rate_by_copies USING (run_label)
    WHERE largest
)
SELECT * FROM slopes, scores, contexts, doses, natural_text, bound, planted_texts
