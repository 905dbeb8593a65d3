-- title: Which outcomes occur more often
-- question: In how many models do half-memorized sequences occur more often than unmemorized ones, and memorized ones more often
--   than those?
-- note: Differences of mean log2 counts (1 is twice as often), averaged over models (lowest and highest). p: exact sign test over
--   models, and after Holm's correction for the rows of the table. The models share one corpus and one sample, so that p is about
--   models of this corpus, not about other texts.

WITH counts AS (
    SELECT run_label, 'whole sequences' AS counted, outcome, mean_log2_count AS mean FROM frequency_of_memorized
    UNION ALL
    SELECT run_label, ngrams, outcome, mean_log2_count FROM ngram_frequency
),
means AS (
    SELECT run_label, counted,
           max(mean) FILTER (outcome = 'memorized') AS memorized,
           max(mean) FILTER (outcome = 'half-memorized') AS half,
           max(mean) FILTER (outcome = 'unmemorized') AS unmemorized
    FROM counts
    SEMI JOIN grid USING (run_label)
    GROUP BY ALL
),
differences AS (
    SELECT counted, 'half-memorized and unmemorized' AS outcomes, half - unmemorized AS difference FROM means
    UNION ALL
    SELECT counted, 'memorized and half-memorized', memorized - half FROM means
),
signs AS (
    SELECT counted, outcomes,
           count_if(difference <> 0)::BIGINT AS models,
           count_if(difference > 0)::BIGINT AS more_often,
           avg(difference ORDER BY difference) AS difference,
           min(difference) AS difference_low,
           max(difference) AS difference_high
    FROM differences
    WHERE difference IS NOT NULL
    GROUP BY counted, outcomes
),
tested AS (SELECT *, sign_test(more_often, models) AS p FROM signs)
SELECT counted, outcomes, models, more_often, difference, difference_low, difference_high,
       p_text(p) AS p,
       p_text(holm_among(p, list(p) OVER ())) AS p_corrected
FROM tested
ORDER BY counted = 'whole sequences' DESC, counted, outcomes
