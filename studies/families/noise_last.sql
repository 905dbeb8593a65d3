-- title: Noise before the first layer and after the last
-- question: How near is the noised residual stream to the clean one, before the first layer and after the last?
-- note: Cosine of noised and clean residual stream, averaged over models (lowest and highest). Lost: models whose streams are
--   less alike after the last layer than before the first, so that the layers added to the noise.

WITH ends AS (
    SELECT size, size_rank, outcome, s.alpha,
           max(similarity) FILTER (layer = 0) AS first,
           max(similarity) FILTER (layer = layers) AS last
    FROM noise_similarity AS s
    JOIN grid USING (run_label)
    GROUP BY run_label, size, size_rank, outcome, s.alpha
)
SELECT size, outcome, format('{:.2f}', alpha) AS alpha,
       count(*) AS models,
       count_if(last < first)::BIGINT AS lost,
       avg(first ORDER BY first) AS before_the_first,
       avg(last ORDER BY last) AS after_the_last,
       min(last) AS after_the_last_low,
       max(last) AS after_the_last_high
FROM ends
GROUP BY size, size_rank, outcome, alpha
ORDER BY size_rank, list_position(['memorized', 'half-memorized', 'unmemorized'], outcome), alpha
