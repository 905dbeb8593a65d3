-- title: Compression ratios
-- question: What share of the context suffices on average?
-- note: Ratio: fewest tokens that suffice over the whole context, averaged over sequences. Half: sequences for which
--   half of the context suffices. Not monotone: sequences that some longer context spoils.

SELECT g.architecture, g.size,
       any_value(sequences) AS sequences,
       any_value(mean_ratio) AS ratio,
       any_value(mean_ratio_low) AS ratio_low,
       any_value(mean_ratio_high) AS ratio_high,
       any_value(share_half) AS share_half,
       any_value(share_half_low) AS share_half_low,
       any_value(share_half_high) AS share_half_high,
       any_value(not_monotone) AS share_not_monotone
FROM grid AS g
JOIN compression USING (run_label)
GROUP BY g.architecture, place, g.size, size_rank
ORDER BY place, size_rank
