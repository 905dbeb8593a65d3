-- title: Under the strongest noise
-- question: What do models keep and win back under the strongest noise?
-- note: Recovery as above (the peak); last: the cosine after the last layer; matched: of sequences that are alike in domain, frequency and perplexity of the prefix.
--   Whole: the share of memorized continuations that survive whole, which is the memorization rate under noise over
--   that without.

WITH recoveries AS (
    SELECT run_label, alpha, false AS is_matched, outcome, recovery, recovery_low, recovery_high, last FROM noise_recovery
    UNION ALL
    SELECT run_label, alpha, true, outcome, recovery, recovery_low, recovery_high, last FROM noise_recovery__matched
),
strongest AS (
    SELECT *
    FROM recoveries
    QUALIFY alpha = max(alpha) OVER (PARTITION BY run_label)
)
SELECT g.architecture, g.size, format('{:.2f}', s.alpha) AS alpha,
       max(recovery) FILTER (s.outcome = 'memorized' AND NOT is_matched) AS recovery_memorized,
       max(recovery_low) FILTER (s.outcome = 'memorized' AND NOT is_matched) AS recovery_memorized_low,
       max(recovery_high) FILTER (s.outcome = 'memorized' AND NOT is_matched) AS recovery_memorized_high,
       max(recovery) FILTER (s.outcome = 'unmemorized' AND NOT is_matched) AS recovery_unmemorized,
       max(recovery_low) FILTER (s.outcome = 'unmemorized' AND NOT is_matched) AS recovery_unmemorized_low,
       max(recovery_high) FILTER (s.outcome = 'unmemorized' AND NOT is_matched) AS recovery_unmemorized_high,
       max(recovery) FILTER (s.outcome = 'memorized' AND is_matched) AS matched_memorized,
       max(recovery) FILTER (s.outcome = 'unmemorized' AND is_matched) AS matched_unmemorized,
       max(last) FILTER (s.outcome = 'memorized' AND NOT is_matched) AS last_memorized,
       max(last) FILTER (s.outcome = 'unmemorized' AND NOT is_matched) AS last_unmemorized,
       max(last) FILTER (s.outcome = 'memorized' AND is_matched) AS last_matched_memorized,
       max(last) FILTER (s.outcome = 'unmemorized' AND is_matched) AS last_matched_unmemorized,
       any_value(o.whole) AS share_whole,
       any_value(o.whole_low) AS share_whole_low,
       any_value(o.whole_high) AS share_whole_high
FROM grid AS g
JOIN strongest AS s USING (run_label)
JOIN noise_output AS o ON o.run_label = g.run_label AND o.alpha = s.alpha AND o.outcome = 'memorized'
GROUP BY g.architecture, place, g.size, size_rank, s.alpha
ORDER BY place, size_rank
