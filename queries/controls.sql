-- title: Runs beside their controls
-- question: How much of the rate is left where nothing can have been memorized?
-- note: Shuffled suffixes: the continuation is compared with the suffix of another sequence. Untrained: the same
--   architecture with random weights. Other corpus: a model that never saw this one. Unseen: held-out sequences whose
--   suffix the index counts zero times. The excess is the run's rate minus the control's, on the same sequences. 95 %
--   intervals by document; the excess has none where no two documents differ in it.
-- parameter sample: uniform
-- optional: yes
-- figure: dots
-- x: model | Model
-- y: rate | Completed sequences | percent
-- interval: rate_low, rate_high
-- series: condition

WITH protocols AS (
    SELECT run_id, control,
           [dtype, attention, CASE WHEN retokenized THEN 'tokenized anew' END]
               || CASE WHEN decoding <> 'greedy' THEN [seed::VARCHAR, top_k::VARCHAR, temperature::VARCHAR] ELSE [] END
               AS settings,
           regexp_replace(model_id, ' \(untrained\)$', '') AS name,
           prefix_length || '+' || suffix_length || CASE WHEN decoding = 'greedy' THEN '' ELSE ' ' || decoding END
               AS protocol
    FROM runs
),
compared AS (
    SELECT name, protocol,
           name || CASE WHEN count(*) OVER (PARTITION BY name) > 1 THEN ' ' || protocol ELSE '' END AS model
    FROM protocols
    GROUP BY name, protocol
    HAVING count(control) > 0
),
marks AS (
    SELECT model, run_id, p.control, p.settings, non_embedding_parameters, sequence_id, cluster, memorized, score,
           CASE WHEN p.control IS NULL THEN CASE WHEN unseen THEN 'unseen text' ELSE 'the run' END
                ELSE replace(p.control, '-', ' ') END AS condition
    FROM memorization_runs
    JOIN protocols AS p USING (run_id)
    JOIN compared USING (name, protocol)
    WHERE sample = $sample OR (unseen AND p.control IS NULL)
),
excesses AS (
    SELECT c.run_id,
           avg(r.memorized::INTEGER - c.memorized::INTEGER) AS rate_excess,
           mean_interval(r.memorized::INTEGER - c.memorized::INTEGER, c.cluster) AS excess_ends
    FROM marks AS c
    JOIN marks AS r
        ON r.model = c.model AND r.sequence_id = c.sequence_id AND r.condition = 'the run'
        AND r.settings = c.settings
    WHERE c.control IS NOT NULL
    GROUP BY c.run_id
),
rates AS (
    SELECT model, condition, run_id,
           min(min(non_embedding_parameters)) OVER (PARTITION BY model) AS size,
           list_position(['the run', 'unseen text', 'shuffled suffixes', 'untrained'], condition) AS place,
           count(*) AS sequences,
           count_if(memorized)::BIGINT AS memorized,
           avg(memorized::INTEGER) AS rate,
           rate_interval(memorized, cluster) AS rate_ends,
           avg(score) AS mean_score,
           rate_interval(score, cluster) AS score_ends
    FROM marks
    GROUP BY model, condition, run_id
)
SELECT model, condition, run_id, sequences, memorized, rate,
       rate_ends.low AS rate_low,
       rate_ends.high AS rate_high,
       few_documents(rate_ends) AS few_documents,
       mean_score,
       score_ends.low AS mean_score_low,
       score_ends.high AS mean_score_high,
       rate_excess,
       excess_ends.low AS rate_excess_low,
       excess_ends.high AS rate_excess_high
FROM rates
LEFT JOIN excesses USING (run_id)
ORDER BY size, model, place, condition, run_id
