-- title: Are memorized tokens decided earlier than others of like sequences?
-- question: In how many models are memorized tokens decided in earlier layers, by each threshold, and by how much?
-- note: Sequences that are alike in domain, frequency and perplexity of the prefix; thresholds as above. Earlier: models in which
--   memorized tokens come earlier. p: exact sign test over models of all sizes, and after Holm's correction for all thresholds.
--   Layers: memorized minus unmemorized depth times the number of layers, averaged over models of the largest size (lowest and
--   highest). Inside the margin: models of the largest size that differ by less than a tenth of a layer.

WITH differences AS (
    SELECT kind, threshold, size_rank = max(size_rank) OVER () AS largest,
           layers * (max(depth) FILTER (outcome = 'memorized') - max(depth) FILTER (outcome = 'unmemorized')) AS layers
    FROM layer_depth__matched
    JOIN grid USING (run_label)
    GROUP BY run_label, kind, threshold, size_rank, grid.layers
),
signs AS (
    SELECT kind, threshold,
           count_if(layers <> 0)::BIGINT AS models,
           count_if(layers < 0)::BIGINT AS earlier,
           avg(layers ORDER BY layers) FILTER (largest) AS layers_apart,
           min(layers) FILTER (largest) AS layers_apart_low,
           max(layers) FILTER (largest) AS layers_apart_high,
           count_if(largest AND abs(layers) < 0.1)::BIGINT AS inside_the_margin
    FROM differences
    WHERE layers IS NOT NULL
    GROUP BY kind, threshold
),
tested AS (SELECT *, sign_test(earlier, models) AS p FROM signs)
SELECT kind, format('{:.2f}', threshold) AS threshold, models, earlier,
       p_text(p) AS p,
       p_text(holm_among(p, list(p) OVER ())) AS p_corrected,
       layers_apart, layers_apart_low, layers_apart_high, inside_the_margin
FROM tested
ORDER BY kind, tested.threshold
