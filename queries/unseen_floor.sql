-- title: Floor on unseen text
-- question: How much does a model "memorize" of text that it can't have seen?
-- note: Held-out documents still share licences and boilerplate with the corpus, so held-out sequences are split by whether
--   the index counts them. The rate on unseen ones is the floor of every other rate. Wilson's 95 % interval.
-- figure: dots
-- x: run_label | Model
-- y: rate | Completed sequences | percent
-- interval: rate_low, rate_high
-- series: held_out

SELECT run_label,
       CASE WHEN unseen THEN 'unseen' ELSE 'seen in the corpus' END AS held_out,
       count(*) AS sequences,
       count_if(memorized)::BIGINT AS memorized,
       count_if(memorized) / count(*) AS rate,
       wilson_low(count_if(memorized), count(*)) AS rate_low,
       wilson_high(count_if(memorized), count(*)) AS rate_high
FROM memorization
WHERE sample = 'heldout' AND sequence_count IS NOT NULL
GROUP BY run_label, non_embedding_parameters, unseen
ORDER BY non_embedding_parameters, run_label, unseen DESC
