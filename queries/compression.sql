-- title: Compressibility of memorized sequences
-- question: How much of its context does a model need to give a memorized continuation?
-- note: The share of the sequences that a model memorized that it still continues word for word after no more than a
--   given number of the last context tokens (the compression ratio: fewest tokens that suffice / whole context). More
--   context can hurt: not_monotone is the share of sequences where some longer context fails, and mean_steady_ratio the
--   mean when a context must work with all longer ones too. mean_ratio, share_half (ratio at most 0.5), not_monotone and
--   sequences repeat on every row of a run. Sample as in noise_similarity; of a run that an older memindex probed on
--   several samples, the first of uniform, bucket and domain is used. 95 % intervals by document. Sequences whose whole
--   context did not work when it was read again (half precision) are omitted and counted in irreproducible.
-- optional: yes
-- figure: line
-- x: ratio | Context, share of the whole
-- y: share | Memorized sequences | percent
-- interval: share_low, share_high
-- series: run_label

WITH in_samples AS (
    SELECT m.run_label, m.non_embedding_parameters, m.cluster, m.sample, p.sample AS probed,
           c.context_length, c.needed, c.needed_monotone, c.ratio, c.failures,
           list_position(['uniform', 'bucket', 'domain', 'planted', 'heldout'], m.sample) AS place
    FROM compression AS c
    JOIN (FROM probes WHERE probe = 'compression') AS p USING (run_id)
    JOIN memorization AS m USING (run_id, sequence_id)
),
measured AS (
    -- The whole context worked if and only if needed_monotone is known; a shorter one alone may still have.
    SELECT run_label, non_embedding_parameters, cluster, sample, context_length, needed_monotone,
           CASE WHEN needed_monotone IS NOT NULL THEN needed END AS needed,
           CASE WHEN needed_monotone IS NOT NULL THEN ratio END AS ratio,
           failures
    FROM in_samples
    QUALIFY probed IS NOT NULL OR place = min(place) OVER (PARTITION BY run_label)
),
of_run AS (
    SELECT run_label, non_embedding_parameters, sample, max(context_length) AS context_length,
           count(ratio) AS sequences,
           count(*) - count(ratio) AS irreproducible,
           avg(ratio) AS mean_ratio,
           mean_interval(ratio, cluster) AS ratio_ends,
           median(ratio) AS median_ratio,
           avg((ratio <= 0.5)::INTEGER) AS share_half,
           rate_interval(ratio <= 0.5, cluster) AS half_ends,
           avg(CASE WHEN ratio IS NOT NULL THEN (failures > 0)::INTEGER END) AS not_monotone,
           rate_interval(CASE WHEN ratio IS NOT NULL THEN failures > 0 END, cluster) AS monotone_ends,
           avg(needed_monotone / context_length) AS mean_steady_ratio
    FROM measured
    GROUP BY run_label, non_embedding_parameters, sample
),
lengths AS (
    SELECT run_label, unnest(range(1, context_length + 1)) AS tokens
    FROM of_run
    WHERE sequences > 0
),
curve AS (
    SELECT run_label, tokens,
           avg((needed <= tokens)::INTEGER) AS share,
           rate_interval(needed <= tokens, cluster) AS share_ends
    FROM measured
    JOIN lengths USING (run_label)
    WHERE needed IS NOT NULL
    GROUP BY run_label, tokens
)
SELECT run_label, tokens, tokens / context_length AS ratio, share,
       share_ends.low AS share_low,
       share_ends.high AS share_high,
       few_documents(share_ends) AS few_documents,
       sequences, irreproducible, mean_ratio,
       ratio_ends.low AS mean_ratio_low,
       ratio_ends.high AS mean_ratio_high,
       median_ratio, share_half,
       half_ends.low AS share_half_low,
       half_ends.high AS share_half_high,
       not_monotone,
       monotone_ends.low AS not_monotone_low,
       monotone_ends.high AS not_monotone_high,
       mean_steady_ratio,
       sample
FROM curve
JOIN of_run USING (run_label)
ORDER BY non_embedding_parameters, run_label, tokens
