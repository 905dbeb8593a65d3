-- title: Copies until half of the texts are known, in numbers
-- question: In how many copies must a text stand until each model knows one in two?

WITH curves AS (
    SELECT run_label, sequence_count AS copies,
           unnest([{'part': 'middle', 'y': rate}, {'part': 'low', 'y': rate_high}, {'part': 'high', 'y': rate_low}],
                  recursive := true)
    FROM rate_by_copies
),
steps AS (
    SELECT run_label, part, copies, y,
           lag(copies) OVER curve AS copies_before,
           lag(y) OVER curve AS y_before
    FROM curves
    WINDOW curve AS (PARTITION BY run_label, part ORDER BY copies)
),
crossings AS (
    SELECT run_label, part,
           CASE WHEN copies_before > 0
                THEN 2 ** (log2(copies_before)
                           + (0.5 - y_before) / (y - y_before) * (log2(copies) - log2(copies_before)))
                ELSE copies END AS crossing
    FROM steps
    WHERE y >= 0.5 AND copies > 0
    QUALIFY row_number() OVER (PARTITION BY run_label, part ORDER BY copies) = 1
)
SELECT g.architecture, g.size,
       max(crossing) FILTER (part = 'middle') AS copies,
       max(crossing) FILTER (part = 'low') AS copies_low,
       max(crossing) FILTER (part = 'high') AS copies_high
FROM grid AS g
LEFT JOIN crossings USING (run_label)
GROUP BY g.architecture, place, g.size, size_rank, non_embedding_parameters
ORDER BY place, size_rank
