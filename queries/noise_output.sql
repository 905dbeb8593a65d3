-- title: Output under noise
-- question: How much of what models generate survives noise, for memorized sequences and for others?
-- note: The share of generated tokens that are still generated, before the first other one, when noise stands in the
--   residual stream before the first layer; whole is the share of continuations that survive whole, which for memorized
--   ones is the memorization rate under noise as a share of the rate without. Averaged over draws. Others are compared
--   with their own continuations without noise, which are not text of the corpus. Groups and sample as in
--   noise_similarity. 95 % intervals by document.
-- parameter groups: drawn | matched
-- optional: yes
-- figure: line
-- x: alpha | Strength of the noise (share of the stream's root mean square)
-- y: kept | Generated tokens kept | percent
-- interval: kept_low, kept_high
-- series: outcome
-- dashes: outcome
-- panel: run_label

WITH of_sequence AS (
    SELECT run_id, probed, sequence_id, outcome, alpha,
           avg(kept / continuation_length) AS kept,
           avg((kept = continuation_length)::INTEGER) AS whole
    FROM noise
    JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'noise') USING (run_id)
    WHERE CASE WHEN $groups = 'matched' THEN pair IS NOT NULL ELSE drawn END
    GROUP BY ALL
)
SELECT run_label, outcome, alpha,
       count(*) AS sequences,
       avg(kept) AS kept,
       rate_interval(kept, cluster).low AS kept_low,
       rate_interval(kept, cluster).high AS kept_high,
       few_documents(rate_interval(kept, cluster)) AS few_documents,
       avg(whole) AS whole,
       rate_interval(whole, cluster).low AS whole_low,
       rate_interval(whole, cluster).high AS whole_high,
       probed AS sample
FROM of_sequence
JOIN memorization USING (run_id, sequence_id)
GROUP BY run_label, non_embedding_parameters, probed, outcome, alpha
ORDER BY non_embedding_parameters, run_label, outcome = 'memorized' DESC, outcome, alpha
