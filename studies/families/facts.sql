-- title: The study in numbers
-- question: How large is the study?

SELECT count(*) AS models,
       count(DISTINCT architecture) AS architectures,
       count(DISTINCT size) AS sizes,
       max(trained_tokens) AS trained_tokens,
       max(corpus_tokens) AS corpus_tokens,
       max(trained_tokens) / max(corpus_tokens) AS epochs,
       sum(seconds) / 60 AS minutes,
       any_value(device) AS device,
       (SELECT max(sequences) FROM rate_by_size) AS uniform_sequences,
       (SELECT count(*) FROM described WHERE role = 'checkpoint') AS checkpoints,
       (SELECT count(*) FROM described WHERE role = 'second seed') AS second_seeds
FROM described
WHERE role = 'size'
