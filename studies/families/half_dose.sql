-- title: Copies until half of the texts are memorized
-- question: At how many copies does a model of each size memorize half of the texts?
-- note: Where the rate by planted copies first passes 50 %, interpolated linearly over log2 of the copies. The ends
--   are where the ends of the rate's 95 % interval pass 50 %. Models that never pass it are omitted; 1 means 1 copy
--   or fewer.
-- figure: points
-- x: non_embedding_parameters | Non-embedding parameters | log
-- y: copies | Copies | log
-- interval: copies_low, copies_high
-- series: architecture

SELECT g.architecture, g.size, non_embedding_parameters, copies, copies_low, copies_high
FROM grid AS g
JOIN half_doses USING (run_label)
WHERE copies IS NOT NULL
ORDER BY place, size_rank
