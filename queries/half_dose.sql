-- title: Copies that memorize half of the planted texts
-- question: How many copies does a model need to memorize one of two planted texts?
-- note: The number of copies at which the rate of rate_by_copies first reaches one half, interpolated linearly over
--   log2 of the copies between two planted numbers. The interval is where the ends of the rates' 95 % intervals, by
--   text, reach one half. A NULL lies outside the planted numbers, and reached says on which side the half dose is.
--   Models of one architecture, size and number of trained tokens count as seeds: seeds_sd is the standard deviation
--   of log2 of their half doses, over the seeds that have one (seeds).
-- optional: yes
-- figure: points
-- x: non_embedding_parameters | Non-embedding parameters | log
-- y: copies | Copies that memorize half | log
-- interval: copies_low, copies_high
-- series: architecture

WITH rates AS (
    SELECT run_label, model_id, architecture, non_embedding_parameters, trained_tokens, sequence_count AS copies,
           avg(memorized::INTEGER) AS rate,
           rate_interval(memorized, cluster) AS ends
    FROM memorization
    WHERE sample = 'planted' AND sequence_count > 0
    GROUP BY ALL
),
curves AS (
    SELECT * EXCLUDE (rate, ends),
           unnest(['middle', 'low', 'high']) AS part,
           unnest([rate, ends.high, ends.low]) AS y
    FROM rates
),
steps AS (
    SELECT *, lag(copies) OVER curve AS copies_before, lag(y) OVER curve AS y_before
    FROM curves
    WINDOW curve AS (PARTITION BY run_label, part ORDER BY copies)
),
crossings AS (
    SELECT run_label, part,
           CASE WHEN y = 0.5 THEN copies
                ELSE 2 ** (log2(copies_before)
                           + (0.5 - y_before) / (y - y_before) * (log2(copies) - log2(copies_before)))
                END AS crossing
    FROM steps
    WHERE y >= 0.5
    QUALIFY row_number() OVER (PARTITION BY run_label, part ORDER BY copies) = 1
),
doses AS (
    SELECT run_label, model_id, architecture, non_embedding_parameters, trained_tokens,
           count(*) AS doses,
           max(rate) AS highest_rate,
           bool_or(few_documents(ends)) AS few_documents,
           any_value(m.crossing) AS copies,
           any_value(l.crossing) AS copies_low,
           any_value(h.crossing) AS copies_high
    FROM rates
    LEFT JOIN (FROM crossings WHERE part = 'middle') AS m USING (run_label)
    LEFT JOIN (FROM crossings WHERE part = 'low') AS l USING (run_label)
    LEFT JOIN (FROM crossings WHERE part = 'high') AS h USING (run_label)
    GROUP BY ALL
),
seeds AS (
    SELECT architecture, non_embedding_parameters, trained_tokens,
           count(dose) AS seeds,
           stddev_samp(dose) AS seeds_sd
    FROM (
        SELECT model_id, architecture, non_embedding_parameters, trained_tokens, avg(log2(copies)) AS dose
        FROM doses
        WHERE trained_tokens IS NOT NULL
        GROUP BY ALL
    )
    GROUP BY ALL
)
SELECT run_label, architecture, non_embedding_parameters, doses, copies, copies_low, copies_high,
       few_documents,
       CASE WHEN copies IS NOT NULL THEN 'between'
            WHEN highest_rate < 0.5 THEN 'above the most copies'
            ELSE 'below the fewest copies' END AS reached,
       seeds, seeds_sd
FROM doses
LEFT JOIN seeds USING (architecture, non_embedding_parameters, trained_tokens)
ORDER BY non_embedding_parameters, run_label
