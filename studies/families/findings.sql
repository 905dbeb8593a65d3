-- title: Findings in numbers
-- question: Which numbers do the sentences between the figures need?

WITH sizes AS (SELECT *, size_rank = max(size_rank) OVER () AS largest FROM grid),
slopes AS (
    SELECT min(slope) AS slope_least, max(slope) AS slope_most,
           min(r2) AS r2_least, max(r2) AS r2_most,
           min(r2_power_law) AS r2_power_least, max(r2_power_law) AS r2_power_most,
           count_if(r2_power_law > r2) AS better_power_laws
    FROM size_fits
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
           max(copies) FILTER (largest) AS copies_largest_most,
           min(copies_low) FILTER (largest) AS copies_largest_low,
           max(copies_high) FILTER (largest) AS copies_largest_high
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
           sum(memorized) FILTER (sequence_count = 64) / sum(sequences) FILTER (sequence_count = 64) AS rate_planted_64,
           sum(memorized) FILTER (sequence_count = 128) / sum(sequences) FILTER (sequence_count = 128) AS rate_planted_128,
           max(rate_high) FILTER (sequence_count = 8 AND memorized = 0) AS rate_none_high
    FROM sizes JOIN rate_by_copies USING (run_label)
    WHERE largest
),
scores_near AS (
    -- Models in which more sequences are just below 1 than at 1.
    SELECT count(*) AS models, count_if(near > whole) AS models_more_near
    FROM (
        SELECT max(share) FILTER (score_from < 1 AND score_from = last_below) AS near,
               max(share) FILTER (score_from = 1) AS whole
        FROM (
            SELECT run_label, score_from, share, max(score_from) OVER (PARTITION BY run_label, score_from < 1) AS last_below
            FROM sizes JOIN score_histogram USING (run_label)
            WHERE sample = 'uniform'
        )
        GROUP BY run_label
    )
),
rarer AS (
    SELECT count(*) AS architectures_of_counts,
           count_if(of_largest < of_smallest) AS architectures_rarer
    FROM (
        SELECT max(mean_log2_count) FILTER (largest) AS of_largest,
               max(mean_log2_count) FILTER (size_rank = 1) AS of_smallest
        FROM sizes JOIN frequency_of_memorized USING (run_label)
        WHERE outcome = 'memorized'
        GROUP BY architecture
    )
),
-- Between 64 and 128 planted copies, at the middle of the natural bin of 64 to 127 (its geometric mean).
middle AS (
    SELECT sqrt(64 * 127) AS copies_of_middle,
           rate_planted_64 + (rate_planted_128 - rate_planted_64) * (log2(sqrt(64 * 127)) - 6) AS rate_planted_middle
    FROM planted_texts
)
SELECT * FROM slopes, scores, scores_near, rarer, contexts, doses, natural_text, bound, planted_texts, middle
