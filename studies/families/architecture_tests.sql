-- title: Do architectures of one size differ?
-- question: Of how many pairs of architectures does one memorize more than the other, of the same sequences?
-- note: Pairs of models of one size. Below 0.05: McNemar's exact test on the sequences that only one of the two memorized, which
--   takes sequences as independent although those of one document are not; after Holm's correction for all pairs of the size;
--   and of those, pairs without gpt_bigcode. Intervals: pairs whose paired 95 % interval by document excludes 0, not corrected.

SELECT size,
       count(*) AS pairs,
       count_if(p < 0.05)::BIGINT AS p_below_005,
       count_if(p_holm < 0.05)::BIGINT AS corrected_below_005,
       count_if(p_holm < 0.05 AND 'gpt_bigcode' NOT IN (architecture_a, architecture_b))::BIGINT AS without_gpt_bigcode,
       count_if(difference_low > 0 OR difference_high < 0)::BIGINT AS intervals_without_0,
       max(abs(difference)) AS rate_difference_at_most
FROM paired_models
WHERE kind = 'architectures'
GROUP BY size, size_rank
ORDER BY size_rank
