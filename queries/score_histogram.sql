-- title: Distribution of memorization scores
-- question: Do models know a sequence either by heart or not at all?
-- note: The score is the share of suffix tokens that the continuation gets right. A bin holds scores from its lower end up to
--   the next one; the last holds exactly 1. The scale is logarithmic, with 0 below it. Each sample has its panel; those drawn
--   evenly over frequencies (bucket, domain) are left out, as they do not describe the corpus. The table has the shares'
--   95 % intervals by document.
-- parameter bins: 10
-- figure: line
-- x: score_from | Score
-- y: share | Sequences | percent-log
-- series: run_label
-- panel: sample

WITH scores AS (
    -- Whole numbers of matching tokens, because 0.7 as a float32 falls just short of its bin.
    SELECT run_label, non_embedding_parameters, sample, cluster,
           (round(score * coalesce(suffix_length, len(suffix)))::BIGINT * $bins) // coalesce(suffix_length, len(suffix))
               AS bin
    FROM memorization
    WHERE coalesce(suffix_length, len(suffix)) > 0 AND sample NOT IN ('bucket', 'domain')
),
documents_of_run AS (
    SELECT run_label, non_embedding_parameters, sample, cluster, count(*) AS in_document, list(bin) AS bins_of_document
    FROM scores
    GROUP BY ALL
),
counts AS (
    SELECT run_label, non_embedding_parameters, sample, bin, in_document,
           len(list_filter(bins_of_document, lambda of_sequence: of_sequence = bin)) AS in_bin
    FROM documents_of_run
    CROSS JOIN (SELECT unnest(range(0, if($bins > 0, $bins + 1, error('bins must be 1 or more')))) AS bin)
),
shares AS (
    SELECT run_label, non_embedding_parameters, sample, bin,
           sum(in_bin)::BIGINT AS sequences,
           sum(in_bin) / sum(in_document) AS share,
           ratio_interval(in_bin, in_document) AS ends
    FROM counts
    GROUP BY run_label, non_embedding_parameters, sample, bin
)
SELECT run_label, sample, bin / $bins AS score_from, sequences, share,
       ends.low AS share_low,
       ends.high AS share_high,
       few_documents(ends) AS few_documents
FROM shares
ORDER BY sample <> 'uniform', sample, non_embedding_parameters, run_label, bin
