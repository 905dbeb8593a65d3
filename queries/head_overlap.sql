-- title: Do domains share their important heads?
-- question: Are the heads that memorization needs the same in every domain?
-- note: Jaccard similarity of the sets of important heads (the share top with the largest importance) of two domains, or
--   of one domain with itself on the diagonal, which is as high as it can be with so few sequences. Each domain is split
--   by document into two halves; all halves are cut to as many sequences as the smallest one of the model has
--   (sequences_a, sequences_b). Opposite halves are compared, so no document is on both sides. Two domains are compared
--   twice: jaccard is the mean, shared the smaller number of shared heads, p its chance. Two random sets would have about
--   top / (2 - top); null_low and null_high are the ends of the exact 95 % range of one comparison of random sets
--   (hypergeometric), and p is the chance that random sets share that many heads or more. Heads of equal importance are
--   ordered at random. Domains whose halves have half of least memorized sequences each. Sample as in head_importance:
--   one for all domains of a model.
-- parameter top: 0.2 | 0 to 1
-- parameter least: 20
-- optional: yes
-- figure: cells
-- x: domain_b | Domain
-- y: jaccard | Shared important heads | percent
-- series: domain_a
-- panel: run_label

WITH of_sequence AS (
    SELECT DISTINCT run_id, run_label, non_embedding_parameters, probed, coalesce(domain, 'unknown') AS domain,
           sequence_id, cluster
    FROM head_importance
    JOIN (SELECT run_id, sample AS probed FROM probes WHERE probe = 'head_importance') USING (run_id)
    JOIN memorization USING (run_id, sequence_id)
),
documents AS (
    -- A document with sequences of several domains is split with the one that has most of them.
    SELECT run_id, cluster,
           first(domain ORDER BY sequences DESC, domain) AS home,
           sum(sequences)::BIGINT AS sequences
    FROM (SELECT run_id, cluster, domain, count(*) AS sequences FROM of_sequence GROUP BY ALL)
    GROUP BY run_id, cluster
),
dealt AS (
    -- The largest documents first, each to the half that has fewer sequences.
    SELECT run_id, unnest(list_reduce(
               list({cluster: cluster, sequences: sequences} ORDER BY sequences DESC, hash(cluster), cluster),
               lambda halves, d: list_append(halves, {
                   cluster: d.cluster,
                   half: if(halves[-1].ahead > 0, 1, 0),
                   ahead: halves[-1].ahead + if(halves[-1].ahead > 0, -d.sequences, d.sequences)
               }),
               [{cluster: NULL::BIGINT, half: 0, ahead: 0::BIGINT}]
           )[2:], recursive := true)
    FROM documents
    GROUP BY run_id, home
),
in_halves AS (
    SELECT s.*, half, row_number() OVER (PARTITION BY run_id, domain, half ORDER BY hash(sequence_id), sequence_id) AS place
    FROM of_sequence AS s
    JOIN dealt USING (run_id, cluster)
),
compared AS (
    SELECT run_id, domain, min(smaller) OVER (PARTITION BY run_id) AS sequences
    FROM (
        SELECT run_id, domain, least(count_if(half = 0), count_if(half = 1))::BIGINT AS smaller
        FROM in_halves
        GROUP BY run_id, domain
    )
    WHERE smaller > 0 AND 2 * smaller >= $least
),
each_head AS (
    SELECT run_label, non_embedding_parameters, probed, domain, half, sequences, layer,
           h.continuation_length,
           unnest("right") AS still,
           unnest(range(0, len("right"))) AS head
    FROM head_importance AS h
    JOIN in_halves USING (run_id, sequence_id)
    JOIN compared USING (run_id, domain)
    WHERE place <= sequences
),
importances AS (
    SELECT run_label, non_embedding_parameters, probed, domain, half, sequences, layer, head,
           avg(1 - still / continuation_length) AS importance
    FROM each_head
    GROUP BY ALL
),
important AS (
    SELECT *, greatest(1, round($top * heads))::BIGINT AS chosen
    FROM (
        SELECT *,
               row_number() OVER (of_part ORDER BY importance DESC, hash(domain, half, layer, head)) AS rank,
               count(*) OVER of_part AS heads
        FROM importances
        WINDOW of_part AS (PARTITION BY run_label, domain, half)
    )
    WHERE rank <= greatest(1, round($top * heads))
),
comparisons AS (
    SELECT a.run_label, a.non_embedding_parameters, a.probed, a.domain AS domain_a, b.domain AS domain_b, a.half,
           any_value(a.heads) AS heads,
           any_value(a.chosen) AS chosen,
           any_value(a.sequences) AS sequences,
           count_if(a.layer = b.layer AND a.head = b.head)::BIGINT AS common
    FROM important AS a
    JOIN important AS b ON a.run_label = b.run_label AND a.half <> b.half AND (a.domain <> b.domain OR a.half = 0)
    GROUP BY ALL
),
pairs AS (
    SELECT run_label, non_embedding_parameters, probed, domain_a, domain_b, heads, chosen, sequences,
           min(common) AS shared,
           avg(common / (2 * chosen - common)) AS jaccard
    FROM comparisons
    GROUP BY ALL
),
chances AS (
    -- Of two random sets of `chosen` heads: the chance of each number of shared ones.
    SELECT *, sum(chance) OVER (PARTITION BY heads, chosen ORDER BY common) AS up_to
    FROM (
        SELECT heads, chosen, unnest(range(greatest(0, 2 * chosen - heads), chosen + 1)) AS common,
               exp(2 * lgamma(chosen + 1) + 2 * lgamma(heads - chosen + 1) - lgamma(heads + 1)
                   - lgamma(common + 1) - 2 * lgamma(chosen - common + 1) - lgamma(heads - 2 * chosen + common + 1)) AS chance
        FROM (SELECT DISTINCT heads, chosen FROM pairs)
    )
),
nulls AS (
    SELECT run_label, domain_a, domain_b,
           sum(chance * common / (2 * chosen - common)) AS null_mean,
           min(CASE WHEN up_to >= 0.025 THEN common / (2 * chosen - common) END) AS null_low,
           min(CASE WHEN up_to >= 0.975 THEN common / (2 * chosen - common) END) AS null_high,
           least(1, sum(CASE WHEN common >= shared THEN chance ELSE 0 END)) AS p
    FROM pairs
    JOIN chances USING (heads, chosen)
    GROUP BY ALL
)
SELECT run_label, domain_a, domain_b, domain_a = domain_b AS split_half,
       sequences AS sequences_a,
       sequences AS sequences_b,
       heads, chosen, shared, jaccard,
       $top / (2 - $top) AS null_jaccard,
       null_mean, null_low, null_high, p,
       probed AS sample
FROM pairs
JOIN nulls USING (run_label, domain_a, domain_b)
ORDER BY non_embedding_parameters, run_label, domain_a, domain_b
