-- title: Floor on unseen text
-- question: How much does a model "memorize" of text that it can't have seen?
-- note: Held-out documents still share licences and templates with the corpus, so held-out sequences are split by what the
--   index counts. Where the suffix itself never occurs, the model can't have memorized it: that rate is the floor of every
--   other rate. With the second class added these are all held-out sequences that as a whole never occur; the columns
--   "up to here" add a class to those above it. Wilson's 95 % interval.
-- figure: dots
-- x: run_label | Model
-- y: rate | Completed sequences | percent
-- interval: rate_low, rate_high
-- series: held_out

WITH classes AS (
    SELECT run_label, non_embedding_parameters, memorized,
           CASE WHEN unseen THEN 'unseen (suffix never occurs)'
                WHEN sequence_count = 0 THEN 'suffix occurs, after other text'
                ELSE 'whole sequence occurs' END AS held_out,
           CASE WHEN unseen THEN 0 WHEN sequence_count = 0 THEN 1 ELSE 2 END AS class
    FROM memorization
    WHERE sample = 'heldout' AND sequence_count IS NOT NULL
)
SELECT run_label, held_out,
       count(*) AS sequences,
       count_if(memorized)::BIGINT AS memorized,
       count_if(memorized) / count(*) AS rate,
       wilson_low(count_if(memorized), count(*)) AS rate_low,
       wilson_high(count_if(memorized), count(*)) AS rate_high,
       (sum(count(*)) OVER above)::BIGINT AS sequences_up_to_here,
       sum(count_if(memorized)) OVER above / sequences_up_to_here AS rate_up_to_here
FROM classes
GROUP BY run_label, non_embedding_parameters, held_out, class
WINDOW above AS (PARTITION BY run_label ORDER BY class)
ORDER BY non_embedding_parameters, run_label, class
