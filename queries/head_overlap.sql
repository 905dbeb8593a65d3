-- title: Do domains share their important heads?
-- question: Are the heads that memorization needs the same in every domain?
-- note: Jaccard similarity of the sets of important heads (the share top with the largest importance) of two domains; on
--   the diagonal of two random halves of the same domain's sequences, which is as high as it can be with so few
--   sequences. Two random sets would have about top / (2 - top); null_low and null_high are the ends of the exact 95 %
--   range of random sets (hypergeometric), and p the chance that random sets share so many heads or more. Heads of equal
--   importance are ordered at random. Domains with at least as many memorized sequences as least.
-- parameter top: 0.2 | 0 to 1
-- parameter least: 20
-- optional: yes
-- figure: cells
-- x: domain_b | Domain
-- y: jaccard | Shared important heads | percent
-- series: domain_a
-- panel: run_label

WITH of_head AS (
    SELECT run_label, non_embedding_parameters, coalesce(domain, 'unknown') AS domain, sequence_id, layer,
           row_number() OVER (PARTITION BY run_id, domain, layer ORDER BY hash(sequence_id)) % 2 AS half,
           "right", h.continuation_length
    FROM head_importance AS h
    JOIN memorization USING (run_id, sequence_id)
    WHERE run_id IN (SELECT run_id FROM probes WHERE probe = 'head_importance')
),
each_head AS (
    SELECT * EXCLUDE ("right"), unnest("right") AS still, unnest(range(0, len("right"))) AS head
    FROM of_head
),
domains AS (
    SELECT run_label, domain FROM of_head
    GROUP BY run_label, domain
    HAVING count(DISTINCT sequence_id) >= $least
),
importances AS (
    -- A part is the whole domain (2) or one of its halves (0, 1).
    SELECT run_label, non_embedding_parameters, domain, part, layer, head,
           avg(1 - still / continuation_length) AS importance,
           count(*) AS sequences
    FROM each_head
    JOIN domains USING (run_label, domain)
    CROSS JOIN (SELECT unnest([0, 1, 2]) AS part)
    WHERE part = 2 OR part = half
    GROUP BY ALL
),
important AS (
    SELECT *, greatest(1, round($top * heads))::BIGINT AS chosen
    FROM (
        SELECT *,
               row_number() OVER (of_part ORDER BY importance DESC, hash(domain, part, layer, head)) AS rank,
               count(*) OVER of_part AS heads
        FROM importances
        WINDOW of_part AS (PARTITION BY run_label, domain, part)
    )
    WHERE rank <= greatest(1, round($top * heads))
),
pairs AS (
    SELECT a.run_label, a.non_embedding_parameters, a.domain AS domain_a, b.domain AS domain_b,
           any_value(a.heads) AS heads,
           any_value(a.chosen) AS chosen,
           any_value(a.sequences) AS sequences_a,
           any_value(b.sequences) AS sequences_b,
           count_if(a.layer = b.layer AND a.head = b.head)::BIGINT AS shared
    FROM important AS a
    JOIN important AS b ON a.run_label = b.run_label
        AND CASE WHEN a.domain = b.domain THEN a.part = 0 AND b.part = 1 ELSE a.part = 2 AND b.part = 2 END
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
SELECT run_label, domain_a, domain_b, domain_a = domain_b AS split_half, sequences_a, sequences_b, heads, chosen, shared,
       shared / (2 * chosen - shared) AS jaccard,
       $top / (2 - $top) AS null_jaccard,
       null_mean, null_low, null_high, p
FROM pairs
JOIN nulls USING (run_label, domain_a, domain_b)
ORDER BY non_embedding_parameters, run_label, domain_a, domain_b
