-- What the queries share: tests, the models by what they are for, and fits. Run once, over a view per exported file.

-- The exact two-sided p of a sign test: the chance that n fair coins fall at least as unevenly as k to n - k. McNemar's exact
-- test is the sign test of the pairs that differ.
CREATE MACRO sign_test(k, n) AS
    least(1, 2 * list_sum(list_transform(
        range(0, least(k, n - k)::BIGINT + 1),
        lambda i: exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) - n * ln(2)))));

-- Holm's step-down correction (1979) of p among the list ps, which holds it: the largest of q times the number of values from q
-- up, over all q up to p.
CREATE MACRO holm_among(p, ps) AS
    least(1, list_max(list_transform(
        list_filter(ps, lambda q: q <= p),
        lambda q: q * len(list_filter(ps, lambda r: r >= q)))));

CREATE VIEW architectures AS
FROM (VALUES ('gpt_neox', 1), ('llama', 2), ('gpt_bigcode', 3), ('olmo', 4), ('olmo2', 5), ('olmo3', 6))
    AS t (architecture, place);

-- Which domains are code; the others are text of people.
CREATE VIEW code_domains AS FROM (VALUES ('C++'), ('Python')) AS t (domain);

-- role: size (one of the grid), checkpoint (the same training, earlier), second seed, or the control that it is.
CREATE VIEW described AS
WITH known AS (
    SELECT * EXCLUDE (seed),
           coalesce(control, CASE WHEN model_id LIKE '% (untrained)' THEN 'untrained' END) AS is_control,
           coalesce(seed, nullif(regexp_extract(model_id, 'seed[-_ ]?([0-9]+)', 1), '')::BIGINT, 0) AS seed
    FROM models
),
named AS (
    -- The size that study.toml asked for, which the names of its models hold: gpt_neox-25M, gpt_neox-25M-seed1.
    SELECT *,
           regexp_extract(model_id, '-([0-9.]+[kMB])', 1) AS size,
           regexp_extract(size, '[0-9.]+')::DOUBLE
               * CASE size[-1:] WHEN 'k' THEN 1e3 WHEN 'M' THEN 1e6 ELSE 1e9 END AS about
    FROM known
    WHERE regexp_matches(model_id, '-[0-9.]+[kMB]')
),
sized AS (SELECT * EXCLUDE (about), dense_rank() OVER (ORDER BY about) AS size_rank FROM named)
SELECT model_id AS run_label, s.*, a.place,
       CASE WHEN is_control IS NOT NULL THEN is_control
            -- Of one training the model with most tokens is the finished one; a checkpoint at the end is that one too.
            WHEN row_number() OVER (PARTITION BY architecture, size, seed, is_control
                                    ORDER BY trained_tokens DESC, length(model_id), model_id) > 1 THEN 'checkpoint'
            WHEN seed > min(seed) OVER (PARTITION BY architecture, size, is_control) THEN 'second seed'
            ELSE 'size' END AS role
FROM sized AS s
LEFT JOIN architectures AS a USING (architecture);

-- The models that figures and tables are about, where nothing else is said.
CREATE VIEW grid AS
SELECT run_label, architecture, place, size, size_rank, non_embedding_parameters, trained_tokens, layers
FROM described
WHERE role = 'size';

-- For the colours of the figures.
CREATE VIEW families AS
SELECT run_label, architecture, non_embedding_parameters, trained_tokens
FROM grid
ORDER BY place, non_embedding_parameters;

-- Copies at which each model's rate first passes one half, by linear interpolation over log2 of the copies: of the rate, and
-- of the ends of its interval.
CREATE VIEW half_doses AS
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
SELECT run_label,
       max(crossing) FILTER (part = 'middle') AS copies,
       max(crossing) FILTER (part = 'low') AS copies_low,
       max(crossing) FILTER (part = 'high') AS copies_high
FROM crossings
GROUP BY run_label;

-- How tables write p.
CREATE MACRO p_text(p) AS CASE WHEN p < 0.0001 THEN '< 0.0001' ELSE format('{:.2g}', round(p, 9)) END;

-- Each architecture's line through its rates over log10 of the parameters: one point per size, second seeds apart.
CREATE VIEW size_fits AS
WITH sums AS (
    SELECT architecture, place,
           count(*) AS sizes,
           regr_slope(rate, x ORDER BY x) AS slope,
           regr_intercept(rate, x ORDER BY x) AS intercept,
           regr_r2(rate, x ORDER BY x) AS r2,
           -- The same of a power law, which is a line through the logarithms of the rates.
           regr_r2(ln(nullif(rate, 0)), x ORDER BY x) AS r2_power_law,
           sqrt(greatest(regr_syy(rate, x ORDER BY x) - regr_sxy(rate, x ORDER BY x) ** 2 / regr_sxx(rate, x ORDER BY x), 0)
                / nullif(count(*) - 2, 0) / regr_sxx(rate, x ORDER BY x)) AS slope_error
    FROM (
        SELECT g.architecture, place, r.rate, log10(g.non_embedding_parameters) AS x
        FROM grid AS g
        JOIN rate_by_size AS r USING (run_label)
    )
    GROUP BY architecture, place
)
SELECT *,
       slope - t975(sizes - 2) * slope_error AS slope_low,
       slope + t975(sizes - 2) * slope_error AS slope_high
FROM sums;

-- Two architectures of one size on the same sequences: those that only one of the two models memorized, and McNemar's exact test.
-- The interval of the difference is by document. Second seeds are compared with their own twin (kind: seeds).
CREATE VIEW paired_models AS
WITH pairs AS (
    SELECT a.size, a.size_rank,
           CASE WHEN a.role = 'size' AND b.role = 'size' AND a.architecture <> b.architecture THEN 'architectures'
                WHEN a.role <> b.role AND a.architecture = b.architecture THEN 'seeds' END AS kind,
           a.run_label AS model_a, b.run_label AS model_b,
           a.architecture AS architecture_a, b.architecture AS architecture_b,
           a.place AS place_a, b.place AS place_b,
           jaccard,
           if(a.run_label = smaller, memorized_smaller, memorized_larger) - memorized_both AS only_a,
           if(a.run_label = smaller, memorized_larger, memorized_smaller) - memorized_both AS only_b,
           if(a.run_label = smaller, 0 - rate_difference, rate_difference) AS difference,
           if(a.run_label = smaller, 0 - rate_difference_high, rate_difference_low) AS difference_low,
           if(a.run_label = smaller, 0 - rate_difference_low, rate_difference_high) AS difference_high
    FROM overlap
    JOIN described AS a ON a.run_label IN (smaller, larger)
    JOIN described AS b ON b.run_label IN (smaller, larger)
    WHERE a.size = b.size
        AND a.role IN ('size', 'second seed') AND b.role IN ('size', 'second seed')
        AND (a.place, a.role <> 'size', a.run_label) < (b.place, b.role <> 'size', b.run_label)
),
tested AS (SELECT *, sign_test(only_a, only_a + only_b) AS p FROM pairs WHERE kind IS NOT NULL)
SELECT *, holm_among(p, list(p) OVER (PARTITION BY kind, size)) AS p_holm
FROM tested;
