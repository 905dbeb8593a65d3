-- What the questions share: the models by what they are for. Run once, over a view per exported file.

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
