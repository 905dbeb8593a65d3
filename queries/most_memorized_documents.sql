-- title: Most memorized documents
-- question: From which documents do the memorized sequences come?
-- note: Sequences count once however many models memorized them; imported sequences only where their document is known.
-- parameter sample: uniform
-- parameter documents: 20
-- figure: none

WITH sequences_seen AS (
    SELECT "index", shard, document, any_value(domain) AS domain, sequence_id,
           bool_or(memorized) AS memorized,
           max(sequence_count) AS sequence_count
    FROM memorization
    WHERE sample = $sample AND document IS NOT NULL
    GROUP BY "index", shard, document, sequence_id
),
ranked AS (
    SELECT "index", shard, document, any_value(domain) AS domain,
           count(*) AS sequences,
           count_if(memorized)::BIGINT AS memorized,
           median(sequence_count) AS median_count
    FROM sequences_seen
    GROUP BY "index", shard, document
    HAVING count_if(memorized) > 0
    ORDER BY memorized DESC, sequences, "index", shard, document
    LIMIT $documents
)
SELECT r."index", r.shard, r.document, r.domain, d.path, d.line, r.sequences, r.memorized, r.median_count
FROM ranked AS r
LEFT JOIN documents AS d
    ON d."index" = r."index" AND d.shard = r.shard AND d.document = r.document
ORDER BY r.memorized DESC, r.sequences, r."index", r.shard, r.document
