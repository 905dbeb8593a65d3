-- title: Floor on unseen text
-- question: How much does a model "memorize" of text that it can't have seen?
-- note: Held-out documents still share licences and templates with the corpus, so held-out sequences are split by what the
--   index counts. Where the suffix itself never occurs, the model can't have memorized it: that rate is the floor of every
--   other rate. With the second class added these are all held-out sequences that as a whole never occur; the columns
--   "up to here" add a class to those above it. 95 % intervals by document.
-- figure: dots
-- x: run_label | Model
-- y: rate | Completed sequences | percent
-- interval: rate_low, rate_high
-- series: held_out

WITH heldout AS (
    SELECT run_label, non_embedding_parameters, memorized, cluster,
           CASE WHEN unseen THEN 0 WHEN sequence_count = 0 THEN 1 ELSE 2 END AS class
    FROM memorization
    WHERE sample = 'heldout' AND sequence_count IS NOT NULL
),
classes AS (SELECT DISTINCT run_label, class AS last_class FROM heldout),
floors AS (
    SELECT run_label, non_embedding_parameters, last_class,
           count_if(class = last_class) AS sequences,
           count_if(memorized AND class = last_class)::BIGINT AS memorized,
           rate_interval(CASE WHEN class = last_class THEN memorized END, cluster) AS ends,
           count(*) AS sequences_up_to_here,
           avg(memorized::INTEGER) AS rate_up_to_here,
           rate_interval(memorized, cluster) AS ends_up_to_here
    FROM heldout
    JOIN classes USING (run_label)
    WHERE class <= last_class
    GROUP BY ALL
)
SELECT run_label,
       ['unseen (suffix never occurs)', 'suffix occurs, after other text', 'whole sequence occurs'][last_class + 1]
           AS held_out,
       sequences::BIGINT AS sequences, memorized,
       memorized / sequences AS rate,
       ends.low AS rate_low,
       ends.high AS rate_high,
       few_documents(ends) AS few_documents,
       sequences_up_to_here, rate_up_to_here,
       ends_up_to_here.low AS rate_up_to_here_low,
       ends_up_to_here.high AS rate_up_to_here_high
FROM floors
ORDER BY non_embedding_parameters, run_label, last_class
