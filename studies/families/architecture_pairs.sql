-- title: Pairs of architectures
-- question: How many sequences did only one of two models of one size memorize?
-- note: Only first, only second: sequences that only this one of the two memorized. Rate difference: the first model's rate minus
--   the second's, with its paired interval by document. p: McNemar's exact test, and after Holm's correction for all pairs of the
--   size. The last rows compare two seeds of one architecture.

SELECT if(kind = 'seeds', 'two seeds', size) AS size,
       if(kind = 'seeds', model_a, architecture_a) AS first,
       if(kind = 'seeds', model_b, architecture_b) AS second,
       only_a AS only_first,
       only_b AS only_second,
       difference AS rate_difference,
       difference_low AS rate_difference_low,
       difference_high AS rate_difference_high,
       p_text(p) AS p,
       p_text(p_holm) AS p_corrected
FROM paired_models
ORDER BY kind, size_rank, place_a, place_b
